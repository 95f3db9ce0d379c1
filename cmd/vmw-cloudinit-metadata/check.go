package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"vmw-cloudinit-metadata/internal/check"
	"vmw-cloudinit-metadata/metadata"
	"vmw-cloudinit-metadata/nocloud/schema"
)

const checkHelp = `check looks at all that a driver holds, or at one VM's data: whether it can be read and rendered, what cloud-init's own
JSON schemas say to its cloud-config and its network-config, whether its public keys can be read, and whether two VMs share an
instance-id, an address, a MAC address or a hostname.

The schemas are those of an installed cloud-init, or of one that was unpacked: --schemas names the folder. Without any,
user-data is only parsed.

The exit code is 0 if there are no errors, whatever the warnings, and 1 otherwise.`

const checkExample = `  vmw-cloudinit-metadata check --driver-opts '{"directory": "/etc/my-vms"}'
  vmw-cloudinit-metadata check --driver-opts '{"directory": "."}' --output sarif >check.sarif`

type checkFlags struct {
	vm      metadata.VM
	driver  driverFlags
	schemas string
	output  *choice
}

func newCheckCommand() *cobra.Command {
	f := checkFlags{output: newChoice("text", "json", "sarif")}
	cmd := &cobra.Command{
		Use:     "check --driver-opts JSON",
		Short:   "Look for mistakes in the VMs' data",
		Long:    checkHelp,
		Example: checkExample,
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.vm.Name, "name", "", "this VM alone, by its `NAME` in vSphere")
	flags.StringVar(&f.vm.UUID, "uuid", "", "this VM alone, by its VC `UUID`")
	f.driver.register(flags)
	flags.StringVar(&f.schemas, "schemas", "", "`FOLDER` with cloud-init's schemas, or with an unpacked cloud-init; found by itself where cloud-init is installed")
	flags.Var(f.output, "output", "how findings are written to stdout")
	fromEnvironment(cmd)
	return cmd
}

// errFindings is why check fails if it worked.
var errFindings = errors.New("there are errors in the data")

func (f *checkFlags) run(ctx context.Context, stdout, stderr io.Writer) error {
	schemas, err := f.loadSchemas(stderr)
	if err != nil {
		return err
	}
	driver, closeDriver, err := f.driver.open(slog.New(slog.NewTextHandler(stderr, nil)))
	if err != nil {
		return err
	}
	defer closeDriver()
	entries, err := f.entries(ctx, driver)
	if err != nil {
		return err
	}
	checker := check.New(schemas)
	total := 0
	if counter, ok := driver.(metadata.Counter); ok && f.vm == (metadata.VM{}) {
		total, _ = counter.Count(ctx) // without it there is a number, and no bar
	}
	stopProgress := showProgress(stderr, checker, total)
	err = checkAll(checker, entries)
	stopProgress()
	if err != nil {
		return err
	}
	if checker.Checked() == 0 {
		fmt.Fprintln(stderr, "the driver holds no VM's data, so nothing was checked: is it the right place?")
	}
	findings := checker.Findings()
	switch f.output.value {
	case "json":
		err = check.WriteJSON(stdout, checker.Checked(), findings)
	case "sarif":
		err = check.WriteSARIF(stdout, versionText(), findings)
	default:
		err = check.WriteText(stdout, checker.Checked(), findings)
	}
	if bad, _ := check.Count(findings); err == nil && bad > 0 {
		err = errFindings
	}
	return err
}

func (f *checkFlags) loadSchemas(stderr io.Writer) (*schema.Schemas, error) {
	dir := f.schemas
	if dir == "" {
		places := schema.Places()
		if len(places) == 0 {
			fmt.Fprintln(stderr, "no cloud-init is installed here, so user-data is only parsed; --schemas names a folder with cloud-init's schemas")
			return nil, nil
		}
		dir = places[0]
	}
	schemas, err := schema.Load(dir)
	if err != nil {
		return nil, usageErrorf("--schemas: %w", err)
	}
	if !schemas.HasNetworks() {
		fmt.Fprintln(stderr, "this cloud-init has no schemas for network-config (23.4 and later have them)")
	}
	return schemas, nil
}

// entries are all that the driver holds, or the one VM that the flags name.
func (f *checkFlags) entries(ctx context.Context, driver metadata.Driver) (iter.Seq2[metadata.Entry, error], error) {
	if f.vm == (metadata.VM{}) {
		entries, err := all(ctx, driver)
		if err != nil {
			return nil, usageError{err}
		}
		return entries, nil
	}
	vm, err := checkedVM(f.vm)
	if err != nil {
		return nil, err
	}
	return func(yield func(metadata.Entry, error) bool) {
		instance, err := driver.Find(ctx, vm)
		entry := metadata.Entry{Key: vm.String(), VM: vm, Instance: instance}
		if err != nil && !errors.Is(err, metadata.ErrInvalid) {
			entry.Key = "" // nothing was looked at
		}
		yield(entry, err)
	}, nil
}

// checkAll checks the entries on all processors. Its error is the driver's, if that can't go on.
func checkAll(checker *check.Checker, entries iter.Seq2[metadata.Entry, error]) error {
	type item struct {
		entry metadata.Entry
		err   error
	}
	items := make(chan item)
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for i := range items {
				checker.Add(i.entry, i.err)
			}
		})
	}
	defer workers.Wait()
	defer close(items)
	for entry, err := range entries {
		if err != nil && entry.Key == "" {
			return err
		}
		items <- item{entry, err}
	}
	return nil
}

// showProgress keeps a line on a terminal up to date: a bar, if the total is known. The function that it returns takes the
// line away.
func showProgress(stderr io.Writer, checker *check.Checker, total int) func() {
	file, ok := stderr.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return func() {}
	}
	done, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				fmt.Fprint(file, "\r", progress(checker.Checked(), total), "\x1b[K")
			case <-done:
				fmt.Fprint(file, "\r\x1b[K")
				return
			}
		}
	}()
	return func() {
		close(done)
		<-gone
	}
}

// progress is the line for so many VMs checked, of a total; 0 is a total that is not known.
func progress(checked, total int) string {
	if total <= 0 {
		return fmt.Sprintf("%d VMs checked", checked)
	}
	const width = 40
	filled := width * min(checked, total) / total
	return fmt.Sprintf("[%s%s] %d of %d VMs", strings.Repeat("#", filled), strings.Repeat(" ", width-filled), checked, total)
}
