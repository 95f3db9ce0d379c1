//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/rpc"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"vmw-cloudinit-metadata/bench/load"
)

// process is a server or a load that was started, with its standard error in a file.
type process struct {
	name string
	cmd  *exec.Cmd
	log  *os.File
	done chan struct{} // closed when it has ended
	err  error         // how; set before done is closed
}

func start(cmd *exec.Cmd, name, logFile string) (*process, error) {
	log, err := os.Create(logFile)
	if err != nil {
		return nil, err
	}
	cmd.Stderr = log
	// Nothing that was started stays behind when the benchmark is killed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		log.Close()
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	p := &process{name: name, cmd: cmd, log: log, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// stop ends the process, politely at first.
func (p *process) stop() {
	defer p.log.Close()
	for _, signal := range []os.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if err := p.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return
		}
		select {
		case <-p.done:
			return
		case <-time.After(10 * time.Second):
		}
	}
	<-p.done
}

// failed tells err together with the end of what the process itself said.
func (p *process) failed(err error) error {
	text, readErr := os.ReadFile(p.log.Name())
	if readErr != nil || len(bytes.TrimSpace(text)) == 0 {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	const tail = 2000
	return fmt.Errorf("%s: %w; it says (%s):\n%s", p.name, err, p.log.Name(), text[max(0, len(text)-tail):])
}

// server is a process that listens.
type server struct {
	*process
	address string
	ready   time.Duration // from its start until it took a connection
}

// startServer starts one of servers' kinds and waits until it takes connections.
func (b *bench) startServer(kind serverKind, conf serverConf) (*server, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	command, err := kind.command(b, conf, address)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(command[0], command[1:]...)
	begin := time.Now()
	p, err := start(cmd, kind.name, filepath.Join(b.work, kind.name+".log"))
	if err != nil {
		return nil, err
	}
	for {
		conn, err := net.Dial("tcp4", address)
		if err == nil {
			conn.Close()
			return &server{p, address, time.Since(begin)}, nil
		}
		if time.Since(begin) > time.Minute {
			p.stop()
			return nil, p.failed(errors.New("does not listen after a minute"))
		}
		select {
		case <-p.done:
			p.log.Close()
			return nil, p.failed(fmt.Errorf("ended at its start: %w", p.err))
		case <-time.After(time.Millisecond):
		}
	}
}

// freeAddress is one that nobody listens at, or that somebody was very quick to take.
func freeAddress() (string, error) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}

// cpu is the processor's time that the server has used so far.
func (s *server) cpu() (time.Duration, error) { return load.CPU(s.cmd.Process.Pid) }

// memory is the process's proportional set size in bytes: what it shares with other processes counts in part.
func (p *process) memory() (float64, error) {
	values, err := kilobytes(fmt.Sprintf("/proc/%d/smaps_rollup", p.cmd.Process.Pid))
	return values["Pss"], err
}

// slab is what the kernel's own objects take, sockets among them, in bytes.
func slab() (float64, error) {
	values, err := kilobytes("/proc/meminfo")
	return values["Slab"], err
}

// kilobytes reads the lines "Name: N kB" of a file in /proc, as bytes.
func kilobytes(name string) (map[string]float64, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	values := make(map[string]float64)
	for line := range strings.Lines(string(text)) {
		name, rest, ok := strings.Cut(line, ":")
		fields := strings.Fields(rest)
		if !ok || len(fields) != 2 || fields[1] != "kB" {
			continue
		}
		n, err := strconv.ParseFloat(fields[0], 64)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		values[name] = n * 1024
	}
	return values, nil
}

// worker is a process whose methods are called, by net/rpc.
type worker struct {
	*process
	client  *rpc.Client
	service string // whose methods they are
}

// pipe is a worker's standard input and output.
type pipe struct {
	io.Reader
	io.WriteCloser
}

// startWorker starts this program in a role. environment is beside the one that it has.
func (b *bench) startWorker(role, service string, environment ...string) (*worker, error) {
	b.workers++
	name := fmt.Sprintf("%s-%d", role, b.workers)
	cmd := exec.Command(b.self, "role", role)
	cmd.Env = append(os.Environ(), environment...)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p, err := start(cmd, name, filepath.Join(b.work, name+".log"))
	if err != nil {
		return nil, err
	}
	return &worker{p, rpc.NewClient(pipe{out, in}), service}, nil
}

func (w *worker) call(method string, args, reply any) error {
	if err := w.client.Call(w.service+"."+method, args, reply); err != nil {
		return w.failed(fmt.Errorf("%s: %w", method, err))
	}
	return nil
}

// fleet is a load process; its methods are load.Fleet's.
type fleet struct{ *worker }

func (b *bench) startLoad(conf load.Config) (*fleet, error) {
	// The load has memory to spare; its garbage collector should not take the server's time.
	w, err := b.startWorker("load", "Fleet", "GOGC=400")
	if err != nil {
		return nil, err
	}
	if err := w.call("Configure", conf, &load.Nothing{}); err != nil {
		w.stop()
		return nil, err
	}
	return &fleet{w}, nil
}

func (f *fleet) storm(args load.StormArgs) (load.StormReply, error) {
	var reply load.StormReply
	err := f.call("Storm", args, &reply)
	return reply, err
}

func (f *fleet) disconnect() error { return f.call("Disconnect", load.Nothing{}, &load.Nothing{}) }

func (f *fleet) steady(args load.SteadyArgs) (load.SteadyReply, error) {
	var reply load.SteadyReply
	err := f.call("Steady", args, &reply)
	return reply, err
}
