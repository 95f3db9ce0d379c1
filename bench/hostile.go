//go:build linux

package main

import (
	"fmt"
	"net/rpc"
	"os"
	"path/filepath"
	"time"

	"vmw-cloudinit-metadata/bench/inventory"
	"vmw-cloudinit-metadata/bench/load"
	"vmw-cloudinit-metadata/bench/plot"
	"vmw-cloudinit-metadata/bench/report"
)

// without names the windows in which the hostile VM is not there.
const without = ", not there"

func hostileCase(s sizes) benchCase {
	kinds := []string{ours, floorTelnet}
	var phases []string
	for _, kind := range load.Hostilities() {
		phases = append(phases, string(kind), string(kind)+without)
	}
	return benchCase{
		Case: report.Case{
			Name: "hostile", Title: "One hostile VM", Servers: kinds, Phases: phases,
			About: fmt.Sprintf("%d VMs ask %s questions a second in all. One more comes and misbehaves for %v, and is gone for as long, %d times; "+
				"what comes first changes from time to time.", s.quiet, plot.Number(float64(s.quietRate)), s.pairWindow, s.pairs),
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
			for pair := range b.sizes.pairs {
				for turn := range 2 {
					if err := b.window(of, kind, f, attacker, hostility, (pair+turn)%2 == 0); err != nil {
						return err
					}
				}
			}
		}
		return nil
	})
}

// window measures how long the others wait, once, with or without the hostile VM.
func (b *bench) window(of string, kind serverKind, f, attacker *fleet, hostility load.Hostility, there bool) error {
	phase := string(hostility)
	lead := b.sizes.pairWindow / 5 // for it to be under way
	args := load.HostileArgs{VM: b.sizes.quiet, Kind: hostility, Duration: b.sizes.pairWindow + 2*lead}
	var hostile load.HostileReply
	var attack *rpc.Call
	if there {
		attack = attacker.client.Go("Fleet.Hostile", args, &hostile, nil)
	} else {
		phase += without
	}
	time.Sleep(lead)
	var reply load.PacedReply
	if err := f.call("Paced", load.PacedArgs{VMs: b.sizes.quiet, Rate: b.sizes.quietRate, Duration: b.sizes.pairWindow}, &reply); err != nil {
		return err
	}
	b.report.Add(of, phase, kind.name, "p50", reply.Latency.P50)
	b.report.Add(of, phase, kind.name, "p99", reply.Latency.P99)
	if attack == nil {
		return nil
	}
	if call := <-attack.Done; call.Error != nil {
		return attacker.failed(call.Error)
	}
	b.report.Add(of, phase, kind.name, "sent", float64(hostile.Sent)/1e3/args.Duration.Seconds())
	return nil
}
