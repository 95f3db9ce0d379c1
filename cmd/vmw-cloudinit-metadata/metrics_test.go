package main

import (
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// TestMetricsKeepToTheirConnections has somebody who opens one connection after the other: each is a file that a VM could need.
func TestMetricsKeepToTheirConnections(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer serveMetrics(ln, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))()
	ask := func(conn net.Conn) string {
		if err := conn.SetDeadline(time.Now().Add(testPatience)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, "GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"); err != nil {
			return ""
		}
		answer := make([]byte, 1<<10)
		n, _ := conn.Read(answer)
		return string(answer[:n])
	}
	var open []net.Conn
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, conn)
		return conn
	}
	defer func() {
		for _, conn := range open {
			conn.Close()
		}
	}()
	for i := range maxScrapers {
		if answer := ask(dial()); !strings.HasPrefix(answer, "HTTP/1.0 200") {
			t.Fatalf("connection %d gets %q", i+1, answer)
		}
	}
	if answer := ask(dial()); answer != "" {
		t.Errorf("one more than there may be gets %q", answer)
	}
	open[0].Close()
	for deadline := time.Now().Add(testPatience); !strings.HasPrefix(ask(dial()), "HTTP/1.0 200"); {
		if time.Now().After(deadline) {
			t.Fatal("there is no room again when one has gone")
		}
	}
}
