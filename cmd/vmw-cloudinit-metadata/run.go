package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"vmw-cloudinit-metadata/internal/config"
	"vmw-cloudinit-metadata/internal/server"
)

// shutdownLimit is how long answers under way may take once the server is told to end: less than the 90 s after
// which systemd kills.
const shutdownLimit = 10 * time.Second

const runHelp = `run starts the server. It ends in order at SIGTERM or SIGINT: answers under way are finished, for 10 s at most.
SIGUSR1 has it log its counters.

With --config, SIGHUP reads the file again: its services and their drivers are taken over, or, if there is a mistake in it, none of
them, and the log says why.

Every flag can come from the environment instead, as its help says; values of a flag that may be repeated are
separated by commas there.`

const runExample = `  vmw-cloudinit-metadata run --uri my-metadata --driver file --driver-opts '{"directory": "/etc/my-vms"}'`

type runFlags struct {
	config    string
	uri       string
	driver    driverFlags
	listen    []string
	direction *choice
	network   networkFlags
	logLevel  *choice
	logFormat *choice
}

func newRunCommand() *cobra.Command {
	f := runFlags{
		direction: newChoice("client", "any"),
		logLevel:  newChoice("info", "debug", "warn", "error"),
		logFormat: newChoice("text", "json"),
	}
	cmd := &cobra.Command{
		Use:     "run --uri URI --driver-opts JSON",
		Short:   "Run the server",
		Long:    runHelp,
		Example: runExample,
		Args:    noArguments,
		RunE:    func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.config, "config", "", "configuration file: all that these flags say, and several services; SIGHUP reads it again")
	flags.StringVar(&f.uri, "uri", "", "the port URI that the VMs' serial ports have in vSphere; any text, but the same at both ends")
	f.driver.register(flags)
	flags.StringSliceVar(&f.listen, "listen", []string{":13370"}, "address to listen on for ESXi hosts; may be repeated")
	flags.Var(f.direction, "direction", `the ports' direction in vSphere; "any" also takes ports that are set to server`)
	f.network.register(flags)
	flags.Var(f.logLevel, "log-level", "the least that is logged")
	flags.Var(f.logFormat, "log-format", "how it is logged, to stderr")
	fromEnvironment(cmd)
	return cmd
}

func (f *runFlags) run(cmd *cobra.Command) error {
	ctx, stderr := cmd.Context(), cmd.ErrOrStderr()
	var file *configuration
	var content *config.Config
	if f.config != "" {
		var err error
		if file, content, err = openConfiguration(cmd, f.config); err != nil {
			return err
		}
	} else if f.uri == "" {
		return usageErrorf("--uri is missing: the port URI that the VMs' serial ports have in vSphere")
	}
	logger := f.logger(stderr)
	services, closeServices, err := f.services(content, logger)
	if err != nil {
		return err
	}
	closeDrivers := sync.OnceFunc(closeServices)
	defer closeDrivers()
	cfg := server.Config{
		Services:     services,
		AnyDirection: f.direction.value == "any",
		Logger:       logger,
	}
	pair, err := f.network.apply(&cfg, logger)
	if err != nil {
		return err
	}
	s, err := server.New(cfg)
	if err != nil {
		return usageError{err}
	}
	listeners, err := listen(f.listen)
	if err != nil {
		return err
	}
	if file != nil {
		defer file.reloadOnSignal(s, closeDrivers, logger)()
	}
	for _, l := range listeners {
		for _, service := range f.describe(content) {
			logger.Info("listening", "address", l.Addr().String(), "uri", service.uri, "driver", service.driver, "version", versionText())
		}
	}
	f.network.announce(listeners, pair, logger)
	if err := notifySystemd("READY=1"); err != nil {
		logger.Warn("can't tell systemd that the server is ready", "error", err)
	}
	return serve(ctx, s, listeners, logger)
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

// serve serves until ctx is done or a listener fails, and shuts down.
func serve(ctx context.Context, s *server.Server, listeners []net.Listener, logger *slog.Logger) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	logCountersOnSignal(ctx, s, logger)
	failures := make(chan error, len(listeners))
	for _, l := range listeners {
		go func() {
			failures <- s.Serve(ctx, l)
			cancel()
		}()
	}
	<-ctx.Done()
	_ = notifySystemd("STOPPING=1") // it was told that we are ready, or nobody listens
	logger.Info("stopping; answers under way are finished first", "limit", shutdownLimit)
	limited, release := context.WithTimeout(context.WithoutCancel(ctx), shutdownLimit)
	defer release()
	if err := s.Shutdown(limited); errors.Is(err, context.DeadlineExceeded) {
		logger.Warn("stopped with answers unfinished: their guests did not take them in time")
	}
	var err error
	for range listeners {
		err = errors.Join(err, <-failures)
	}
	logger.LogAttrs(ctx, slog.LevelInfo, "counters", s.Stats().Attrs()...)
	if err == nil {
		logger.Info("stopped")
	}
	return err
}

func (f *runFlags) logger(w io.Writer) *slog.Logger {
	var options slog.HandlerOptions
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.logLevel.value)); err == nil {
		options.Level = level
	}
	if f.logFormat.value == "json" {
		return slog.New(slog.NewJSONHandler(w, &options))
	}
	return slog.New(slog.NewTextHandler(w, &options))
}

// listen opens all addresses, or none.
func listen(addresses []string) (listeners []net.Listener, err error) {
	defer func() {
		if err != nil {
			for _, l := range listeners {
				l.Close()
			}
		}
	}()
	for _, address := range addresses {
		if _, _, err := net.SplitHostPort(address); err != nil {
			return listeners, usageErrorf("--listen %q: it must be host:port, or :port for all of this machine's addresses", address)
		}
		l, err := net.Listen("tcp", address)
		switch {
		case errors.Is(err, syscall.EADDRINUSE):
			return listeners, fmt.Errorf("--listen %s: another program listens there already; 'ss -ltnp' shows which", address)
		case errors.Is(err, syscall.EADDRNOTAVAIL):
			return listeners, fmt.Errorf("--listen %s: this machine has no such address", address)
		case errors.Is(err, syscall.EACCES):
			return listeners, fmt.Errorf("--listen %s: ports below 1024 need root, or the capability CAP_NET_BIND_SERVICE", address)
		case err != nil:
			return listeners, fmt.Errorf("--listen %s: %w", address, err)
		}
		listeners = append(listeners, l)
	}
	if len(listeners) == 0 {
		return nil, usageErrorf("--listen: there is no address")
	}
	return listeners, nil
}
