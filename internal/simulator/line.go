package simulator

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"
)

// Line connects a program at a serial line (a QEMU guest, a terminal) with the server.
type Line struct {
	// Connect makes a connection to the server. It is called again, after Retry, whenever there is none.
	Connect func(ctx context.Context) (*Port, error)
	// Retry is the pause between two tries; 0 means DefaultRetry.
	Retry time.Duration
	// Connected, if not nil, is told of each connection, and Lost why there is none.
	Connected func(*Port)
	Lost      func(error)
}

// DefaultRetry is how long a Line without a connection waits before it tries again.
const DefaultRetry = time.Second

// Carry carries bytes both ways until the program ends (nil then) or ctx is done, and closes the program and the
// connection. The program is heard once the first try to connect is over, as a VM boots with its port connected. While
// there is no connection after that, what it says is lost, as on a real line.
func (l *Line) Carry(ctx context.Context, program io.ReadWriteCloser) error {
	defer program.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var mu sync.Mutex
	var current *Port
	tried := make(chan struct{})
	go func() {
		<-tried
		buf := make([]byte, 16<<10)
		for {
			n, err := program.Read(buf)
			mu.Lock()
			port := current
			mu.Unlock()
			if port != nil && n > 0 {
				_, _ = port.Write(buf[:n]) // its end is seen by its reader
			}
			if err != nil {
				cancel(io.EOF)
				return
			}
		}
	}()
	for first := true; ; first = false {
		port, err := l.Connect(ctx)
		if err == nil {
			mu.Lock()
			current = port
			mu.Unlock()
		}
		if first {
			close(tried)
		}
		if err == nil {
			if l.Connected != nil {
				l.Connected(port)
			}
			stop := context.AfterFunc(ctx, func() {
				port.Close()
				_ = program.Close()
			})
			if _, err = io.Copy(program, port); err == nil {
				err = io.EOF
			}
			stop()
			mu.Lock()
			current = nil
			mu.Unlock()
			port.Close()
		}
		if ctx.Err() == nil {
			if l.Lost != nil {
				l.Lost(err)
			}
			l.pause(ctx)
		}
		if ctx.Err() != nil {
			if why := context.Cause(ctx); !errors.Is(why, io.EOF) {
				return why
			}
			return nil
		}
	}
}

func (l *Line) pause(ctx context.Context) {
	retry := l.Retry
	if retry <= 0 {
		retry = DefaultRetry
	}
	select {
	case <-time.After(retry):
	case <-ctx.Done():
	}
}
