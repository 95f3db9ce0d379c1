package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"vmw-cloudinit-metadata/internal/config"
	"vmw-cloudinit-metadata/internal/logqueue"
	"vmw-cloudinit-metadata/internal/server"
	"vmw-cloudinit-metadata/internal/tlspair"
	"vmw-cloudinit-metadata/vspc"
)

const (
	// defaultPort is not assigned to anybody, but what concentrators usually have.
	defaultPort = 13370
	// shutdownLimit is how long answers under way may take once the server is told to end: less than the 90 s after
	// which systemd kills.
	shutdownLimit = 10 * time.Second
	// flushLimit is how long the log's last lines may take to be read, when all else has ended.
	flushLimit = 2 * time.Second
	// spareFiles are open files that are no connections: listeners, the driver's, what the runtime needs. Without them no
	// VM's data could be looked up, as soon as there are too many VMs.
	spareFiles = 100
)

const runHelp = `run starts the server. It ends in order at SIGTERM or SIGINT: answers under way are finished, for 10 s at most.
At SIGUSR1 it logs its counters.

With --config, SIGHUP reads the file again: its services and their drivers are taken over, or, if there is a mistake in it, none of
them, and the log says why. Without --config there is nothing to read again, and SIGHUP is noted in the log; from a terminal it ends
the server.

Every flag can come from the environment instead, as its help says; values of a flag that may be repeated are
separated by commas there, but for --driver and --driver-opts, which have one value there.`

const runExample = `  vmw-cloudinit-metadata run --uri my-metadata --driver file --driver-opts '{"directory": "/etc/my-vms"}'`

type runFlags struct {
	config        string
	uri           string
	driver        driverFlags
	listen        []string
	metrics       string
	direction     *choice
	allow         []string
	maxAll        int
	maxPerAddress int
	identify      time.Duration
	tls           tlsFlags
	logLevel      *choice
	logFormat     *choice
}

func newRunCommand() *cobra.Command {
	f := runFlags{
		direction: newChoice("client", "any"),
		tls:       newTLSFlags(),
		logLevel:  newChoice("info", "debug", "warn", "error"),
		logFormat: newChoice("text", "json"),
	}
	cmd := &cobra.Command{
		Use:     "run --uri URI --driver-opts JSON",
		Short:   "Run the server",
		Long:    runHelp,
		Example: runExample,
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var file configuration
			return file.locate(cmd.Flags(), f.run(cmd, &file))
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.config, "config", "", "configuration `FILE`: all that these flags say, and several services; SIGHUP reads it again")
	flags.StringVar(&f.uri, "uri", "", "the port `URI` that the VMs' serial ports have in vSphere; any text, but the same at both ends")
	f.driver.register(flags)
	flags.StringSliceVar(&f.listen, "listen", []string{":" + strconv.Itoa(defaultPort)}, "`ADDRESS` to listen on for ESXi hosts; may be repeated")
	flags.StringVar(&f.metrics, "metrics", "", "`ADDRESS` to serve metrics on, for Prometheus: at /metrics, and /healthz for health checks")
	flags.Var(f.direction, "direction", `the ports' direction in vSphere; "any" also takes ports that are set to server`)
	flags.StringSliceVar(&f.allow, "allow", nil, "`NETWORK` of the ESXi hosts, as 10.1.0.0/16: nobody else may connect; may be repeated")
	flags.IntVar(&f.maxAll, "max-connections", 0, "the most connections at once, `N`; 0 for as many as there may be open files")
	flags.IntVar(&f.maxPerAddress, "max-connections-per-address", server.DefaultMaxPerAddress, "the most connections of one ESXi host at once, `N`; 0 for no limit")
	flags.DurationVar(&f.identify, "identify-timeout", vspc.DefaultIdentifyTimeout, "how long a connection may take to say which VM it is")
	f.tls.register(flags)
	flags.Var(f.logLevel, "log-level", "the least that is logged")
	flags.Var(f.logFormat, "log-format", "how it is logged, to stderr")
	fromEnvironment(cmd)
	return cmd
}

// run serves until it is told to end. With --config it fills in file.
func (f *runFlags) run(cmd *cobra.Command, file *configuration) error {
	ctx := cmd.Context()
	// Whoever reads the log may end, and would end a program that has not asked for the signal. What signal.Ignore does
	// would go on in the drivers' programs.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	// First: who asks while the server starts has them when it has started.
	counters := make(chan os.Signal, 1)
	onStatsSignal(counters)
	// So has who reloads it: SIGHUP would end it.
	hangups := make(chan os.Signal, 1)
	if f.config != "" || !onTerminal() {
		signal.Notify(hangups, syscall.SIGHUP)
		defer signal.Stop(hangups)
	}
	var content *config.Config
	if f.config != "" {
		var err error
		if content, err = file.open(cmd, f.config); err != nil {
			return err
		}
	} else if f.uri == "" {
		return usageErrorf("--uri is missing: the port URI that the VMs' serial ports have in vSphere")
	}
	if err := f.checkLimits(); err != nil {
		return usageError{err}
	}
	if len(f.allow) == 0 && cmd.Flags().Changed("allow") { // a script's variable has nothing in it, say
		return usageError{valueErrorf("allow", 0, "", "there is no network in it: leave it out if everybody may connect")}
	}
	allow, err := networks(f.allow)
	if err != nil {
		return err
	}
	log := logqueue.New(cmd.ErrOrStderr(), f.linesLost)
	cmd.SetErr(log) // execute says there what went wrong, and closes it
	logger := f.logger(log)
	warnOfStrayVariables(cmd.Root(), logger)
	pair, tlsConfig, err := f.tls.load(logger)
	if err != nil {
		return err
	}
	services, closeServices, err := f.services(content, logger)
	if err != nil {
		return err
	}
	closeDrivers := sync.OnceFunc(closeServices)
	defer closeInTime(closeDrivers, logger)
	room := roomFor(raiseFileLimit())
	s, err := server.New(server.Config{
		Services:        services,
		AnyDirection:    f.direction.value == "any",
		Logger:          logger,
		Allow:           allow,
		MaxConnections:  f.maxAll,
		RestAt:          room,
		MaxPerAddress:   cmp.Or(f.maxPerAddress, -1),
		IdentifyTimeout: f.identify,
		TLS:             tlsConfig,
		RequireTLS:      f.tls.mode.value == tlsRequire,
	})
	if err != nil {
		return usageError{err}
	}
	listeners, err := listen(ctx, f.listen)
	if err != nil {
		return err
	}
	if f.metrics != "" {
		ln, err := listenOne(ctx, "metrics", 0, f.metrics)
		if err != nil {
			return err
		}
		defer serveMetrics(ln, newRegistry(s, pair), logger)()
	}
	if content != nil {
		defer file.reloadOnSignal(hangups, s, closeDrivers, logger)()
	} else {
		defer outliveHangup(hangups, logger)()
	}
	f.announce(logger, listeners, f.describe(content), pair, room)
	if err := notifySystemd("READY=1"); err != nil {
		logger.Warn("can't tell systemd that the server is ready", "error", err)
	}
	return serve(ctx, s, listeners, counters, logger)
}

func (f *runFlags) checkLimits() error {
	switch {
	case f.maxAll < 0:
		return valueErrorf("max-connections", 0, strconv.Itoa(f.maxAll), "it must be 0 (no limit) or more")
	case f.maxPerAddress < 0:
		return valueErrorf("max-connections-per-address", 0, strconv.Itoa(f.maxPerAddress), "it must be 0 (no limit) or more")
	case f.identify <= 0:
		return valueErrorf("identify-timeout", 0, f.identify.String(), "it must be more than nothing, as in 30s")
	}
	return nil
}

// services are those of the configuration file, or the one that the flags make.
func (f *runFlags) services(content *config.Config, logger *slog.Logger) ([]server.Service, func(), error) {
	if content != nil {
		return openServices(content.Services, logger)
	}
	driver, closeDriver, err := f.driver.open(logger)
	if err != nil {
		return nil, nil, err
	}
	return []server.Service{{URI: f.uri, Driver: driver}}, closeDriver, nil
}

// closeInTime closes the drivers, and leaves one behind that takes longer than reloadLimit.
func closeInTime(closeDrivers func(), logger *slog.Logger) {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		closeDrivers()
	}()
	select {
	case <-closed:
	case <-time.After(reloadLimit):
		logger.Warn("stopped without waiting for a driver to be closed")
	}
}

type described struct{ uri, driver string }

func (f *runFlags) describe(content *config.Config) []described {
	if content == nil {
		return []described{{f.uri, strings.Join(f.driver.names, "+")}}
	}
	var all []described
	for _, service := range content.Services {
		var names []string
		for _, driver := range service.Drivers {
			names = append(names, driver.Name)
		}
		all = append(all, described{service.URI, strings.Join(names, "+")})
	}
	return all
}

// announce logs what an administrator needs at the start.
func (f *runFlags) announce(logger *slog.Logger, listeners []net.Listener, services []described, pair *tlspair.Pair, room int) {
	local, direction := true, "client"
	if f.direction.value != direction {
		direction = "client or server"
	}
	for _, l := range listeners {
		logger.Info("listening", "address", l.Addr().String(), "version", versionText())
		for _, service := range services {
			logger.Info("the ports' settings in vSphere", "driver", service.driver, "service-uri", service.uri,
				"direction", direction, "proxy-uri", proxyURI(l.Addr(), pair))
		}
		tcp, ok := l.Addr().(*net.TCPAddr)
		local = local && ok && tcp.IP.IsLoopback()
	}
	if len(f.allow) == 0 && !local {
		logger.Warn("whoever reaches this port can claim to be any VM and gets its data; give --allow the network of the ESXi hosts")
	}
	if room > 0 {
		logger.Info("room for serial ports", "ports", room, "limit", "open files (LimitNOFILE=, ulimit -Hn)")
	}
}

// roomFor is how many connections there may be where so many files may be open; 0 if that is not known.
func roomFor(files uint64) int {
	files -= min(spareFiles, files/2)
	return int(min(files, math.MaxInt))
}

// serve serves until ctx is done or a listener fails, and logs the counters whenever somebody asks; then it shuts down.
func serve(ctx context.Context, s *server.Server, listeners []net.Listener, asked <-chan os.Signal, logger *slog.Logger) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failures := make(chan error, len(listeners))
	for _, l := range listeners {
		go func() {
			failures <- s.Serve(ctx, l)
			cancel()
		}()
	}
	go afterStorms(ctx, s.Stats().Activity, debug.FreeOSMemory)
	if os.Getenv("GOGC") == "" {
		keepHeadroom(ctx, headroom)
	}
	showCounters(ctx, s, asked, logger)
	_ = notifySystemd("STOPPING=1") // it was told that we are ready, or nobody listens
	logger.Info("stopping; answers under way are finished first", "limit", shutdownLimit)
	limited, release := context.WithTimeout(context.WithoutCancel(ctx), shutdownLimit)
	defer release()
	if err := s.Shutdown(limited); errors.Is(err, context.DeadlineExceeded) {
		logger.Warn("stopped with answers unfinished: their driver did not give them, or their guests did not take them, in time")
	}
	var err error
	for range listeners {
		err = errors.Join(err, <-failures)
	}
	logCounters(logger, s, "stopped")
	return err
}

// showCounters logs them whenever somebody asks, until ctx is done.
func showCounters(ctx context.Context, s *server.Server, asked <-chan os.Signal, logger *slog.Logger) {
	for {
		select {
		case <-asked:
			logCounters(logger, s, "counters")
		case <-ctx.Done():
			return
		}
	}
}

func logCounters(logger *slog.Logger, s *server.Server, message string) {
	logger.LogAttrs(context.Background(), slog.LevelInfo, message, s.Stats().Attrs()...)
}

func (f *runFlags) logger(w io.Writer) *slog.Logger {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	options := &slog.HandlerOptions{Level: levels[f.logLevel.value]}
	if f.logFormat.value == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// linesLost returns the log's line about lines that it lacks. It is an error, as some of them may have been.
func (f *runFlags) linesLost(lines int) []byte {
	var line bytes.Buffer
	f.logger(&line).Error("log lines were lost: what takes the log was too slow, or full", "lines", lines)
	return line.Bytes()
}

// networks reads --allow. An address alone is a network of one.
func networks(texts []string) ([]netip.Prefix, error) {
	var networks []netip.Prefix
	for i, text := range texts {
		network, err := netip.ParsePrefix(text)
		if err != nil {
			address, alone := netip.ParseAddr(text)
			if alone != nil {
				return nil, usageError{valueErrorf("allow", i, strconv.Quote(text), "not a network, as in 10.1.0.0/16 or fd00:1::/32")}
			}
			network = netip.PrefixFrom(address, address.BitLen())
		}
		if address, bits := network.Addr(), network.Bits()-96; address.Is4In6() && bits >= 0 { // as hosts' addresses are compared
			network = netip.PrefixFrom(address.Unmap(), bits)
		}
		if network != network.Masked() {
			return nil, usageError{valueErrorf("allow", i, text, "did you mean %v?", network.Masked())}
		}
		networks = append(networks, network)
	}
	return networks, nil
}

// listen opens all addresses, or none.
func listen(ctx context.Context, addresses []string) (listeners []net.Listener, err error) {
	defer func() {
		if err != nil {
			for _, l := range listeners {
				l.Close()
			}
		}
	}()
	for i, address := range addresses {
		l, err := listenOne(ctx, "listen", i, address)
		if err != nil {
			return listeners, err
		}
		listeners = append(listeners, l)
	}
	if len(listeners) == 0 {
		return nil, usageError{valueErrorf("listen", 0, "", "there is no address")}
	}
	return listeners, nil
}

// listenOne opens the address that a flag has, the one at index.
func listenOne(ctx context.Context, flag string, index int, address string) (net.Listener, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, usageError{valueErrorf(flag, index, strconv.Quote(address), "it must be host:port, or :port for all of this machine's addresses")}
	}
	if _, err := net.DefaultResolver.LookupPort(ctx, "tcp", port); err != nil {
		return nil, usageError{valueErrorf(flag, index, strconv.Quote(address), "there is no port %s", port)}
	}
	l, err := server.Listen(ctx, address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, valueErrorf(flag, index, address, "another program listens there already; 'ss -ltnp' shows which")
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, valueErrorf(flag, index, address, "this machine has no such address")
	case errors.Is(err, syscall.EACCES):
		return nil, valueErrorf(flag, index, address, "ports below 1024 need root, or the capability CAP_NET_BIND_SERVICE")
	case err != nil:
		return nil, valueErrorf(flag, index, address, "%w", err)
	}
	return l, nil
}
