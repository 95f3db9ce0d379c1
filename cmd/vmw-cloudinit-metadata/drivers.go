package main

import (
	"cmp"
	"io"
	"log/slog"
	"time"

	"vmw-cloudinit-metadata/driver/command"
	"vmw-cloudinit-metadata/driver/etcd"
	"vmw-cloudinit-metadata/driver/file"
	"vmw-cloudinit-metadata/driver/http"
	"vmw-cloudinit-metadata/driver/postgres"
	"vmw-cloudinit-metadata/metadata"
	"vmw-cloudinit-metadata/metadata/resilient"
)

func newFileDriver(options []byte, _ *slog.Logger) (metadata.Driver, error) {
	config, err := file.ParseConfig(options)
	if err != nil {
		return nil, err
	}
	return file.New(config)
}

func newCommandDriver(options []byte, log *slog.Logger) (metadata.Driver, error) {
	config, err := command.ParseConfig(options)
	if err != nil {
		return nil, err
	}
	config.Stderr = func(line string) { log.Info("the driver's program says", "line", line) }
	config.Trouble = func(err error) { log.Warn("trouble with the driver's program", "error", err) }
	driver, err := command.New(config)
	if err != nil {
		return nil, err
	}
	return patient(driver, cmp.Or(config.Timeout, command.DefaultTimeout), log), nil
}

func newHTTPDriver(options []byte, log *slog.Logger) (metadata.Driver, error) {
	config, err := http.ParseConfig(options)
	if err != nil {
		return nil, err
	}
	driver, err := http.New(config)
	if err != nil {
		return nil, err
	}
	return patient(driver, cmp.Or(config.Timeout, http.DefaultTimeout), log), nil
}

func newEtcdDriver(options []byte, log *slog.Logger) (metadata.Driver, error) {
	config, err := etcd.ParseConfig(options)
	if err != nil {
		return nil, err
	}
	driver, err := etcd.New(config)
	if err != nil {
		return nil, err
	}
	return patient(driver, cmp.Or(config.Timeout, etcd.DefaultTimeout), log), nil
}

func newPostgresDriver(options []byte, log *slog.Logger) (metadata.Driver, error) {
	config, err := postgres.ParseConfig(options)
	if err != nil {
		return nil, err
	}
	driver, err := postgres.New(config)
	if err != nil {
		return nil, err
	}
	return patient(driver, cmp.Or(config.Timeout, postgres.DefaultTimeout), log), nil
}

// patience is added to a driver's own limit: its error, which says more, should come first.
const patience = time.Second

// patient puts the memory for outages around a driver that asks somebody else.
func patient(driver metadata.Driver, timeout time.Duration, log *slog.Logger) metadata.Driver {
	wrapped := resilient.New(driver, resilient.Config{
		Timeout: timeout + patience,
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
	closer, ok := driver.(io.Closer)
	if !ok {
		return wrapped
	}
	return struct {
		metadata.Driver
		io.Closer
	}{wrapped, closer}
}
