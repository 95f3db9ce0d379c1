// Command vmw-cloudinit-metadata hands virtual machines on VMware vSphere their cloud-init data over a serial port: no
// network, no ISO image and no guest tools needed.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"vmw-cloudinit-metadata/internal/logqueue"
)

// drivers are the constructors by the names that --driver takes. Each gets the driver's options, which are valid JSON, and the
// log for what it has to say later. A driver that is an io.Closer is closed at the end.
var drivers = map[string]constructor{
	"command":  newCommandDriver,
	"etcd":     newEtcdDriver,
	"file":     newFileDriver,
	"http":     newHTTPDriver,
	"postgres": newPostgresDriver,

	// The name in the tool that this one replaces.
	"vmw_cloudinit_metadata.drivers.file:FileDriver": newFileDriver,
}

var version string // set by the linker

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal kills
	os.Exit(execute(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// execute runs the command line and returns the exit code.
func execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRootCommand()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	command, err := root.ExecuteContextC(ctx)
	if log, ok := command.ErrOrStderr().(*logqueue.Queue); ok {
		stderr = log
		defer func() {
			limited, release := context.WithTimeout(context.WithoutCancel(ctx), flushLimit)
			defer release()
			_ = log.Close(limited) // nobody reads it, then
		}()
	}
	if err == nil {
		return 0
	}
	fmt.Fprintf(stderr, "%s: %v\n", command.CommandPath(), err)
	if !isUsage(err) {
		return exitFailure
	}
	fmt.Fprintf(stderr, "See '%s --help'.\n", command.CommandPath())
	return exitUsage
}
