package pipe_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"vmw-cloudinit-metadata/bench/pipe"
)

var host = net.IPv4(127, 1, 2, 3)

// connect returns the client's end and the server's.
func connect(t *testing.T) (client, server net.Conn) {
	t.Helper()
	listener := pipe.Listen()
	defer listener.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			t.Error(err)
		}
		accepted <- conn
	}()
	client, err := listener.Dial(t.Context(), host)
	if err != nil {
		t.Fatal(err)
	}
	return client, <-accepted
}

func TestAddresses(t *testing.T) {
	client, server := connect(t)
	if from := server.RemoteAddr().(*net.TCPAddr); !from.IP.Equal(host) || from.String() != client.LocalAddr().String() {
		t.Errorf("the server sees %v, and the client is at %v", from, client.LocalAddr())
	}
	if to := client.RemoteAddr().String(); to != server.LocalAddr().String() {
		t.Errorf("the client sees %v, and the server is at %v", to, server.LocalAddr())
	}
}

func TestNobodyWaitsForAReader(t *testing.T) {
	client, server := connect(t)
	for _, word := range []string{"first ", "second"} {
		if n, err := client.Write([]byte(word)); n != len(word) || err != nil {
			t.Fatalf("Write(%q) = %d, %v", word, n, err)
		}
	}
	client.Close()
	got, err := io.ReadAll(server)
	if string(got) != "first second" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
	if _, err := server.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("writing to an end that is closed: %v", err)
	}
	if _, err := client.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("writing after Close: %v", err)
	}
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("reading after Close: %v", err)
	}
}

func TestTheBufferIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := connect(t)
		sent := bytes.Repeat([]byte("0123456789abcdef"), 20_000)
		client.SetWriteDeadline(time.Now().Add(time.Minute))
		n, err := client.Write(sent)
		if n != 64<<10 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("with nobody who reads, Write = %d, %v", n, err)
		}
		client.SetWriteDeadline(time.Time{})
		go func() {
			defer client.Close()
			if m, err := client.Write(sent[n:]); m != len(sent)-n || err != nil {
				t.Errorf("the rest: %d, %v", m, err)
			}
		}()
		if got, err := io.ReadAll(server); !bytes.Equal(got, sent) || err != nil {
			t.Errorf("%d bytes arrive of %d, or others; %v", len(got), len(sent), err)
		}
	})
}

func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := connect(t)
		start := time.Now()
		buffer := make([]byte, 10)
		server.SetReadDeadline(start.Add(time.Second))
		time.AfterFunc(time.Millisecond, func() { server.SetReadDeadline(start.Add(time.Minute)) })
		if _, err := server.Read(buffer); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Minute {
			t.Errorf("a deadline that was moved: %v after %v", err, time.Since(start))
		}
		if _, err := client.Write([]byte("late")); err != nil {
			t.Fatal(err)
		}
		if _, err := server.Read(buffer); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("past the deadline, with data: %v", err)
		}
		server.SetDeadline(time.Time{})
		if n, err := server.Read(buffer); string(buffer[:n]) != "late" || err != nil {
			t.Errorf("without a deadline: %q, %v", buffer[:n], err)
		}
		time.AfterFunc(time.Hour, func() { server.SetDeadline(time.Unix(1, 0)) })
		if _, err := server.Read(buffer); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a deadline in the past: %v", err)
		}
	})
}

func TestCloseEndsARead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, _ := connect(t)
		time.AfterFunc(time.Minute, func() { client.Close() })
		if _, err := client.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Read = %v", err)
		}
	})
}

func TestAClosedListener(t *testing.T) {
	listener := pipe.Listen()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := listener.Dial(ctx, host); !errors.Is(err, context.Canceled) {
		t.Errorf("Dial with a context that is done: %v", err)
	}
	listener.Close()
	if _, err := listener.Dial(t.Context(), host); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("Dial = %v", err)
	}
	if _, err := listener.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept = %v", err)
	}
}
