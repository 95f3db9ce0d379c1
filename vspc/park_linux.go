package vspc

import (
	"errors"
	"os"
	"syscall"
	"time"
)

// poller waits for parked connections, with epoll. Go's own waits for them at the same time, and wakes nobody.
type poller struct {
	file   *os.File
	raw    syscall.RawConn
	events [128]syscall.EpollEvent
	ids    []uint64
}

// newPoller returns nil if the system has no files left.
func newPoller() *poller {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		_ = syscall.Close(fd)
		return nil
	}
	p := &poller{file: os.NewFile(uintptr(fd), "epoll")}
	if p.raw, err = p.file.SyscallConn(); err != nil || p.file.SetReadDeadline(time.Time{}) != nil {
		p.file.Close()
		return nil
	}
	return p
}

// watch has wait return id, once, when something comes on conn.
func (p *poller) watch(conn syscall.RawConn, id uint64) bool {
	event := syscall.EpollEvent{
		Events: syscall.EPOLLIN | syscall.EPOLLRDHUP | epollOneShot,
		Fd:     int32(uint32(id)), Pad: int32(uint32(id >> 32)),
	}
	var result error
	err := p.raw.Control(func(epoll uintptr) {
		result = conn.Control(func(fd uintptr) {
			if result = syscall.EpollCtl(int(epoll), syscall.EPOLL_CTL_MOD, int(fd), &event); errors.Is(result, syscall.ENOENT) {
				result = syscall.EpollCtl(int(epoll), syscall.EPOLL_CTL_ADD, int(fd), &event)
			}
		})
	})
	return err == nil && result == nil
}

const epollOneShot = 1 << 30 // EPOLLONESHOT: syscall's is of another type on some architectures

// wait returns the numbers of connections on which something has come; they are valid until the next call.
func (p *poller) wait(deadline time.Time) ([]uint64, error) {
	p.ids = p.ids[:0]
	if err := p.file.SetReadDeadline(deadline); err != nil {
		return nil, err
	}
	err := p.raw.Read(func(epoll uintptr) bool {
		n, err := syscall.EpollWait(int(epoll), p.events[:], 0)
		for err == syscall.EINTR {
			n, err = syscall.EpollWait(int(epoll), p.events[:], 0)
		}
		for _, event := range p.events[:max(n, 0)] {
			p.ids = append(p.ids, uint64(uint32(event.Fd))|uint64(uint32(event.Pad))<<32)
		}
		return n > 0
	})
	return p.ids, err
}

func (p *poller) close() { p.file.Close() }
