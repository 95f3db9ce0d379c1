//go:build linux

package load

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"vmw-cloudinit-metadata/bench/answers"
	"vmw-cloudinit-metadata/bench/stats"
	"vmw-cloudinit-metadata/vspc"
)

// MovesArgs says that of the VMs from From on, Count that are connected, Rate a second move to another host. Meanwhile
// those from BootFrom on, BootCount, boot over and over, so many at once; none if that is 0. BootRate bounds the boots a
// second; 0 means as many as can be.
type MovesArgs struct {
	From, Count, Rate                            int
	Duration                                     time.Duration
	BootFrom, BootCount, BootsParallel, BootRate int
}

// MovesReply is what became of them. GoAhead is the time from BEGIN to GOAHEAD as the source sees it, Downtime the time
// from BEGIN to COMPLETE. Late counts moves that began more than a second behind their time, because the load itself
// could not keep up.
type MovesReply struct {
	GoAhead, Downtime stats.Latency
	Begun, Late       int
	Lost              int
	FirstLoss         string
	Boots             int
	Boot              stats.Latency
}

// Moves migrates VMs. Every other one has asked a question just before BEGIN; its answer must arrive once and whole,
// wherever the VM is then. And each asks another on its new host.
func (f *Fleet) Moves(args MovesArgs, reply *MovesReply) error {
	ctx, cancel := context.WithTimeout(context.Background(), args.Duration)
	defer cancel()
	f.room(max(args.From+args.Count, args.BootFrom+args.BootCount))

	var booting sync.WaitGroup
	var bootErr error
	var boots []time.Duration
	if args.BootCount > 0 {
		booting.Go(func() { boots, bootErr = f.bootAll(ctx, args) })
	}

	var mu sync.Mutex
	var goAheads, downtimes []time.Duration
	var moving sync.WaitGroup
	start := time.Now()
	for k := 0; ; k++ {
		due := start.Add(time.Duration(k) * time.Second / time.Duration(args.Rate))
		if due.Sub(start) >= args.Duration {
			break
		}
		time.Sleep(time.Until(due))
		late := time.Since(due) > time.Second
		moving.Go(func() {
			goAhead, downtime, err := f.move(args.From+k%args.Count, k%2 == 0)
			mu.Lock()
			defer mu.Unlock()
			reply.Begun++
			if late {
				reply.Late++
			}
			if err != nil {
				reply.Lost++
				if reply.FirstLoss == "" {
					reply.FirstLoss = err.Error()
				}
				return
			}
			goAheads, downtimes = append(goAheads, goAhead), append(downtimes, downtime)
		})
	}
	moving.Wait()
	booting.Wait()
	reply.GoAhead, reply.Downtime = stats.Latencies(goAheads), stats.Latencies(downtimes)
	reply.Boots, reply.Boot = len(boots), stats.Latencies(boots)
	return bootErr
}

// bootAll boots the VMs again and again until ctx is done.
func (f *Fleet) bootAll(ctx context.Context, args MovesArgs) ([]time.Duration, error) {
	var mu sync.Mutex
	var boots []time.Duration
	start := time.Now()
	for round := 0; ctx.Err() == nil; round++ {
		err := each(context.Background(), args.BootCount, args.BootsParallel, func(_ context.Context, i int, buffer []byte) error {
			if args.BootRate > 0 {
				due := time.Duration(round*args.BootCount+i) * time.Second / time.Duration(args.BootRate)
				select {
				case <-time.After(time.Until(start.Add(due))):
				case <-ctx.Done():
				}
			}
			if ctx.Err() != nil {
				return nil
			}
			begin := time.Now()
			if err := f.boot(context.Background(), args.BootFrom+i, true, buffer); err != nil {
				return err
			}
			took := time.Since(begin)
			mu.Lock()
			defer mu.Unlock()
			boots = append(boots, took)
			return nil
		})
		if err != nil {
			return boots, err
		}
	}
	return boots, nil
}

// move migrates VM i, in the middle of an answer if asked is set.
func (f *Fleet) move(i int, asked bool) (goAhead, downtime time.Duration, err error) {
	source := f.vms[i].host
	if source == nil {
		return 0, 0, errors.New("a VM that is not connected can't move")
	}
	question := answers.Question(i) % answers.Questions
	if err := source.SetDeadline(time.Now().Add(f.conf.Patience)); err != nil {
		return 0, 0, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), f.conf.Patience)
	defer cancel()

	var heard []byte // what the guest heard at the source
	deaf := make(chan struct{})
	if asked {
		if _, err := source.Write(question.AppendRequest(nil)); err != nil {
			return 0, 0, err
		}
		go func() {
			defer close(deaf)
			buffer := make([]byte, 4096)
			for {
				n, err := source.Read(buffer)
				heard = append(heard, buffer[:n]...)
				if err != nil {
					return
				}
			}
		}()
	} else {
		close(deaf)
	}

	sequence := binary.BigEndian.AppendUint32(nil, 0xfffff000+uint32(i)) // has bytes that telnet doubles
	begin := time.Now()
	move, err := source.Begin(ctx, sequence)
	if err != nil {
		return 0, 0, err
	}
	goAhead = time.Since(begin)

	conn, err := f.dial(ctx, i/vmsPerHost+1)
	if err != nil {
		return 0, 0, err
	}
	target := vspc.NewTarget(conn, f.hostConfig(i), move)
	if err := target.Peer(ctx); err != nil {
		target.Close()
		return 0, 0, err
	}
	if err := target.Complete(); err != nil {
		target.Close()
		return 0, 0, err
	}
	downtime = time.Since(begin)
	source.Close()
	<-deaf
	f.vms[i] = vm{conn: target, host: target, raw: conn}

	if err := target.SetDeadline(time.Now().Add(f.conf.Patience)); err != nil {
		return 0, 0, err
	}
	buffer := make([]byte, bufferSize)
	if asked {
		// The rest of it, or none; what is missing or doubled at the seam does not check.
		arrived := io.MultiReader(bytes.NewReader(heard), target)
		if _, err := f.conf.readAnswer(arrived, i, question, buffer); err != nil {
			return 0, 0, fmt.Errorf("an answer that moved: %w", err)
		}
	}
	if _, err := f.ask(f.vms[i], i, answers.NetworkData, buffer); err != nil {
		return 0, 0, fmt.Errorf("after the move: %w", err)
	}
	return goAhead, downtime, nil
}

// SlowArgs says that VMs 0 to VMs-1 ask for user-data, on hosts that read no faster than Rate bytes a second, and move
// when After of it has arrived.
type SlowArgs struct {
	VMs, Rate, After int
}

// SlowReply is the time from BEGIN to GOAHEAD, with the answer under way.
type SlowReply struct{ GoAhead stats.Latency }

// Slow measures how long GOAHEAD waits behind an answer. Hosts have a small receive buffer, as a real one may.
func (f *Fleet) Slow(args SlowArgs, reply *SlowReply) error {
	waits := make([]time.Duration, args.VMs)
	err := each(context.Background(), args.VMs, args.VMs, func(ctx context.Context, i int, buffer []byte) error {
		var failed error
		dialer := net.Dialer{Timeout: f.conf.Patience, Control: func(_, _ string, raw syscall.RawConn) error {
			err := raw.Control(func(fd uintptr) {
				failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, slowReceiveBuffer)
			})
			return errors.Join(err, failed)
		}}
		conn, err := dialer.DialContext(ctx, "tcp4", f.conf.Address)
		if err != nil {
			return err
		}
		throttle := &slowConn{Conn: conn}
		host := vspc.NewHost(throttle, f.hostConfig(i))
		defer host.Close()
		if err := f.handshake(ctx, host); err != nil {
			return err
		}
		throttle.limit(args.Rate)
		if err := host.SetDeadline(time.Now().Add(f.conf.Patience)); err != nil {
			return err
		}
		if _, err := host.Write(answers.UserData.AppendRequest(nil)); err != nil {
			return err
		}
		if _, err := io.ReadFull(host, make([]byte, args.After)); err != nil {
			return err
		}
		var reading sync.WaitGroup
		reading.Go(func() {
			for {
				if _, err := host.Read(buffer); err != nil {
					return
				}
			}
		})
		begin := time.Now()
		_, err = host.Begin(ctx, []byte{1, 2, 3, byte(i)})
		waits[i] = time.Since(begin)
		host.Close()
		reading.Wait()
		if errors.Is(err, vspc.ErrVMotionLimit) {
			return nil // the wait says it
		}
		return err
	})
	reply.GoAhead = stats.Latencies(waits)
	return err
}

// slowReceiveBuffer is what a slow host's socket is told to hold; the kernel doubles it.
const slowReceiveBuffer = 4096

// slowConn reads no faster than a serial line.
type slowConn struct {
	net.Conn
	mu   sync.Mutex
	rate int // bytes a second; 0 for no limit
	next time.Time
}

func (c *slowConn) limit(rate int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rate, c.next = rate, time.Now()
}

// Read reads a little, and waits as long as the line takes for it.
func (c *slowConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p[:min(len(p), 128)])
	c.mu.Lock()
	if c.rate == 0 {
		c.mu.Unlock()
		return n, err
	}
	if now := time.Now(); c.next.Before(now) {
		c.next = now // the line was idle
	}
	c.next = c.next.Add(time.Duration(n) * time.Second / time.Duration(c.rate))
	due := c.next
	c.mu.Unlock()
	time.Sleep(time.Until(due))
	return n, err
}

// Hostility is what a hostile VM does.
type Hostility string

// The hostilities.
const (
	Silent Hostility = "says nothing"        // does no harm: what a comparison shows with it is scatter
	Unread Hostility = "never reads"         // asks on and on, and reads no answer
	Noise  Hostility = "endless line"        // sends data with no line feed, as fast as it is taken
	Flood  Hostility = "asks without pause"  // asks on and on, and throws the answers away
	Telnet Hostility = "telnet negotiations" // changes its mind about an option, as fast as it is heard
)

// Hostilities lists them.
func Hostilities() []Hostility { return []Hostility{Silent, Unread, Noise, Flood, Telnet} }

// HostileArgs says that one VM, number VM, is hostile.
type HostileArgs struct {
	VM       int
	Kind     Hostility
	Duration time.Duration
}

// HostileReply is how much the hostile VM could send. Ended says that the server closed the connection.
type HostileReply struct {
	Sent  int
	Ended bool
}

// Hostile behaves badly for a while.
func (f *Fleet) Hostile(args HostileArgs, reply *HostileReply) error {
	ctx := context.Background()
	f.room(args.VM + 1)
	if err := f.boot(ctx, args.VM, false, nil); err != nil {
		return err
	}
	v := f.vms[args.VM]
	defer v.reset()
	if err := v.conn.SetDeadline(time.Now().Add(args.Duration)); err != nil {
		return err
	}
	var chunk []byte
	send := v.conn.Write
	read := true
	switch args.Kind {
	case Silent:
		read = false
		send = func([]byte) (int, error) { return v.conn.Read(make([]byte, 1)) } // waits for the end: nobody answers it
	case Unread:
		chunk = bytes.Repeat(answers.UserData.AppendRequest(nil), 100)
		read = false
	case Noise:
		chunk = bytes.Repeat([]byte("noise "), 5000)
	case Flood:
		chunk = bytes.Repeat(answers.MetaData.AppendRequest(nil), 100)
	case Telnet:
		chunk = bytes.Repeat([]byte{255, 251, 24, 255, 252, 24}, 1000) // WILL and WONT TERMINAL-TYPE
		send = func(p []byte) (int, error) { return len(p), v.host.SendRaw(p) }
	default:
		return fmt.Errorf("no such hostility: %q", args.Kind)
	}
	var reading sync.WaitGroup
	if read {
		reading.Go(func() { _, _ = io.Copy(io.Discard, v.conn) })
	}
	for {
		n, err := send(chunk)
		reply.Sent += n
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			reply.Ended = true
			break
		}
	}
	v.reset()
	reading.Wait()
	f.vms[args.VM] = vm{}
	return nil
}
