package main

import (
	"cmp"
	"context"
	"errors"
	"io"
	"iter"
	"log/slog"
	"sync"
	"time"

	"vmw-cloudinit-metadata/driver/command"
	"vmw-cloudinit-metadata/driver/etcd"
	"vmw-cloudinit-metadata/driver/file"
	"vmw-cloudinit-metadata/driver/http"
	"vmw-cloudinit-metadata/driver/postgres"
	"vmw-cloudinit-metadata/internal/server"
	"vmw-cloudinit-metadata/metadata"
	"vmw-cloudinit-metadata/metadata/layer"
	"vmw-cloudinit-metadata/metadata/resilient"
)

// constructor makes a driver, and says how long a call of it may take. 0 is for one that asks nobody and needs no memory for
// outages.
type constructor func(options []byte, log *slog.Logger) (metadata.Driver, time.Duration, error)

func newFileDriver(options []byte, _ *slog.Logger) (metadata.Driver, time.Duration, error) {
	config, err := file.ParseConfig(options)
	if err != nil {
		return nil, 0, err
	}
	driver, err := file.New(config)
	return driver, 0, err
}

func newCommandDriver(options []byte, log *slog.Logger) (metadata.Driver, time.Duration, error) {
	config, err := command.ParseConfig(options)
	if err != nil {
		return nil, 0, err
	}
	config.Stderr = func(line string) { log.Info("the driver's program says", "line", line) }
	config.Trouble = func(err error) { log.Warn("trouble with the driver's program", "error", err) }
	driver, err := command.New(config)
	return driver, cmp.Or(config.Timeout, command.DefaultTimeout), err
}

func newHTTPDriver(options []byte, _ *slog.Logger) (metadata.Driver, time.Duration, error) {
	config, err := http.ParseConfig(options)
	if err != nil {
		return nil, 0, err
	}
	driver, err := http.New(config)
	return driver, cmp.Or(config.Timeout, http.DefaultTimeout), err
}

func newPostgresDriver(options []byte, _ *slog.Logger) (metadata.Driver, time.Duration, error) {
	config, err := postgres.ParseConfig(options)
	if err != nil {
		return nil, 0, err
	}
	driver, err := postgres.New(config)
	return driver, cmp.Or(config.Timeout, postgres.DefaultTimeout), err
}

func newEtcdDriver(options []byte, _ *slog.Logger) (metadata.Driver, time.Duration, error) {
	config, err := etcd.ParseConfig(options)
	if err != nil {
		return nil, 0, err
	}
	driver, err := etcd.New(config)
	return driver, cmp.Or(config.Timeout, etcd.DefaultTimeout), err
}

// source is one driver of a service.
type source struct {
	name     string
	options  []byte
	required bool
	stale    time.Duration // 0 is the default, less than 0 is never
}

// openSources makes one driver of all, the later over the earlier. place makes an error of the source at an index one for the
// user. The function that it returns closes them.
func openSources(sources []source, log *slog.Logger, place func(index int, err error) error) (metadata.Driver, func(), error) {
	var layers []layer.Layer
	var closers []func()
	closeAll := func() { together(closers) }
	for i, s := range sources {
		driver, timeout, err := drivers[s.name](s.options, log)
		if err != nil {
			closeAll()
			return nil, nil, place(i, err)
		}
		if closer, ok := driver.(io.Closer); ok {
			closers = append(closers, func() { _ = closer.Close() })
		}
		if timeout > 0 {
			driver = patient(driver, timeout, s.stale, log)
		}
		layers = append(layers, layer.Layer{Driver: driver, Required: s.required})
	}
	if len(layers) == 1 {
		return layers[0].Driver, closeAll, nil
	}
	return layer.New(layers...), closeAll, nil
}

// together calls closers at once, and returns when all have: each may have a program that takes its time to end.
func together(closers []func()) {
	var closing sync.WaitGroup
	for _, closeOne := range closers {
		closing.Go(closeOne)
	}
	closing.Wait()
}

const (
	// patience is added to a driver's own limit: its error, which says more, should come first.
	patience = time.Second
	// longestCall leaves time to give out what was found before, while the request still waits for it.
	longestCall = server.DefaultRequestTimeout - patience
)

// patient puts the memory for outages around a driver that asks somebody else.
func patient(driver metadata.Driver, timeout, stale time.Duration, log *slog.Logger) metadata.Driver {
	wrapped := resilient.New(driver, resilient.Config{
		Timeout:      min(timeout+patience, longestCall),
		StaleIfError: stale,
		Stale: func(vm metadata.VM, age time.Duration, err error) {
			log.Warn("the driver failed; what it found before is given out", "vm", vm.String(), "age", age.Round(time.Second), "error", err)
		},
		Circuit: func(open bool, err error) {
			if open {
				log.Error("the driver fails again and again, and is left alone for a while", "error", err)
				return
			}
			log.Info("the driver works again")
		},
	})
	if lister, ok := driver.(metadata.Lister); ok {
		return listing{wrapped, lister}
	}
	return wrapped
}

// listing is a driver with the list of another.
type listing struct {
	metadata.Driver
	metadata.Lister
}

// all lists what a driver holds. It fails for drivers that can't.
func all(ctx context.Context, driver metadata.Driver) (iter.Seq2[metadata.Entry, error], error) {
	lister, ok := driver.(metadata.Lister)
	if !ok {
		return nil, errors.New("this driver can't list its VMs: name one, with --name or --uuid")
	}
	return lister.All(ctx), nil
}
