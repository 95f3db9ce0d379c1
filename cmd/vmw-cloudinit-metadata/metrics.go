package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"vmw-cloudinit-metadata/internal/server"
	"vmw-cloudinit-metadata/internal/tlspair"
)

// The limits of the metrics' port. Each connection is an open file that a VM could need.
const (
	maxScrapers   = 32
	scrapeTimeout = 10 * time.Second
)

// newRegistry returns all there is to measure: the server, its certificate if it has one, and the process.
func newRegistry(s *server.Server, pair *tlspair.Pair) *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(s.Metrics(), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "vmw_cloudinit_build_info", Help: "1; the program's version is in the label.",
		ConstLabels: prometheus.Labels{"version": versionText()},
	}, func() float64 { return 1 }))
	if pair != nil {
		registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "vmw_cloudinit_certificate_end_timestamp_seconds", Help: "When the TLS certificate ends, in seconds since 1970.",
		}, func() float64 { return float64(pair.Expires().Unix()) }))
	}
	return registry
}

// serveMetrics answers Prometheus at /metrics and health checks at /healthz, on a port of their own, until stop.
func serveMetrics(ln net.Listener, registry *prometheus.Registry, log *slog.Logger) (stop func()) {
	errorLog := slog.NewLogLogger(log.Handler(), slog.LevelWarn)
	pages := http.NewServeMux()
	pages.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog: errorLog, MaxRequestsInFlight: maxScrapers, Timeout: scrapeTimeout,
	}))
	pages.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	var open atomic.Int64
	web := &http.Server{
		Handler: pages, ErrorLog: errorLog, MaxHeaderBytes: 8 << 10,
		ReadTimeout: scrapeTimeout, WriteTimeout: 2 * scrapeTimeout, IdleTimeout: 2 * time.Minute,
		ConnState: func(conn net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				if open.Add(1) > maxScrapers {
					conn.Close()
				}
			case http.StateClosed, http.StateHijacked:
				open.Add(-1)
			}
		},
	}
	log.Info("metrics", "url", fmt.Sprintf("http://%s/metrics", ln.Addr()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := web.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			log.Error("metrics can't be served any more", "error", err)
		}
	}()
	return func() {
		web.Close()
		<-done
	}
}
