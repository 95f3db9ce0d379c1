//go:build linux

// Package floor holds the servers that the benchmark compares with: what the machine, the kernel and Go's net package
// cost when nothing is looked up, rendered or remembered. Each answers a request line with a prepared answer.
package floor

import (
	"bufio"
	"errors"
	"net"

	"vmw-cloudinit-metadata/bench/answers"
)

// Serve runs handle on a goroutine of its own for each connection, until listener is closed; then it returns nil.
// Connections still open are left to their handlers, which end when the guest's end does.
func Serve(listener net.Listener, handle func(net.Conn)) error {
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		go handle(conn)
	}
}

// Lines answers lines on bare TCP, or TLS: a bufio.Reader and a write for each answer.
func Lines(set *answers.Set) func(net.Conn) {
	return func(conn net.Conn) {
		defer conn.Close()
		reader := bufio.NewReader(conn)
		for {
			line, err := reader.ReadSlice('\n')
			if err != nil {
				return
			}
			if q, ok := answers.Parse(line); ok {
				if _, err := conn.Write(set[q]); err != nil {
					return
				}
			}
		}
	}
}
