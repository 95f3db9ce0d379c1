package server

import (
	"log/slog"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// counter is one of Stats, as the log and as Prometheus has it.
type counter struct {
	name   string
	value  *atomic.Int64
	metric string
	code   string // what tells it from others of that metric; "" if it has no such label
	help   string
}

func (s *Stats) counters() []counter {
	const errors = "Requests answered with an error, by what the guest was told."
	return []counter{
		{"ports", &s.Ports, "ports", "", "Serial ports open now."},
		{"requests", &s.Requests, "requests_total", "", "Requests of guests."},
		{"answers", &s.Answers, "answers_total", "", "Requests answered with what they asked for."},
		{"not-found", &s.NotFound, "errors_total", "not-found", errors},
		{"invalid", &s.Invalid, "errors_total", "invalid", errors},
		{"unavailable", &s.Unavailable, "errors_total", "unavailable", errors},
		{"denied", &s.Denied, "errors_total", "denied", errors},
		{"bad-request", &s.BadRequest, "errors_total", "bad-request", errors},
		{"stale", &s.Stale, "errors_total", "stale", errors},
		{"dropped", &s.Dropped, "requests_dropped_total", "", "Requests of guests that did not wait for their answers."},
		{"throttled", &s.Throttled, "answers_throttled_total", "", "Answers held back, to guests that ask without a pause."},
		{"rejected", &s.Rejected, "connections_rejected_total", "", "Connections not taken: from addresses not allowed, or over a limit."},
		{"broken", &s.Broken, "connections_broken_total", "", "Connections ended for what their peer sent, or did not send."},
		{"refused", &s.Refused, "ports_refused_total", "", "Ports with another URI or direction."},
		{"accept-pauses", &s.AcceptPauses, "accept_pauses_total", "", "Pauses in taking connections, for want of file descriptors."},
		{"vmotions", &s.Moves, "vmotions_total", "", "vMotions completed."},
		{"vmotions-failed", &s.MovesFailed, "vmotions_failed_total", "", "vMotions refused, aborted, or never completed."},
		{"peers-refused", &s.PeersRefused, "vmotion_peers_refused_total", "", "Connections that showed a wrong, used or expired secret of a vMotion."},
		{"opened", &s.Opened, "ports_opened_total", "", "Serial ports opened."},
	}
}

// Attrs returns all counters for a log line.
func (s *Stats) Attrs() []slog.Attr {
	var attrs []slog.Attr
	for _, c := range s.counters() {
		attrs = append(attrs, slog.Int64(c.name, c.value.Load()))
	}
	return attrs
}

const namespace = "vmw_cloudinit"

// Metrics returns a collector of what Stats counts, and of how long drivers take. It may be asked at any time.
func (s *Server) Metrics() prometheus.Collector { return metrics{s} }

type metrics struct{ server *Server }

// Describe implements prometheus.Collector.
func (m metrics) Describe(to chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, to) }

// Collect implements prometheus.Collector.
func (m metrics) Collect(to chan<- prometheus.Metric) {
	for _, c := range m.server.stats.counters() {
		var labels, values []string
		if c.code != "" {
			labels, values = []string{"code"}, []string{c.code}
		}
		kind := prometheus.CounterValue
		if c.value == &m.server.stats.Ports {
			kind = prometheus.GaugeValue
		}
		desc := prometheus.NewDesc(prometheus.BuildFQName(namespace, "", c.metric), c.help, labels, nil)
		to <- prometheus.MustNewConstMetric(desc, kind, float64(c.value.Load()), values...)
	}
	connections := prometheus.NewDesc(prometheus.BuildFQName(namespace, "", "connections"), "Connections of hosts, open now.", nil, nil)
	to <- prometheus.MustNewConstMetric(connections, prometheus.GaugeValue, float64(m.server.connectionCount()))
	m.server.lookUps.Collect(to)
}

// newLookUps returns the histogram of look-ups: from under a millisecond, of a file, to DefaultRequestTimeout.
func newLookUps() prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: namespace,
		Name:      "lookup_seconds",
		Help:      "How long drivers took to find a VM's data, or to fail.",
		Buckets:   []float64{0.0001, 0.001, 0.01, 0.1, 1, 5, 20},
	})
}
