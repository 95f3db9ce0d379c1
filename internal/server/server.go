// Package server is the metadata service: it accepts the connections of ESXi hosts, and answers what the guests
// behind them ask with the data that a driver has for them.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"vmw-cloudinit-metadata/internal/workers"
	"vmw-cloudinit-metadata/metadata"
	"vmw-cloudinit-metadata/vspc"
)

// The limits where a Config is silent.
const (
	// DefaultMaxPerAddress is how many connections one address may have. An ESXi host runs at most 1,024 VMs; this
	// leaves room for more than one port of each, and for migrations.
	DefaultMaxPerAddress = 4096
	// maxRate is how much one connection may send for long before it is read with rests, in bytes a second: a few times
	// what a serial line carries (11,520), and so little that a flood takes a few per cent of one processor.
	maxRate = 32 << 10
	// DefaultRequestTimeout bounds a driver's answer to one request. A guest waits longer than that for its first
	// boot's data, and is better told to try again than kept waiting.
	DefaultRequestTimeout = 20 * time.Second
	// DefaultRenderCache bounds the memory for answers that are ready to be sent, in bytes. Some 50,000 VMs with
	// 1 KiB of user-data fit in, more than a vCenter has.
	DefaultRenderCache = 128 << 20
)

// Service is one kind of port: those whose service URI in vSphere is URI, and the driver that has their VMs' data.
type Service struct {
	// URI is compared as it is; a port may add "?" and anything, to tell several ports of one VM apart.
	URI    string
	Driver metadata.Driver
}

// Config is what a Server is made of. At least one Service is required.
type Config struct {
	Services []Service
	// AnyDirection takes ports set to "server" in vSphere, too.
	AnyDirection bool
	// Logger takes the server's log. Nil drops it.
	Logger *slog.Logger

	// Allow says from which networks hosts may connect. Empty allows all.
	Allow []netip.Prefix
	// MaxConnections bounds connections in all; 0 means no bound but that of the process.
	MaxConnections int
	// RestAt is how many connections there may be until accepting rests, as it does when the process may open no more
	// files: drivers need some of those. 0 means no bound.
	RestAt int
	// MaxPerAddress bounds connections from one address; 0 means DefaultMaxPerAddress, less than 0 no bound.
	MaxPerAddress int
	// IdentifyTimeout bounds the time until a connection has said which VM it is; 0 means vspc's default.
	IdentifyTimeout time.Duration

	// TLS serves telnets://, and encrypts telnet:// where the host offers that. Nil means neither.
	TLS *tls.Config
	// RequireTLS refuses hosts that do not encrypt in one of the two ways.
	RequireTLS bool

	// RequestTimeout bounds a driver's answer to one request; 0 means DefaultRequestTimeout.
	RequestTimeout time.Duration
	// RenderCache bounds the memory for answers ready to be sent, in bytes, and as much again for transfers of
	// version 2 under way; 0 means DefaultRenderCache, less than 0 keeps as little as can be.
	RenderCache int
}

// Server answers guests. Its methods may be called at once.
type Server struct {
	cfg          Config
	log          *slog.Logger
	concentrator *vspc.Concentrator
	services     atomic.Pointer[map[string]metadata.Driver]
	renderings   renderings
	offers       offers
	stats        Stats
	lookUps      prometheus.Histogram
	quiet        quiet

	life context.Context // of requests; ended by Shutdown
	end  context.CancelFunc

	mu          sync.Mutex
	stopping    bool
	listeners   map[net.Listener]struct{}
	connections int
	perAddress  map[netip.Addr]counts
	serving     sync.WaitGroup // of connections
	requests    sync.WaitGroup // begun while not stopping
	workers     *workers.Pool  // for requests that have to be looked up
}

// idleWorkers is how many goroutines wait for requests, each with a stack of some 16 KiB.
const idleWorkers = 64

// New checks cfg and returns a Server that listens nowhere yet.
func New(cfg Config) (*Server, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.MaxPerAddress == 0 {
		cfg.MaxPerAddress = DefaultMaxPerAddress
	}
	if cfg.RequestTimeout <= 0 {
		cfg.RequestTimeout = DefaultRequestTimeout
	}
	if cfg.RenderCache == 0 {
		cfg.RenderCache = DefaultRenderCache
	}
	if cfg.RequireTLS && cfg.TLS == nil {
		return nil, errors.New("server: TLS is required, but there is no certificate")
	}
	s := &Server{
		cfg:        cfg,
		log:        cfg.Logger,
		listeners:  make(map[net.Listener]struct{}),
		perAddress: make(map[netip.Addr]counts),
		workers:    workers.New(idleWorkers),
		lookUps:    newLookUps(),
	}
	s.renderings.limit, s.offers.limit = cfg.RenderCache, cfg.RenderCache
	s.life, s.end = context.WithCancel(context.Background())
	if err := s.SetServices(cfg.Services); err != nil {
		return nil, err
	}
	s.cfg.Services = nil // what replaces them is all that counts
	s.concentrator = vspc.NewConcentrator(vspc.Config{
		Admit:           s.admit,
		Open:            s.open,
		Notify:          s.notice,
		TLS:             cfg.TLS,
		RequireTLS:      cfg.RequireTLS,
		IdentifyTimeout: cfg.IdentifyTimeout,
		MaxRate:         maxRate,
	})
	return s, nil
}

// SetServices replaces the services. Ports that are open keep their URI, and find the driver that is now behind it; if
// there is none any more, their guests are told that nothing is known for them.
func (s *Server) SetServices(services []Service) error {
	drivers := make(map[string]metadata.Driver, len(services))
	for _, service := range services {
		switch {
		case service.URI == "":
			return errors.New("server: a service needs a URI: the text that the VMs' serial ports have in vSphere")
		case strings.Contains(service.URI, "?"):
			return fmt.Errorf("server: service URI %q: what follows a ? is left to the ports; leave it out", service.URI)
		case service.Driver == nil:
			return fmt.Errorf("server: service %q has no driver", service.URI)
		case drivers[service.URI] != nil:
			return fmt.Errorf("server: service %q is there twice", service.URI)
		}
		drivers[service.URI] = service.Driver
	}
	if len(drivers) == 0 {
		return errors.New("server: there is no service")
	}
	s.services.Store(&drivers)
	return nil
}

// driver returns the driver of a port's service URI, or nil.
func (s *Server) driver(uri string) metadata.Driver {
	uri, _, _ = strings.Cut(uri, "?")
	return (*s.services.Load())[uri]
}

// admit decides on a port by its settings in vSphere.
func (s *Server) admit(m vspc.DoProxy) error {
	if s.driver(m.ServiceURI) == nil {
		var known []string
		for _, uri := range slices.Sorted(maps.Keys(*s.services.Load())) {
			known = append(known, strconv.Quote(uri))
		}
		return fmt.Errorf("its port URI is %q, and this server's is %s: change one of them", m.ServiceURI, strings.Join(known, " or "))
	}
	switch m.Direction {
	case vspc.Client:
		return nil
	case vspc.Server:
		if s.cfg.AnyDirection {
			return nil
		}
		return errors.New(`its port's direction is "server": set it to "client" in the VM's settings, or start this server with --direction any`)
	}
	return fmt.Errorf("its port has a direction that is neither client nor server: %v", m.Direction)
}

// open starts the life of a port.
func (s *Server) open(session *vspc.Session) vspc.Receiver {
	s.stats.Ports.Add(1)
	s.stats.Opened.Add(1)
	return newGuest(s, session)
}

// Shutdown stops listening, refuses migrations, and takes no more requests; waits until those under way are answered and
// the answers handed to the network, or until ctx is done; and closes all connections.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.stopping = true
	for ln := range s.listeners {
		ln.Close()
	}
	s.mu.Unlock()
	s.concentrator.RefuseMigrations() // their targets could not connect

	answered := make(chan struct{})
	go func() {
		s.requests.Wait()
		close(answered)
	}()
	var err error
	select {
	case <-answered:
	case <-ctx.Done():
		err = ctx.Err()
	}
	s.end()
	err = errors.Join(err, s.concentrator.Shutdown(ctx))
	s.serving.Wait()
	s.workers.Close()
	return err
}

// beginRequest counts a request in, unless the server is shutting down.
func (s *Server) beginRequest() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return false
	}
	s.requests.Add(1)
	return true
}

func (s *Server) isStopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopping
}
