//go:build linux

// Package load is the benchmark's load: many virtual machines that connect, ask and move, as their ESXi hosts would
// have it. It runs in a process of its own, so that what it costs is told apart from what the server costs.
package load

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"vmw-cloudinit-metadata/bench/answers"
	"vmw-cloudinit-metadata/bench/inventory"
	"vmw-cloudinit-metadata/bench/stats"
	"vmw-cloudinit-metadata/vspc"
)

// Config says what the VMs talk to, and how.
type Config struct {
	// Address is the server's.
	Address string
	// Hosts makes each VM's end a vspc.Host. Without it the VMs say bare lines, for servers that know no telnet.
	Hosts bool
	// URI is the ports' in vSphere.
	URI string
	// CA is a file of the certificates that the server's must lead to; empty for no TLS.
	CA string
	// Answers is the directory of the answers to expect: all of them if Exact, otherwise the user-data, while the
	// others must be about the VM that asks.
	Answers string
	Exact   bool
	// Skim has the length and the end of user-data checked and not each byte.
	Skim bool
	// Patience is how long an answer may take before the run is called off; 0 means a minute.
	Patience time.Duration
	// VMs is how many there are room for from the start; more make more room.
	VMs int
	// Dial, if not nil, connects in place of TCP, from a host's address.
	Dial func(ctx context.Context, from net.IP) (net.Conn, error)

	set *answers.Set
	tls *tls.Config
}

// Fleet is the VMs of one load process. Its exported methods have the shape that net/rpc asks for; one is called at a
// time.
type Fleet struct {
	conf Config
	vms  []vm
}

// vm is one VM's port; all are nil when it is not connected.
type vm struct {
	conn net.Conn   // what the guest's bytes go through: the host if there is one
	host *vspc.Host // nil for bare lines
	raw  net.Conn   // the connection itself
}

// Nothing is what a method takes or returns that has nothing to take or return.
type Nothing struct{}

// Configure sets the fleet up. It comes first, and again only when no VM is connected.
func (f *Fleet) Configure(conf Config, _ *Nothing) error {
	set, err := answers.Load(conf.Answers)
	if err != nil {
		return err
	}
	conf.set = set
	if conf.Patience == 0 {
		conf.Patience = time.Minute
	}
	if conf.CA != "" {
		pem, err := os.ReadFile(conf.CA)
		if err != nil {
			return err
		}
		conf.tls = &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "localhost", MinVersion: tls.VersionTLS12}
		if !conf.tls.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("%s holds no certificate", conf.CA)
		}
	}
	f.conf = conf
	f.room(conf.VMs)
	return nil
}

// StormArgs says which VMs come, and how many at once. With Ask each asks for all three documents.
type StormArgs struct {
	From, Count, Parallel int
	Ask                   bool
}

// StormReply is how long it all took, how long each VM took from its first packet to its last answer, and the
// processor's time that the load itself took.
type StormReply struct {
	Elapsed time.Duration
	Latency stats.Latency
	CPU     time.Duration
}

// Storm connects VMs, that stay connected. A VM that was connected before is reset, as by a power cut.
func (f *Fleet) Storm(args StormArgs, reply *StormReply) error {
	f.room(args.From + args.Count)
	before, err := CPU(os.Getpid())
	if err != nil {
		return err
	}
	latencies := make([]time.Duration, args.Count)
	start := time.Now()
	err = each(context.Background(), args.Count, args.Parallel, func(ctx context.Context, i int, buffer []byte) error {
		begin := time.Now()
		if err := f.boot(ctx, args.From+i, args.Ask, buffer); err != nil {
			return err
		}
		latencies[i] = time.Since(begin)
		return nil
	})
	if err != nil {
		return err
	}
	reply.Elapsed = time.Since(start)
	after, err := CPU(os.Getpid())
	if err != nil {
		return err
	}
	reply.CPU = after - before
	reply.Latency = stats.Latencies(latencies)
	return nil
}

// Disconnect closes all connections.
func (f *Fleet) Disconnect(_ Nothing, _ *Nothing) error {
	return each(context.Background(), len(f.vms), 64, func(_ context.Context, i int, _ []byte) error {
		f.vms[i].close()
		f.vms[i] = vm{}
		return nil
	})
}

// LeaveArgs says which VMs are left alone.
type LeaveArgs struct{ From, Count int }

// Leave drops the hosts' ends of VMs and leaves their connections, at which nobody is any more: what is in memory then is
// the server's. These VMs can do nothing but be booted again, or disconnected.
func (f *Fleet) Leave(args LeaveArgs, _ *Nothing) error {
	var buffer [1]byte
	for i := args.From; i < args.From+args.Count; i++ {
		v := f.vms[i]
		if v.host == nil {
			continue
		}
		v.conn.SetDeadline(time.Time{}) // the host's timer would keep it
		if err := v.raw.SetReadDeadline(time.Unix(1, 0)); err != nil {
			return err
		}
		if n, err := v.host.Read(buffer[:]); !errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("VM %d, which is to be silent, reads %q, %w", i, buffer[:n], err)
		}
		f.vms[i] = vm{conn: v.raw, raw: v.raw}
	}
	return nil
}

// SteadyArgs says that VMs 0 to VMs-1, which are connected, ask the questions in turn.
type SteadyArgs struct {
	VMs       int
	Duration  time.Duration
	Questions []answers.Question
}

// SteadyReply is what was answered in the time.
type SteadyReply struct {
	Answers, Bytes int
	Elapsed        time.Duration
	Latency        stats.Latency
	CPU            time.Duration
}

// Steady has VMs ask as fast as they are answered.
func (f *Fleet) Steady(args SteadyArgs, reply *SteadyReply) error {
	before, err := CPU(os.Getpid())
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var latencies []time.Duration
	start := time.Now()
	end := start.Add(args.Duration)
	err = each(context.Background(), args.VMs, args.VMs, func(ctx context.Context, i int, buffer []byte) error {
		var mine []time.Duration
		size := 0
		if err := f.vms[i].conn.SetDeadline(end.Add(f.conf.Patience)); err != nil {
			return err
		}
		for k := i; ctx.Err() == nil; k++ {
			begin := time.Now()
			if !begin.Before(end) {
				break
			}
			n, err := f.ask(f.vms[i], i, args.Questions[k%len(args.Questions)], buffer)
			if err != nil {
				return err
			}
			size += n
			mine = append(mine, time.Since(begin))
		}
		mu.Lock()
		defer mu.Unlock()
		latencies = append(latencies, mine...)
		reply.Bytes += size
		return nil
	})
	if err != nil {
		return err
	}
	reply.Elapsed = time.Since(start)
	reply.Answers = len(latencies)
	after, err := CPU(os.Getpid())
	if err != nil {
		return err
	}
	reply.CPU = after - before
	reply.Latency = stats.Latencies(latencies)
	return nil
}

// PacedArgs says that VMs 0 to VMs-1, which are connected, ask for meta-data, Rate times a second in all.
type PacedArgs struct {
	VMs, Rate int
	Duration  time.Duration
}

// PacedReply is how long the answers took, each of them.
type PacedReply struct{ Latencies []time.Duration }

// pacedLead is for all VMs to be ready: the first of them must not wait for the last to get a goroutine.
const pacedLead = 100 * time.Millisecond

// Paced has VMs ask at a given pace, whatever the answers take. A question that waits for the answer before it counts
// from when it was due.
func (f *Fleet) Paced(args PacedArgs, reply *PacedReply) error {
	var mu sync.Mutex
	var latencies []time.Duration
	period := time.Duration(args.VMs) * time.Second / time.Duration(args.Rate)
	start := time.Now().Add(pacedLead)
	err := each(context.Background(), args.VMs, args.VMs, func(ctx context.Context, i int, buffer []byte) error {
		var mine []time.Duration
		if err := f.vms[i].conn.SetDeadline(start.Add(args.Duration + f.conf.Patience)); err != nil {
			return err
		}
		due := start.Add(period * time.Duration(i) / time.Duration(args.VMs))
		for ; due.Sub(start) < args.Duration && ctx.Err() == nil; due = due.Add(period) {
			begin := due
			if wait := time.Until(due); wait > 0 {
				time.Sleep(wait)
				begin = time.Now()
			}
			if _, err := f.ask(f.vms[i], i, answers.MetaData, buffer); err != nil {
				return err
			}
			mine = append(mine, time.Since(begin))
		}
		mu.Lock()
		defer mu.Unlock()
		latencies = append(latencies, mine...)
		return nil
	})
	reply.Latencies = latencies
	return err
}

// Sample takes VM i's answers as they come, without knowing them. The set goes to the directory.
func (f *Fleet) Sample(dir string, _ *Nothing) error {
	f.room(1)
	if err := f.boot(context.Background(), 0, false, nil); err != nil {
		return err
	}
	var set answers.Set
	buffer := make([]byte, 4<<20)
	for q := range answers.Questions {
		if _, err := f.vms[0].conn.Write(q.AppendRequest(nil)); err != nil {
			return err
		}
		line, err := readLine(f.vms[0].conn, buffer)
		if err != nil {
			return err
		}
		if _, err := q.Document(line); err != nil {
			return err
		}
		set[q] = append([]byte(nil), line...)
	}
	return set.Save(dir)
}

// room makes VMs up to count.
func (f *Fleet) room(count int) {
	if count > len(f.vms) {
		f.vms = append(f.vms, make([]vm, count-len(f.vms))...)
	}
}

// boot connects VM i anew and has it ask, if it is to.
func (f *Fleet) boot(ctx context.Context, i int, ask bool, buffer []byte) error {
	f.vms[i].reset()
	v, err := f.connect(ctx, i)
	if err != nil {
		return err
	}
	f.vms[i] = v
	if !ask {
		return nil
	}
	if err := v.conn.SetDeadline(time.Now().Add(f.conf.Patience)); err != nil {
		return err
	}
	for q := range answers.Questions {
		if _, err := f.ask(v, i, q, buffer); err != nil {
			return err
		}
	}
	return nil
}

func (f *Fleet) connect(ctx context.Context, i int) (vm, error) {
	conn, err := f.dial(ctx, i/vmsPerHost)
	if err != nil {
		return vm{}, err
	}
	if !f.conf.Hosts {
		return vm{conn: conn, raw: conn}, nil
	}
	host := vspc.NewHost(conn, f.hostConfig(i))
	if err := f.handshake(ctx, host); err != nil {
		host.Close()
		return vm{}, err
	}
	return vm{conn: host, host: host, raw: conn}, nil
}

func (f *Fleet) handshake(ctx context.Context, host *vspc.Host) error {
	ctx, cancel := context.WithTimeout(ctx, f.conf.Patience)
	defer cancel()
	return host.Handshake(ctx)
}

func (f *Fleet) hostConfig(i int) vspc.HostConfig {
	return vspc.HostConfig{Identity: inventory.Identity(i), ServiceURI: f.conf.URI}
}

// vmsPerHost is how many VMs share an ESXi host's address: few enough to leave each address ports enough.
const vmsPerHost = 50

// dial connects from a host's address, with TLS if so configured.
func (f *Fleet) dial(ctx context.Context, host int) (net.Conn, error) {
	from := net.IPv4(127, 1, byte(host/250), byte(1+host%250))
	if f.conf.Dial != nil {
		return f.conf.Dial(ctx, from)
	}
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: from}, Timeout: f.conf.Patience}
	conn, err := dialer.DialContext(ctx, "tcp4", f.conf.Address)
	if err != nil || f.conf.tls == nil {
		return conn, err
	}
	secure := tls.Client(conn, f.conf.tls)
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return secure, nil
}

// ask asks one question and reads its answer, whose size it returns.
func (f *Fleet) ask(v vm, i int, q answers.Question, buffer []byte) (int, error) {
	var request [32]byte
	if _, err := v.conn.Write(q.AppendRequest(request[:0])); err != nil {
		return 0, err
	}
	return f.conf.readAnswer(v.conn, i, q, buffer)
}

func (v vm) close() {
	if v.conn != nil {
		v.conn.Close()
	}
}

// reset leaves no connection in TIME-WAIT behind, and no timer.
func (v vm) reset() {
	if v.host != nil {
		v.conn.SetDeadline(time.Time{})
	}
	switch conn := v.conn.(type) {
	case *vspc.Host:
		if conn.Reset() != nil {
			conn.Close()
		}
	case *net.TCPConn:
		if conn.SetLinger(0) == nil {
			conn.Close()
		}
	default:
		v.close()
	}
}

// each calls do for 0 to count-1, so many at once, each with a buffer of its own for the time. The first error ends
// it, and names the VM.
func each(ctx context.Context, count, parallel int, do func(ctx context.Context, i int, buffer []byte) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(parallel, count) {
		wg.Go(func() {
			buffer := make([]byte, bufferSize)
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= count {
					return
				}
				if err := do(ctx, i, buffer); err != nil {
					cancel(fmt.Errorf("VM %d of %d: %w", i, count, err))
					return
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// bufferSize is what a guest reads at once at most.
const bufferSize = 32 << 10

// CPU is the processor's time that a process has used, its threads' and its system calls'.
func CPU(pid int) (time.Duration, error) {
	// The clock of a process is its number's complement and the kind, 2 (CPUCLOCK_SCHED): clock_getcpuclockid(3).
	var now unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|2), &now); err != nil {
		return 0, fmt.Errorf("the processor's time of process %d: %w", pid, err)
	}
	return time.Duration(now.Nano()), nil
}
