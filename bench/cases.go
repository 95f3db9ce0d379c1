//go:build linux

package main

import (
	"fmt"
	"strconv"
	"time"

	"vmw-cloudinit-metadata/bench/answers"
	"vmw-cloudinit-metadata/bench/load"
	"vmw-cloudinit-metadata/bench/plot"
	"vmw-cloudinit-metadata/bench/report"
)

// sizes are how large the cases are.
type sizes struct {
	rounds                      int
	storm, stormLarge, parallel int // VMs, and how many at once
	steady                      int // VMs
	huge                        int // VMs with 1 MiB
	window                      time.Duration
	idle                        []int         // connected VMs
	settle                      time.Duration // until idle memory is read again
	connected, boots, moves     int           // of the vMotion case; moves a second
	sessions                    []int         // connected VMs in memory
	bootRate                    int           // boots a second among them
	quiet, quietRate            int           // VMs beside the hostile one, and their questions a second
	groups, pairs               int           // of a window with the hostile VM and one with a silent one, in each group
	pairWindow                  time.Duration
	files                       int // in the directory of the start case
	slow                        int // hosts that read slowly
}

func fullSizes() sizes {
	return sizes{
		rounds: 5, storm: 10_000, stormLarge: 10_000, parallel: 256, steady: 1000, huge: 100, window: 5 * time.Second,
		idle: []int{5000, 10_000, 19_000}, settle: 150 * time.Second, connected: 15_000, boots: 2000, moves: 200,
		sessions: []int{10_000, 40_000, 100_000}, bootRate: 1000,
		quiet: 500, quietRate: 2000, groups: 5, pairs: 12, pairWindow: time.Second, files: 40_000, slow: 20,
	}
}

// smallSizes are for CI: all is tried, little is said by the figures.
func smallSizes() sizes {
	return sizes{
		rounds: 1, storm: 1000, stormLarge: 300, parallel: 64, steady: 500, huge: 10, window: 500 * time.Millisecond,
		idle: []int{500, 1000, 2000}, settle: 22 * time.Second, connected: 1000, boots: 200, moves: 100,
		sessions: []int{1000, 4000}, bootRate: 500,
		quiet: 50, quietRate: 500, groups: 1, pairs: 3, pairWindow: 300 * time.Millisecond, files: 2000, slow: 3,
	}
}

// The sizes of user-data that the cases use.
const (
	smallUserData = 1 << 10
	largeUserData = 64 << 10
	hugeUserData  = 1 << 20
)

// benchCase is one case: how it is shown, and how it is measured.
type benchCase struct {
	report.Case
	run func(b *bench, of string) error
}

func rate(unit string) report.Column {
	return report.Column{Metric: "rate", Unit: unit, Ratio: true, Chart: true}
}

// costs are the columns that every case of a load has.
func costs(of string) []report.Column {
	return []report.Column{
		{Metric: "p50", Unit: "p50 ms"}, {Metric: "p99", Unit: "p99 ms", Ratio: true},
		{Metric: "cpu", Unit: "server's CPU µs/" + of, Ratio: true, Chart: true},
		{Metric: "load", Unit: "load's CPU µs/" + of},
	}
}

// cases are all of them, in the order of the report.
func cases(s sizes) []benchCase {
	first, again := "first sight", "again"
	storm := func(name, title, about string, userData, vms int, secure bool, kinds ...string) benchCase {
		return benchCase{
			Case: report.Case{
				Name: name, Title: title, About: about, Phases: []string{first, again}, Servers: kinds,
				Columns: append([]report.Column{rate("VMs/s")}, costs("VM")...),
			},
			run: func(b *bench, of string) error {
				return b.storms(of, kinds, userData, vms, secure, first, again)
			},
		}
	}
	steady := func(name, title, about string, userData, vms int, question []answers.Question, kinds ...string) benchCase {
		return benchCase{
			Case: report.Case{
				Name: name, Title: title, About: about, Servers: kinds,
				Columns: append([]report.Column{rate("answers/s")}, costs("answer")...),
			},
			run: func(b *bench, of string) error { return b.steady(of, kinds, userData, vms, question) },
		}
	}
	all := []answers.Question{answers.MetaData, answers.NetworkData, answers.UserData}
	plain := []string{ours, floorTelnet, floorLines, floorEpoll, floorEpoll2}
	const stormAbout = "%s VMs connect%s, %d at once, say who they are, ask for all three documents, and stay. Each VM has a file of its own. " +
		"“First sight” is a server that was just started, “again” the same storm on the same server once the VMs are gone."
	return []benchCase{
		storm("storm", "Boot storm, 1 KiB of user-data", fmt.Sprintf(stormAbout, plot.Number(float64(s.storm)), "", s.parallel),
			smallUserData, s.storm, false, plain...),
		storm("storm-64k", "Boot storm, 64 KiB of user-data", fmt.Sprintf(stormAbout, plot.Number(float64(s.stormLarge)), "", s.parallel),
			largeUserData, s.stormLarge, false, plain...),
		steady("steady", "Questions without end, 1 KiB of user-data",
			fmt.Sprintf("%s connected VMs ask for the three documents in turn, as fast as they are answered.", plot.Number(float64(s.steady))),
			smallUserData, s.steady, all, plain...),
		steady("huge", "Answers of 1 MiB",
			fmt.Sprintf("%d connected VMs ask for user-data of 1 MiB, as fast as it comes; on the line that is 1.4 MB.", s.huge),
			hugeUserData, s.huge, []answers.Question{answers.UserData}, plain...),
		storm("storm-tls", "Boot storm over TLS", fmt.Sprintf(stormAbout, plot.Number(float64(s.storm)), " with TLS", s.parallel)+
			" The floors are crypto/tls servers.", smallUserData, s.storm, true, ours, floorTelnet, floorLines),
		idleCase(s, "idle", "Memory of idle VMs", "", s.idle, false, ours, floorTelnet, floorLines, floorEpoll),
		idleCase(s, "idle-tls", "Memory of idle VMs over TLS", " with TLS", s.idle[:1], true, ours, floorTelnet),
		sessionsCase(s), moveCase(s), sessionMovesCase(s), slowCase(s), hostileCase(s), startCase(s),
	}
}

func idleCase(s sizes, name, title, how string, steps []int, secure bool, kinds ...string) benchCase {
	return benchCase{
		Case: report.Case{
			Name: name, Title: title, Axis: "connected VMs", Servers: kinds,
			About: fmt.Sprintf("VMs connect%s, say who they are, and stay silent. The figures are the process's proportional set size (PSS), less "+
				"what it was with no VM; the last line is %s later. The kernel's figure is the growth of all its objects, for both ends of the "+
				"connection.", how, s.settle),
			Columns: []report.Column{
				{Metric: "per-vm", Unit: "KiB/VM", Ratio: true}, {Metric: "pss", Unit: "MiB in all", Line: true},
				{Metric: "kernel", Unit: "kernel's KiB/VM"},
			},
		},
		run: func(b *bench, of string) error { return b.idle(of, kinds, steps, secure) },
	}
}

func sessionsCase(s sizes) benchCase {
	return benchCase{
		Case: report.Case{
			Name: "sessions", Title: "Sessions without a kernel", Axis: "connected VMs", Servers: []string{ours},
			About: "The server with its load in one process, over connections in memory. VMs say who they are, and are silent; their hosts' ends are gone " +
				"when memory is read. “Ours” is without the connection and the descriptor of its goroutine, which have a column of their own, as the goroutine's " +
				"stack has: a silent TCP connection has no goroutine. The file driver and the server keep what is more once a VM has asked.",
			Columns: []report.Column{
				{Metric: "heap", Unit: "ours, B/VM", Line: true}, {Metric: "asked", Unit: "more once it has asked, B"},
				{Metric: "connection", Unit: "connection, B"}, {Metric: "stack", Unit: "stack, B"},
				{Metric: "pss", Unit: "process in all, MiB"}, {Metric: "cycle", Unit: "CPU ms/collection of garbage"},
			},
		},
		run: func(b *bench, of string) error { return b.sessions(of, s.sessions, b.sessionsMemory) },
	}
}

func sessionMovesCase(s sizes) benchCase {
	return benchCase{
		Case: report.Case{
			Name: "sessions-vmotion", Title: "vMotion among sessions without a kernel", Servers: []string{ours},
			About: fmt.Sprintf("As many VMs as in “Sessions without a kernel”. %d a second move, as in the vMotion case, while nobody boots, or %s others a "+
				"second. Garbage is collected of both ends at once, but nearly all that lives is the server's. A pause is when the whole process stands "+
				"still for that.", s.moves, plot.Number(float64(s.bootRate))),
			Columns: []report.Column{
				{Metric: "moves", Unit: "moves"}, {Metric: "lost", Unit: "lost"},
				{Metric: "p50", Unit: "p50 ms"}, {Metric: "p99", Unit: "p99 ms", Chart: true}, {Metric: "max", Unit: "max ms"},
				{Metric: "boots", Unit: "boots/s"}, {Metric: "cycles", Unit: "collections"},
				{Metric: "pause-p99", Unit: "pause, p99 ms"}, {Metric: "pause-max", Unit: "pause, max ms"},
				{Metric: "share", Unit: "% of CPU for collecting"},
			},
		},
		run: func(b *bench, of string) error { return b.sessions(of, s.sessions, b.sessionsMoves) },
	}
}

func moveCase(s sizes) benchCase {
	kinds := []string{ours, floorTelnet}
	return benchCase{
		Case: report.Case{
			Name: "vmotion", Title: "vMotion while others boot", Servers: kinds,
			About: fmt.Sprintf("%s VMs are connected, %d a second move to another host, every other one with an answer under way. The times are "+
				"from BEGIN to GOAHEAD as the host sees it. In the second phase %s others boot meanwhile, over and over, %d at once. "+
				"Lost is a move that fails, or that loses or doubles a byte.",
				plot.Number(float64(s.connected)), s.moves, plot.Number(float64(s.boots)), s.parallel),
			Columns: []report.Column{
				{Metric: "moves", Unit: "moves"}, {Metric: "lost", Unit: "lost"}, {Metric: "p50", Unit: "p50 ms"},
				{Metric: "p99", Unit: "p99 ms", Ratio: true, Chart: true}, {Metric: "max", Unit: "max ms"},
				{Metric: "downtime", Unit: "to COMPLETE, p99 ms"}, {Metric: "boots", Unit: "boots/s", Ratio: true},
			},
		},
		run: func(b *bench, of string) error { return b.moves(of, kinds) },
	}
}

func slowCase(s sizes) benchCase {
	kinds := []string{ours, floorTelnet}
	return benchCase{
		Case: report.Case{
			Name: "slow", Title: "GOAHEAD behind a long answer", Servers: kinds,
			About: fmt.Sprintf("%d VMs, whose hosts read no faster than a serial line (%d bytes a second) into a small receive buffer, have an answer of "+
				"1 MiB under way when they are to move. The times are from BEGIN to GOAHEAD; a host gives up after 5 s.", s.slow, lineRate),
			Columns: []report.Column{{Metric: "p50", Unit: "p50 ms"}, {Metric: "max", Unit: "max ms"}},
		},
		run: func(b *bench, of string) error { return b.slow(of, kinds) },
	}
}

func startCase(s sizes) benchCase {
	kinds := []string{ours, floorLines}
	return benchCase{
		Case: report.Case{
			Name: "start", Title: "From start to listening", Servers: kinds,
			About: fmt.Sprintf("From exec until the first connection is taken, with an empty directory and with one of %s files.",
				plot.Number(float64(s.files))),
			Columns: []report.Column{{Metric: "start", Unit: "ms", Chart: true}},
		},
		run: func(b *bench, of string) error { return b.start(of, kinds) },
	}
}

const (
	// lineRate is what a guest's UART takes at 115,200 baud.
	lineRate = 11_520
)

// goals are what the project's own server is to reach.
func goals(s sizes) []report.Goal {
	most := func(of, phase, metric string, figure float64) report.Goal {
		return report.Goal{Case: of, Phase: phase, Metric: metric, Most: figure}
	}
	least := func(of, phase, against string, factor float64) report.Goal {
		return report.Goal{Case: of, Phase: phase, Metric: "rate", Against: against, Least: factor}
	}
	largest := strconv.Itoa(s.idle[len(s.idle)-1])
	all := []report.Goal{
		least("storm", "first sight", floorTelnet, 0.9), least("storm", "again", floorTelnet, 1),
		{Case: "storm", Phase: "first sight", Metric: "p99", Against: floorTelnet, Most: 2},
		{Case: "storm", Phase: "again", Metric: "p99", Against: floorTelnet, Most: 2},
		least("storm-64k", "first sight", floorTelnet, 0.9), least("storm-64k", "again", floorTelnet, 0.9),
		least("steady", steadyPhase, floorTelnet, 0.9), least("steady", steadyPhase, floorLines, 0.9),
		least("huge", steadyPhase, floorTelnet, 0.9), least("huge", steadyPhase, floorLines, 0.9),
		least("storm-tls", "first sight", floorTelnet, 0.9), least("storm-tls", "again", floorTelnet, 0.9),
		most("idle", largest, "per-vm", 4), most("idle", largest+settled, "per-vm", 4),
		most("vmotion", bootingPhase, "p99", 50), most("vmotion", bootingPhase, "lost", 0.5),
		most("slow", slowPhase, "max", 1000), most("start", filesPhase, "start", 500),
	}
	few, many := strconv.Itoa(s.sessions[0]), strconv.Itoa(s.sessions[len(s.sessions)-1])
	all = append(all,
		report.Goal{Case: "sessions", Phase: many, Metric: "heap", Against: ours, AgainstPhase: few, Most: 1.1},
		most("sessions-vmotion", many+", "+bootingPhase, "p99", 50), most("sessions-vmotion", many+", "+bootingPhase, "lost", 0.5))
	for _, kind := range load.Hostilities() {
		all = append(all, report.Goal{Case: "hostile", Phase: string(kind), Metric: "p99", Against: ours, AgainstPhase: string(kind) + instead, Most: 1.05})
	}
	return all
}
