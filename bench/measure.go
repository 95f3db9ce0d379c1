//go:build linux

package main

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"vmw-cloudinit-metadata/bench/answers"
	"vmw-cloudinit-metadata/bench/load"
	"vmw-cloudinit-metadata/bench/sessions"
	"vmw-cloudinit-metadata/bench/stats"
)

// The phases of the cases that have one or two.
const (
	steadyPhase  = "steady"
	quietPhase   = "nobody boots"
	bootingPhase = "others boot"
	slowPhase    = "1 MiB under way"
	emptyPhase   = "no files"
	filesPhase   = "many files"
	settled      = ", later"
)

func (b *bench) storms(of string, names []string, userDataSize, vms int, secure bool, phases ...string) error {
	conf, err := b.prepare(b.vmsWith(userDataSize), userDataSize)
	if err != nil {
		return err
	}
	conf.tls = secure
	return b.turns(of, names, b.sizes.rounds, conf, false, func(kind serverKind, s *server, f *fleet) error {
		for _, phase := range phases {
			err := b.charge(of, phase, kind, s, func() (int, time.Duration, error) {
				reply, err := f.storm(load.StormArgs{Count: vms, Parallel: b.sizes.parallel, Ask: true})
				if err != nil {
					return 0, 0, err
				}
				b.report.Add(of, phase, kind.name, "rate", float64(vms)/reply.Elapsed.Seconds())
				b.report.Add(of, phase, kind.name, "p50", reply.Latency.P50)
				b.report.Add(of, phase, kind.name, "p99", reply.Latency.P99)
				return vms, reply.CPU, nil
			})
			if err != nil {
				return err
			}
			if err := f.disconnect(); err != nil {
				return err
			}
			time.Sleep(b.sizes.window / 10) // for the server to see it
		}
		return nil
	})
}

// vmsWith is how many VMs have files with so much user-data: enough for each case that uses them.
func (b *bench) vmsWith(userDataSize int) int {
	switch userDataSize {
	case smallUserData:
		return max(b.sizes.files, b.sizes.storm, b.sizes.connected, slices.Max(b.sizes.idle))
	case largeUserData:
		return b.sizes.stormLarge
	}
	return max(b.sizes.huge, b.sizes.slow, 2)
}

func (b *bench) steady(of string, names []string, userDataSize, vms int, questions []answers.Question) error {
	conf, err := b.prepare(b.vmsWith(userDataSize), userDataSize)
	if err != nil {
		return err
	}
	return b.turns(of, names, b.sizes.rounds, conf, userDataSize == hugeUserData, func(kind serverKind, s *server, f *fleet) error {
		if _, err := f.storm(load.StormArgs{Count: vms, Parallel: b.sizes.parallel, Ask: true}); err != nil {
			return err
		}
		args := load.SteadyArgs{VMs: vms, Duration: b.sizes.window / 5, Questions: questions}
		if _, err := f.steady(args); err != nil {
			return err
		}
		args.Duration = b.sizes.window
		return b.charge(of, steadyPhase, kind, s, func() (int, time.Duration, error) {
			reply, err := f.steady(args)
			if err != nil {
				return 0, 0, err
			}
			b.report.Add(of, steadyPhase, kind.name, "rate", float64(reply.Answers)/reply.Elapsed.Seconds())
			b.report.Add(of, steadyPhase, kind.name, "p50", reply.Latency.P50)
			b.report.Add(of, steadyPhase, kind.name, "p99", reply.Latency.P99)
			return reply.Answers, reply.CPU, nil
		})
	})
}

// idle has all servers run at once: silent VMs take nothing from each other but memory, and the wait is long.
func (b *bench) idle(of string, names []string, steps []int, secure bool) error {
	conf, err := b.prepare(b.vmsWith(smallUserData), smallUserData)
	if err != nil {
		return err
	}
	conf.tls = secure
	type one struct {
		kind   serverKind
		server *server
		fleet  *fleet
		empty  float64 // bytes
	}
	for round := range min(b.sizes.rounds, 2) {
		err := func() error {
			var all []*one
			defer func() {
				for _, o := range all {
					o.fleet.stop()
					o.server.stop()
				}
			}()
			for _, kind := range b.selected(names) {
				server, fleet, err := b.launch(kind, conf, false)
				if err != nil {
					return err
				}
				o := &one{kind: kind, server: server, fleet: fleet}
				all = append(all, o)
				if o.empty, err = server.memory(); err != nil {
					return err
				}
			}
			note := func(o *one, phase string, vms int) error {
				pss, err := o.server.memory()
				if err != nil {
					return o.server.failed(err)
				}
				b.report.Add(of, phase, o.kind.name, "pss", pss/(1<<20))
				b.report.Add(of, phase, o.kind.name, "per-vm", (pss-o.empty)/1024/float64(vms))
				return nil
			}
			connected := 0
			for _, vms := range steps {
				for _, o := range all {
					before, err := slab()
					if err != nil {
						return err
					}
					if _, err := o.fleet.storm(load.StormArgs{From: connected, Count: vms - connected, Parallel: b.sizes.parallel}); err != nil {
						return o.server.failed(err)
					}
					time.Sleep(b.sizes.window / 2) // identities come behind the proxy's consent
					after, err := slab()
					if err != nil {
						return err
					}
					b.report.Add(of, strconv.Itoa(vms), o.kind.name, "kernel", (after-before)/1024/float64(vms-connected))
					if err := note(o, strconv.Itoa(vms), vms); err != nil {
						return err
					}
				}
				connected = vms
			}
			time.Sleep(b.sizes.settle)
			for _, o := range all {
				if err := note(o, strconv.Itoa(connected)+settled, connected); err != nil {
					return err
				}
			}
			return nil
		}()
		if err != nil {
			return err
		}
		b.progress("%s: %d of %d", of, round+1, min(b.sizes.rounds, 2))
	}
	return nil
}

// sessions runs measure in turn for each number of VMs, each in a process of its own where so many are connected.
func (b *bench) sessions(of string, counts []int, measure func(of string, vms int, w *worker, connected sessions.ConnectReply) error) error {
	if len(b.selected([]string{ours})) == 0 {
		return nil
	}
	conf, err := b.prepare(b.vmsWith(smallUserData), smallUserData)
	if err != nil {
		return err
	}
	rounds := min(b.sizes.rounds, 2)
	for round := range rounds {
		for _, vms := range counts {
			err := func() error {
				w, err := b.startWorker("sessions", "Sessions")
				if err != nil {
					return err
				}
				defer w.stop()
				args := sessions.Config{Files: conf.files, Answers: conf.answers, VMs: vms}
				if err := w.call("Start", args, &load.Nothing{}); err != nil {
					return err
				}
				var reply sessions.ConnectReply
				if err := w.call("Connect", sessions.ConnectArgs{VMs: vms, Parallel: b.sizes.parallel}, &reply); err != nil {
					return err
				}
				return measure(of, vms, w, reply)
			}()
			if err != nil {
				return err
			}
			b.progress("%s: %d of %d, %d VMs", of, round+1, rounds, vms)
		}
	}
	return nil
}

func (b *bench) sessionsMemory(of string, vms int, w *worker, connected sessions.ConnectReply) error {
	pss, err := w.memory()
	if err != nil {
		return err
	}
	var asked sessions.AskReply
	if err := w.call("Ask", sessions.AskArgs{VMs: b.sizes.boots, Parallel: b.sizes.parallel}, &asked); err != nil {
		return err
	}
	connection, err := b.bareConnection(vms)
	if err != nil {
		return err
	}
	for metric, value := range map[string]float64{
		"heap": connected.Heap - connection, "asked": asked.Heap, "connection": connection, "stack": connected.Stacks,
		"pss": pss / (1 << 20), "cycle": stats.Milliseconds(connected.Cycle),
	} {
		b.report.Add(of, strconv.Itoa(vms), ours, metric, value)
	}
	return nil
}

// bareConnection is what each of so many connections in memory takes of the heap, in bytes.
func (b *bench) bareConnection(count int) (each float64, err error) {
	w, err := b.startWorker("sessions", "Sessions")
	if err != nil {
		return 0, err
	}
	defer w.stop()
	err = w.call("Bare", count, &each)
	return each, err
}

func (b *bench) sessionsMoves(of string, vms int, w *worker, _ sessions.ConnectReply) error {
	s := b.sizes
	for _, boots := range []int{0, s.boots} {
		phase := strconv.Itoa(vms) + ", " + quietPhase
		if boots > 0 {
			phase = strconv.Itoa(vms) + ", " + bootingPhase
		}
		var reply sessions.MovesReply
		err := w.call("Moves", load.MovesArgs{
			From: s.boots, Count: s.boots, Rate: s.moves, Duration: 2 * s.window,
			BootCount: boots, BootsParallel: s.parallel, BootRate: s.bootRate,
		}, &reply)
		if err != nil {
			return err
		}
		b.noteMoves(of, phase, ours, reply.MovesReply)
		for metric, value := range map[string]float64{
			"cycles": float64(reply.Cycles), "pause-p99": stats.Milliseconds(reply.PauseP99),
			"pause-max": stats.Milliseconds(reply.PauseMax), "share": reply.Share,
		} {
			b.report.Add(of, phase, ours, metric, value)
		}
	}
	return nil
}

func (b *bench) moves(of string, names []string) error {
	conf, err := b.prepare(b.vmsWith(smallUserData), smallUserData)
	if err != nil {
		return err
	}
	return b.turns(of, names, b.sizes.rounds, conf, false, func(kind serverKind, _ *server, f *fleet) error {
		s := b.sizes
		if _, err := f.storm(load.StormArgs{Count: s.connected, Parallel: s.parallel, Ask: true}); err != nil {
			return err
		}
		for _, boots := range []int{0, s.boots} {
			phase := quietPhase
			if boots > 0 {
				phase = bootingPhase
			}
			var reply load.MovesReply
			err := f.call("Moves", load.MovesArgs{
				From: s.boots, Count: s.connected - s.boots, Rate: s.moves, Duration: 2 * s.window,
				BootCount: boots, BootsParallel: s.parallel,
			}, &reply)
			if err != nil {
				return err
			}
			b.noteMoves(of, phase, kind.name, reply)
		}
		return nil
	})
}

func (b *bench) noteMoves(of, phase, server string, reply load.MovesReply) {
	if reply.Lost > 0 {
		b.progress("%s: %d of %d moves lost: %s", server, reply.Lost, reply.Begun, reply.FirstLoss)
	}
	if reply.Late > 0 {
		b.progress("%s: the load was late for %d of %d moves", server, reply.Late, reply.Begun)
	}
	for metric, value := range map[string]float64{
		"moves": float64(reply.Begun), "lost": float64(reply.Lost), "p50": reply.GoAhead.P50, "p99": reply.GoAhead.P99,
		"max": reply.GoAhead.Max, "downtime": reply.Downtime.P99,
		"boots": float64(reply.Boots) / (2 * b.sizes.window).Seconds(),
	} {
		b.report.Add(of, phase, server, metric, value)
	}
}

func (b *bench) slow(of string, names []string) error {
	conf, err := b.prepare(b.vmsWith(hugeUserData), hugeUserData)
	if err != nil {
		return err
	}
	return b.turns(of, names, min(b.sizes.rounds, 3), conf, true, func(kind serverKind, _ *server, f *fleet) error {
		var reply load.SlowReply
		if err := f.call("Slow", load.SlowArgs{VMs: b.sizes.slow, Rate: lineRate, After: lineRate}, &reply); err != nil {
			return err
		}
		b.report.Add(of, slowPhase, kind.name, "p50", reply.GoAhead.P50)
		b.report.Add(of, slowPhase, kind.name, "max", reply.GoAhead.Max)
		return nil
	})
}

func (b *bench) start(of string, names []string) error {
	conf, err := b.prepare(b.vmsWith(smallUserData), smallUserData)
	if err != nil {
		return err
	}
	empty := conf
	empty.files = filepath.Join(b.work, "empty")
	if err := os.MkdirAll(empty.files, 0o755); err != nil {
		return err
	}
	for round := range b.sizes.rounds {
		for _, kind := range b.selected(names) {
			for _, with := range []struct {
				phase string
				conf  serverConf
			}{{emptyPhase, empty}, {filesPhase, conf}} {
				server, err := b.startServer(kind, with.conf)
				if err != nil {
					return err
				}
				server.stop()
				b.report.Add(of, with.phase, kind.name, "start", stats.Milliseconds(server.ready))
			}
		}
		b.progress("%s: %d of %d", of, round+1, b.sizes.rounds)
	}
	return nil
}
