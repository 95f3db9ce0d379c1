package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"vmw-cloudinit-metadata/internal/config"
	"vmw-cloudinit-metadata/internal/nearest"
	"vmw-cloudinit-metadata/internal/options"
	"vmw-cloudinit-metadata/internal/server"
)

// drainTime is how long the drivers of a former configuration stay open: longer than a request takes.
const drainTime = time.Minute

// maxFormer is how many former configurations may have open drivers, with their programs and connections: somebody may
// reload once for each file that he changes. Beyond it the oldest one's are closed at once.
const maxFormer = 8

// reloadLimit is how long a reload under way, and the drivers' closing, may hold up the end of the program: a file system that
// hangs must not keep a restart from being one of seconds. It is more than a driver's program has before it is killed.
const reloadLimit = 5 * time.Second

// serviceFlags are what a configuration file has services for.
func serviceFlags() []string { return []string{"uri", "driver", "driver-opts"} }

// settings are the flags that a configuration file may have.
func settings(flags *pflag.FlagSet) []string {
	var names []string
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Name != "config" && f.Name != "help" && !slices.Contains(serviceFlags(), f.Name) {
			names = append(names, f.Name)
		}
	})
	return names
}

// configuration is a configuration file in use.
type configuration struct {
	path     string
	settings []string
	last     []config.Setting
	places   map[string][]config.Place // of the flags' values that are from the file
}

// open reads the file, and gives those flags its values that neither the command line nor the environment has set.
func (c *configuration) open(cmd *cobra.Command, path string) (*config.Config, error) {
	flags := cmd.Flags()
	for _, name := range serviceFlags() {
		if flags.Changed(name) {
			return nil, usageErrorf("--config and %s: the services' URIs and drivers are in the file; leave one of them out", spelling(flags.Lookup(name)))
		}
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	c.path, c.settings, c.places = path, settings(flags), map[string][]config.Place{}
	content, err := c.read()
	if err != nil {
		return nil, usageError{err}
	}
	c.last = content.Settings
	for _, setting := range content.Settings {
		if _, several := flags.Lookup(setting.Key).Value.(pflag.SliceValue); !several && len(setting.Values) != 1 {
			return nil, usageError{setting.Errorf("%s: must be one value", setting.Key)}
		}
		if flags.Changed(setting.Key) {
			continue
		}
		if err := c.take(flags, setting); err != nil {
			return nil, usageError{err}
		}
	}
	return content, nil
}

// take gives a flag the values of the file.
func (c *configuration) take(flags *pflag.FlagSet, setting config.Setting) error {
	flag := flags.Lookup(setting.Key)
	for i, value := range setting.Values {
		if err := flags.Set(setting.Key, value); err != nil {
			return setting.Places[i].Errorf("%s: %w", setting.Key, unfit(flag, err))
		}
		taken := 1
		if list, several := flag.Value.(pflag.SliceValue); several { // a value may hold several, with commas between
			taken = len(list.GetSlice())
		}
		for len(c.places[setting.Key]) < max(taken, 1) {
			c.places[setting.Key] = append(c.places[setting.Key], setting.Places[i])
		}
	}
	return nil
}

// unfit says what a flag's value must be, where pflag's error does not.
func unfit(flag *pflag.Flag, err error) error {
	switch flag.Value.Type() {
	case "int":
		return errors.New("it must be a whole number, as in 500")
	case "duration":
		return errors.New("it must be a time with its unit, as in 30s")
	case "bool":
		return errors.New("it must be true or false")
	}
	return errors.Unwrap(err)
}

// valueError is something wrong with a flag's value, wherever that is from.
type valueError struct {
	flag  string
	index int    // of the value, if there are several
	value string // as the error shows it, if it does
	error
}

func (e valueError) Error() string { return e.about("--" + e.flag).Error() }
func (e valueError) Unwrap() error { return e.error }

func (e valueError) about(name string) error {
	if e.value != "" {
		name += " " + e.value
	}
	return fmt.Errorf("%s: %w", name, e.error)
}

func valueErrorf(flag string, index int, value, format string, args ...any) error {
	return valueError{flag, index, value, fmt.Errorf(format, args...)}
}

// locate has an error about a flag's value say where that is from: the file, with its place there, or a variable.
func (c *configuration) locate(flags *pflag.FlagSet, err error) error {
	wrong, ok := errors.AsType[valueError](err)
	if !ok {
		return err
	}
	located := wrong.about(spelling(flags.Lookup(wrong.flag)))
	if places := c.places[wrong.flag]; len(places) > 0 {
		located = places[min(wrong.index, len(places)-1)].Errorf("%w", wrong.about(wrong.flag))
	}
	if isUsage(err) {
		return usageError{located}
	}
	return located
}

func (c *configuration) read() (*config.Config, error) {
	data, err := os.ReadFile(c.path)
	if err != nil {
		return nil, fmt.Errorf("--config: %w", err)
	}
	return config.Parse(c.path, data, c.settings)
}

// openServices makes the drivers of all services, or of none.
func openServices(services []config.Service, log *slog.Logger) ([]server.Service, func(), error) {
	var opened []server.Service
	var closers []func()
	closeAll := func() { together(closers) }
	for _, service := range services {
		var sources []source
		for _, driver := range service.Drivers {
			if _, known := drivers[driver.Name]; !known {
				closeAll()
				return nil, nil, usageError{driver.At("driver").Errorf("there is no driver %q%s", driver.Name, nearest.Hint(driver.Name, driverNames()))}
			}
			sources = append(sources, source{name: driver.Name, options: driver.Options, required: driver.Required, stale: driver.StaleIfError})
		}
		driver, closeOne, err := openSources(sources, log, func(i int, err error) error {
			return usageError{optionsPlace(service.Drivers[i], err).Errorf("options: %w", err)}
		})
		if err != nil {
			closeAll()
			return nil, nil, err
		}
		closers = append(closers, closeOne)
		opened = append(opened, server.Service{URI: service.URI, Driver: driver})
	}
	return opened, closeAll, nil
}

// optionsPlace is where the option stands that a driver's error is about.
func optionsPlace(driver config.Driver, err error) config.Place {
	if wrong, ok := errors.AsType[*options.Error](err); ok && wrong.Key != "" {
		return driver.At("options." + wrong.Key)
	}
	return driver.At("options")
}

// reload takes the services of the file as it is now, all or none. Settings can't change while the server runs: a file in which they
// did is refused as well.
func (c *configuration) reload(s *server.Server, log *slog.Logger) (closeServices func(), err error) {
	content, err := c.read()
	if err != nil {
		return nil, err
	}
	if key := changed(c.last, content.Settings); key != "" {
		return nil, fmt.Errorf("%s: %s has changed, which takes a restart", c.path, key)
	}
	services, closeServices, err := openServices(content.Services, log)
	if err != nil {
		return nil, err
	}
	if err := s.SetServices(services); err != nil {
		closeServices()
		return nil, err
	}
	return closeServices, nil
}

// changed returns the first setting that differs.
func changed(before, after []config.Setting) string {
	values := func(settings []config.Setting, key string) []string {
		for _, s := range settings {
			if s.Key == key {
				return s.Values
			}
		}
		return nil
	}
	for _, s := range slices.Concat(before, after) {
		if !slices.Equal(values(before, s.Key), values(after, s.Key)) {
			return s.Key
		}
	}
	return ""
}

// leaving are services that were replaced, and are closed at a time.
type leaving struct {
	at            time.Time
	closeServices func()
}

// reloadOnSignal reloads the configuration at each of signals. The function that it returns ends that, and closes the drivers: those
// of closeServices, or of what came after them.
func (c *configuration) reloadOnSignal(signals <-chan os.Signal, s *server.Server, closeServices func(), log *slog.Logger) (stop func()) {
	done, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		c.reloadAt(signals, done, s, closeServices, log)
	}()
	return func() {
		close(done)
		select {
		case <-gone:
		case <-time.After(reloadLimit):
			log.Warn("stopped without waiting for the configuration to be read, or a driver to be closed", "file", c.path)
		}
	}
}

func (c *configuration) reloadAt(signals <-chan os.Signal, done <-chan struct{}, s *server.Server, closeServices func(), log *slog.Logger) {
	var former []leaving
	var closing sync.WaitGroup
	for {
		var due <-chan time.Time
		if len(former) > 0 {
			due = time.After(time.Until(former[0].at))
		}
		select {
		case <-signals:
		case <-due:
			closing.Go(former[0].closeServices)
			former = slices.Delete(former, 0, 1)
			continue
		case <-done:
			for _, f := range former {
				closing.Go(f.closeServices)
			}
			closeServices()
			closing.Wait()
			return
		}
		closeNew, err := c.reload(s, log)
		if err != nil {
			log.Error("the configuration is not taken over; the former one stays", "error", err)
			continue
		}
		if len(former) == maxFormer {
			closing.Go(former[0].closeServices)
			former = slices.Delete(former, 0, 1)
		}
		former = append(former, leaving{time.Now().Add(drainTime), closeServices})
		closeServices = closeNew
		log.Info("the configuration is taken over", "file", c.path)
	}
}

// onTerminal reports whether somebody runs the program on a terminal, whose end is the program's too.
func onTerminal() bool {
	return term.IsTerminal(int(os.Stdin.Fd())) || term.IsTerminal(int(os.Stderr.Fd()))
}

// outliveHangup answers SIGHUP, which is meant as "read your configuration again", in a server that has none. The function
// that it returns ends that.
func outliveHangup(signals <-chan os.Signal, log *slog.Logger) (stop func()) {
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-signals:
				log.Info("SIGHUP: without --config there is nothing to read again; data and the server's certificate are read when they change")
			case <-done:
				return
			}
		}
	}()
	return func() { close(done) }
}
