//go:build linux

package floor

import (
	"fmt"
	"net/netip"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"vmw-cloudinit-metadata/bench/answers"
)

// Epoll answers lines on bare TCP by raw system calls: threads of one loop each, sharing the address by SO_REUSEPORT.
// It is about what the kernel can do here. A connection costs it 40 bytes of memory.
type Epoll struct {
	loops []*loop
}

// NewEpoll listens on address, with so many threads.
func NewEpoll(address netip.AddrPort, threads int, set *answers.Set) (*Epoll, error) {
	e := &Epoll{}
	for range threads {
		l, err := newLoop(address, set)
		if err == nil {
			e.loops = append(e.loops, l)
			address, err = l.address()
		}
		if err != nil {
			for _, l := range e.loops {
				l.stop()
				l.closeFiles()
			}
			return nil, err
		}
	}
	return e, nil
}

// Address is where the floor listens.
func (e *Epoll) Address() (netip.AddrPort, error) { return e.loops[0].address() }

// Serve runs until Close.
func (e *Epoll) Serve() error {
	errs := make([]error, len(e.loops))
	var wg sync.WaitGroup
	for i, l := range e.loops {
		wg.Go(func() {
			runtime.LockOSThread()
			errs[i] = l.run()
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// Close makes Serve return, which closes the connections. It waits for nothing.
func (e *Epoll) Close() {
	for _, l := range e.loops {
		l.stop()
	}
}

// maxLine is the longest line that can be a question; of a longer one no more is kept.
const maxLine = 31

// client is one connection. Its zero value is a new one.
type client struct {
	sent    uint32 // of the answer under way
	answer  uint8  // which answer is under way, plus one; 0 for none
	waiting bool   // for room to write, not for a question
	open    bool
	length  uint8 // of line; maxLine when it is too long
	line    [maxLine]byte
}

type loop struct {
	set             *answers.Set
	epoll, listener int
	wake            [2]int // a pipe, whose end of file stops the loop
	stopped         sync.Once
	clients         []client // by file descriptor
	buffer          []byte
}

func newLoop(address netip.AddrPort, set *answers.Set) (l *loop, err error) {
	l = &loop{set: set, epoll: -1, listener: -1, wake: [2]int{-1, -1}, buffer: make([]byte, 64<<10)}
	defer func() {
		if err != nil {
			l.closeFiles()
			if l.wake[1] >= 0 {
				unix.Close(l.wake[1])
			}
		}
	}()
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	if err = unix.Pipe2(l.wake[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, fmt.Errorf("pipe2: %w", err)
	}
	if l.listener, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	for _, option := range []int{unix.SO_REUSEADDR, unix.SO_REUSEPORT} {
		if err = unix.SetsockoptInt(l.listener, unix.SOL_SOCKET, option, 1); err != nil {
			return nil, fmt.Errorf("setsockopt: %w", err)
		}
	}
	if err = unix.Bind(l.listener, &unix.SockaddrInet4{Port: int(address.Port()), Addr: address.Addr().As4()}); err != nil {
		return nil, fmt.Errorf("bind %s: %w", address, err)
	}
	if err = unix.Listen(l.listener, 4096); err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	for _, fd := range []int{l.listener, l.wake[0]} {
		if err = l.control(unix.EPOLL_CTL_ADD, fd, unix.EPOLLIN); err != nil {
			return nil, err
		}
	}
	return l, nil
}

func (l *loop) address() (netip.AddrPort, error) {
	name, err := unix.Getsockname(l.listener)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("getsockname: %w", err)
	}
	inet, ok := name.(*unix.SockaddrInet4)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("getsockname: %T is not IPv4", name)
	}
	return netip.AddrPortFrom(netip.AddrFrom4(inet.Addr), uint16(inet.Port)), nil
}

func (l *loop) control(operation, fd int, events uint32) error {
	if err := unix.EpollCtl(l.epoll, operation, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// stop ends run.
func (l *loop) stop() { l.stopped.Do(func() { unix.Close(l.wake[1]) }) }

func (l *loop) closeFiles() {
	for _, fd := range []*int{&l.listener, &l.wake[0], &l.epoll} {
		if *fd >= 0 {
			unix.Close(*fd)
			*fd = -1
		}
	}
	for fd := range l.clients {
		if l.clients[fd].open {
			unix.Close(fd)
		}
	}
	l.clients = nil
}

func (l *loop) run() error {
	defer l.closeFiles()
	events := make([]unix.EpollEvent, 512)
	for {
		n, err := unix.EpollWait(l.epoll, events, -1)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("epoll_wait: %w", err)
		}
		for _, event := range events[:n] {
			switch fd := int(event.Fd); fd {
			case l.wake[0]:
				return nil
			case l.listener:
				if err := l.accept(); err != nil {
					return err
				}
			default:
				if !l.serve(fd) {
					unix.Close(fd)
					l.clients[fd] = client{}
				}
			}
		}
	}
}

// accept takes all connections that wait.
func (l *loop) accept() error {
	for {
		fd, _, err := unix.Accept4(l.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch err {
		case nil:
		case unix.EAGAIN:
			return nil
		case unix.EINTR, unix.ECONNABORTED:
			continue
		default:
			return fmt.Errorf("accept4: %w", err)
		}
		if fd >= len(l.clients) {
			l.clients = append(l.clients, make([]client, max(fd+1, 2*len(l.clients))-len(l.clients))...)
		}
		l.clients[fd] = client{open: true}
		// As Go's net package does.
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
			return fmt.Errorf("setsockopt: %w", err)
		}
		if err := l.control(unix.EPOLL_CTL_ADD, fd, unix.EPOLLIN); err != nil {
			return err
		}
	}
}

// serve reads and writes what it can without waiting; false means that the connection has ended.
func (l *loop) serve(fd int) bool {
	c := &l.clients[fd]
	if c.answer != 0 {
		return l.write(fd, c)
	}
	n, err := unix.Read(fd, l.buffer)
	if err == unix.EAGAIN || err == unix.EINTR {
		return true
	}
	if err != nil || n == 0 {
		return false
	}
	for _, b := range l.buffer[:n] {
		if b != '\n' {
			if c.length < maxLine {
				c.line[c.length] = b
				c.length++
			}
			continue
		}
		q, ok := answers.Parse(c.line[:c.length])
		c.length = 0
		if !ok {
			continue
		}
		if c.answer != 0 {
			return false // a second question before the first is answered: no guest does that
		}
		c.answer = uint8(q) + 1
		if !l.write(fd, c) {
			return false
		}
	}
	return true
}

// write goes on with the answer under way, and waits for room instead of questions while it is not all sent.
func (l *loop) write(fd int, c *client) bool {
	answer := l.set[c.answer-1]
	for int(c.sent) < len(answer) {
		n, err := unix.Write(fd, answer[c.sent:])
		switch err {
		case nil:
			c.sent += uint32(n)
		case unix.EINTR:
		case unix.EAGAIN:
			return l.wait(fd, c, true)
		default:
			return false
		}
	}
	c.answer, c.sent = 0, 0
	return l.wait(fd, c, false)
}

// wait makes fd's next event room to write, or else something to read.
func (l *loop) wait(fd int, c *client, write bool) bool {
	if c.waiting == write {
		return true
	}
	c.waiting = write
	events := uint32(unix.EPOLLIN)
	if write {
		events = unix.EPOLLOUT
	}
	return l.control(unix.EPOLL_CTL_MOD, fd, events) == nil
}
