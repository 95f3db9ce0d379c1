//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"vmw-cloudinit-metadata/bench/inventory"
	"vmw-cloudinit-metadata/bench/load"
	"vmw-cloudinit-metadata/bench/plot"
	"vmw-cloudinit-metadata/bench/report"
	"vmw-cloudinit-metadata/bench/stats"
)

// instead names the windows in which a VM that says nothing is there instead of the hostile one.
const instead = ", a silent one instead"

func hostileCase(s sizes) benchCase {
	kinds := []string{ours}
	var phases []string
	for _, kind := range load.Hostilities() {
		phases = append(phases, string(kind), string(kind)+instead)
	}
	return benchCase{
		Case: report.Case{
			Name: "hostile", Title: "One hostile VM", Servers: kinds, Phases: phases,
			About: fmt.Sprintf("%d VMs ask %s questions a second in all. One more comes and misbehaves for %v, and one that says nothing "+
				"comes for as long, in turn. A turn of the table is %d windows of each kind, and its figure is the middle one of theirs: a pause of anything "+
				"on the machine makes a window's p99 several times as long. Where the one that comes says nothing either, it shows how much the figures differ by themselves.",
				s.quiet, plot.Number(float64(s.quietRate)), s.pairWindow, s.pairs),
			Columns: []report.Column{
				{Metric: "p50", Unit: "p50 ms"}, {Metric: "p99", Unit: "p99 ms", Chart: true}, {Metric: "sent", Unit: "hostile KB/s"},
			},
		},
		run: func(b *bench, of string) error { return b.hostile(of, kinds) },
	}
}

// hostile has the hostile VM in a load process of its own.
func (b *bench) hostile(of string, names []string) error {
	conf, err := b.prepare(b.vmsWith(smallUserData), smallUserData)
	if err != nil {
		return err
	}
	// The hostile VM is one more than the others, and has more to ask for.
	conf.files = filepath.Join(b.work, "hostile")
	if err := inventory.Write(conf.files, b.sizes.quiet, smallUserData); err != nil {
		return err
	}
	file := filepath.Join(conf.files, inventory.Name(b.sizes.quiet)+".yaml")
	if err := os.WriteFile(file, inventory.File(b.sizes.quiet, inventory.UserData(hugeUserData)), 0o644); err != nil {
		return err
	}
	return b.turns(of, names, 1, conf, false, func(kind serverKind, s *server, f *fleet) error {
		attacker, err := b.startLoad(b.loadConf(kind, conf, s, false))
		if err != nil {
			return err
		}
		defer attacker.stop()
		if _, err := f.storm(load.StormArgs{Count: b.sizes.quiet, Parallel: b.sizes.parallel, Ask: true}); err != nil {
			return err
		}
		for range b.sizes.groups {
			for _, hostility := range load.Hostilities() {
				if err := b.pairs(of, kind, f, attacker, hostility); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// pairs measures how long the others wait, in windows with the hostile VM and with a silent one, in turn.
func (b *bench) pairs(of string, kind serverKind, f, attacker *fleet, hostility load.Hostility) error {
	var with, silent windows
	sent := 0.0
	for pair := range b.sizes.pairs {
		for turn := range 2 {
			if (pair+turn)%2 == 0 {
				rate, err := b.window(f, attacker, hostility, &with)
				if err != nil {
					return err
				}
				sent += rate / float64(b.sizes.pairs)
				continue
			}
			if _, err := b.window(f, attacker, load.Silent, &silent); err != nil {
				return err
			}
		}
	}
	for phase, w := range map[string]windows{string(hostility): with, string(hostility) + instead: silent} {
		b.report.Add(of, phase, kind.name, "p50", stats.Median(w.p50))
		b.report.Add(of, phase, kind.name, "p99", stats.Median(w.p99))
	}
	b.report.Add(of, string(hostility), kind.name, "sent", sent)
	return nil
}

// windows has the percentiles of each, in milliseconds.
type windows struct{ p50, p99 []float64 }

func (w *windows) add(latencies []time.Duration) {
	latency := stats.Latencies(latencies)
	w.p50, w.p99 = append(w.p50, latency.P50), append(w.p99, latency.P99)
}

// window notes how long the others wait while a VM of a kind is there, and returns how much that sent, in KB/s.
func (b *bench) window(f, attacker *fleet, hostility load.Hostility, w *windows) (float64, error) {
	lead := b.sizes.pairWindow / 5 // for it to be under way
	args := load.HostileArgs{VM: b.sizes.quiet, Kind: hostility, Duration: b.sizes.pairWindow + 2*lead}
	var hostile load.HostileReply
	attack := attacker.client.Go("Fleet.Hostile", args, &hostile, nil)
	time.Sleep(lead)
	var reply load.PacedReply
	if err := f.call("Paced", load.PacedArgs{VMs: b.sizes.quiet, Rate: b.sizes.quietRate, Duration: b.sizes.pairWindow}, &reply); err != nil {
		return 0, err
	}
	w.add(reply.Latencies)
	if call := <-attack.Done; call.Error != nil {
		return 0, attacker.failed(call.Error)
	}
	return float64(hostile.Sent) / 1e3 / args.Duration.Seconds(), nil
}
