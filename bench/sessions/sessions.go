//go:build linux

// Package sessions runs the server and its load in one process, over connections that the kernel knows nothing of: for
// more sessions than a process may have open files, and to see what they cost the server alone.
package sessions

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime"
	"time"

	"vmw-cloudinit-metadata/bench/load"
	"vmw-cloudinit-metadata/bench/pipe"
	"vmw-cloudinit-metadata/driver/file"
	"vmw-cloudinit-metadata/internal/server"
)

// Sessions is the process. Its exported methods have the shape that net/rpc asks for; one is called at a time.
type Sessions struct {
	server *server.Server
	fleet  load.Fleet
	empty  memory // with no VM
	vms    int    // that are connected
}

// Config says what the server answers with.
type Config struct {
	// Files is the directory of the VMs' files, for the file driver.
	Files string
	// Answers is the directory of the answers to expect, as load.Config has it.
	Answers string
	// VMs is how many there will be at most.
	VMs int
}

// uri is the ports' service URI.
const uri = "bench"

// patience is how long an answer may take, and how long the server may take to know all VMs.
const patience = 20 * time.Second

// Start starts the server, with no VM. It comes first.
func (s *Sessions) Start(conf Config, _ *load.Nothing) error {
	driver, err := file.New(file.Config{Directory: conf.Files})
	if err != nil {
		return err
	}
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	s.server, err = server.New(server.Config{Services: []server.Service{{URI: uri, Driver: driver}}, Logger: logger})
	if err != nil {
		return err
	}
	listener := pipe.Listen()
	go func() {
		if err := s.server.Serve(context.Background(), listener); err != nil {
			logger.Error("the server does not serve any more", "error", err)
		}
	}()
	err = s.fleet.Configure(load.Config{
		Hosts: true, URI: uri, Answers: conf.Answers, Patience: patience, VMs: conf.VMs, Dial: listener.Dial,
	}, &load.Nothing{})
	if err != nil {
		return err
	}
	s.empty = settledMemory()
	return nil
}

// ConnectArgs says how many VMs there are to be in all, and how many come at once.
type ConnectArgs struct{ VMs, Parallel int }

// ConnectReply is what the silent VMs cost the server, in bytes for each: on the heap, with the connection itself and the
// descriptor of its goroutine; and in goroutines' stacks. A collection of garbage takes Cycle of the processor then.
type ConnectReply struct {
	Heap, Stacks float64
	Cycle        time.Duration
}

// Connect connects VMs that say who they are, and are silent.
func (s *Sessions) Connect(args ConnectArgs, reply *ConnectReply) error {
	// In small lots, so that few goroutines of the hosts' are there at once: the runtime keeps what described them.
	for s.vms < args.VMs {
		lot := min(args.Parallel, args.VMs-s.vms)
		if err := s.silence(load.StormArgs{From: s.vms, Count: lot, Parallel: lot}); err != nil {
			return err
		}
	}
	m := settledMemory()
	reply.Heap, reply.Stacks = m.over(s.empty, s.vms)
	var err error
	reply.Cycle, err = collection()
	return err
}

// AskArgs says that VMs 0 to VMs-1 boot anew, so many at once, and ask for all three documents.
type AskArgs struct{ VMs, Parallel int }

// AskReply is what such a VM has on the heap beyond one that never asked, in bytes, without what the driver keeps of the
// whole directory as soon as some ask.
type AskReply struct{ Heap float64 }

// Ask has VMs boot that are silent again afterwards.
func (s *Sessions) Ask(args AskArgs, reply *AskReply) error {
	first := min(firstToAsk, args.VMs/2)
	if err := s.silence(load.StormArgs{Count: first, Parallel: first, Ask: true}); err != nil {
		return err
	}
	before := settledMemory()
	for from := first; from < args.VMs; from += args.Parallel {
		lot := min(args.Parallel, args.VMs-from)
		if err := s.silence(load.StormArgs{From: from, Count: lot, Parallel: lot, Ask: true}); err != nil {
			return err
		}
	}
	m := settledMemory()
	reply.Heap, _ = m.over(before, args.VMs-first)
	return nil
}

// firstToAsk is how many VMs ask before memory is looked at: enough for the driver to keep what it keeps of a directory.
const firstToAsk = 16

// MovesReply is what became of the moves, and what collecting garbage did meanwhile, of the server's and the load's: how
// often, how long all had to stand still for it, and its share of the processor's time in per cent.
type MovesReply struct {
	load.MovesReply
	Cycles             int
	PauseP99, PauseMax time.Duration
	Share              float64
}

// Moves has VMs move that boot before, as load.Fleet's has it. Half-way one collection is begun, so that there is one in any
// case.
func (s *Sessions) Moves(args load.MovesArgs, reply *MovesReply) error {
	var storm load.StormReply
	movers := load.StormArgs{From: args.From, Count: args.Count, Parallel: args.BootsParallel, Ask: true}
	if err := s.fleet.Storm(movers, &storm); err != nil {
		return err
	}
	if err := s.settled(); err != nil {
		return err
	}
	runtime.GC()
	before := readCollector()
	collected := make(chan struct{})
	time.AfterFunc(args.Duration/2, func() {
		runtime.GC()
		close(collected)
	})
	err := s.fleet.Moves(args, &reply.MovesReply)
	<-collected
	after := readCollector()
	reply.Cycles, reply.Share = after.cycles-before.cycles, after.share(before)
	reply.PauseP99, reply.PauseMax = after.pauses(before)
	return err
}

// silence boots VMs, and leaves them.
func (s *Sessions) silence(args load.StormArgs) error {
	var reply load.StormReply
	if err := s.fleet.Storm(args, &reply); err != nil {
		return err
	}
	s.vms = max(s.vms, args.From+args.Count)
	if err := s.settled(); err != nil {
		return err
	}
	return s.fleet.Leave(load.LeaveArgs{From: args.From, Count: args.Count}, &load.Nothing{})
}

// settled waits until the server has a port for each VM and no other.
func (s *Sessions) settled() error {
	for start := time.Now(); ; time.Sleep(time.Millisecond) {
		ports := int(s.server.Stats().Ports.Load())
		if ports == s.vms {
			return nil
		}
		if time.Since(start) > patience {
			return fmt.Errorf("the server knows %d ports of %d VMs", ports, s.vms)
		}
	}
}

// Bare measures what count connections take on the heap, with a goroutine each that reads and no server: bytes for each.
func (s *Sessions) Bare(count int, each *float64) error {
	if s.server != nil {
		return errors.New("Bare is for a process of its own: it leaves traces")
	}
	listener := pipe.Listen()
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				var buffer [1]byte
				_, _ = conn.Read(buffer[:])
			}()
		}
	}()
	ends := make([]net.Conn, count)
	before := settledMemory()
	for i := range ends {
		var err error
		if ends[i], err = listener.Dial(context.Background(), net.IPv4(127, 1, 0, 1)); err != nil {
			return err
		}
	}
	m := settledMemory()
	*each, _ = m.over(before, count)
	for _, end := range ends {
		end.Close()
	}
	return nil
}
