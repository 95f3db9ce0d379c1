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

// without names the windows in which the hostile VM is not there.
const without = ", not there"

func hostileCase(s sizes) benchCase {
	kinds := []string{ours}
	var phases []string
	for _, kind := range load.Hostilities() {
		phases = append(phases, string(kind), string(kind)+without)
	}
	return benchCase{
		Case: report.Case{
			Name: "hostile", Title: "One hostile VM", Servers: kinds, Phases: phases,
			About: fmt.Sprintf("%d VMs ask %s questions a second in all. One more comes and misbehaves for %v, and is gone for as long, in turn. "+
				"A turn of the table is %d windows of each kind.", s.quiet, plot.Number(float64(s.quietRate)), s.pairWindow, s.pairs),
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
		for _, hostility := range load.Hostilities() {
			for range b.sizes.groups {
				if err := b.pairs(of, kind, f, attacker, hostility); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// pairs measures how long the others wait, in windows with the hostile VM and without it, in turn.
func (b *bench) pairs(of string, kind serverKind, f, attacker *fleet, hostility load.Hostility) error {
	var with, alone []time.Duration
	sent := 0.0
	for pair := range b.sizes.pairs {
		for turn := range 2 {
			if (pair+turn)%2 == 0 {
				latencies, rate, err := b.window(f, attacker, hostility)
				if err != nil {
					return err
				}
				with, sent = append(with, latencies...), sent+rate/float64(b.sizes.pairs)
				continue
			}
			latencies, err := b.paced(f)
			if err != nil {
				return err
			}
			alone = append(alone, latencies...)
		}
	}
	for phase, latencies := range map[string]stats.Latency{string(hostility): stats.Latencies(with), string(hostility) + without: stats.Latencies(alone)} {
		b.report.Add(of, phase, kind.name, "p50", latencies.P50)
		b.report.Add(of, phase, kind.name, "p99", latencies.P99)
	}
	b.report.Add(of, string(hostility), kind.name, "sent", sent)
	return nil
}

// paced is how long each of the others waited in a window.
func (b *bench) paced(f *fleet) ([]time.Duration, error) {
	time.Sleep(b.lead())
	var reply load.PacedReply
	err := f.call("Paced", load.PacedArgs{VMs: b.sizes.quiet, Rate: b.sizes.quietRate, Duration: b.sizes.pairWindow}, &reply)
	return reply.Latencies, err
}

// lead is for the hostile VM to be under way.
func (b *bench) lead() time.Duration { return b.sizes.pairWindow / 5 }

// window is paced with the hostile VM there, and how much that sent, in KB/s.
func (b *bench) window(f, attacker *fleet, hostility load.Hostility) ([]time.Duration, float64, error) {
	args := load.HostileArgs{VM: b.sizes.quiet, Kind: hostility, Duration: b.sizes.pairWindow + 2*b.lead()}
	var hostile load.HostileReply
	attack := attacker.client.Go("Fleet.Hostile", args, &hostile, nil)
	latencies, err := b.paced(f)
	if err != nil {
		return nil, 0, err
	}
	if call := <-attack.Done; call.Error != nil {
		return nil, 0, attacker.failed(call.Error)
	}
	return latencies, float64(hostile.Sent) / 1e3 / args.Duration.Seconds(), nil
}
