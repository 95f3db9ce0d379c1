package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"vmw-cloudinit-metadata/internal/nearest"
	"vmw-cloudinit-metadata/metadata"
)

// The exit codes. They are promised in the root command's help.
const (
	exitFailure = 1
	exitUsage   = 2
)

const rootHelp = `vmw-cloudinit-metadata hands virtual machines on VMware vSphere their cloud-init data (meta-data, user-data,
vendor-data and network-config) over a serial port, before they have a network.

A VM has a serial port of the kind "network", with this server as its virtual serial port concentrator. The
VM's ESXi host connects, and says which VM it is; the program vmw-cloudinit-guest in the VM asks.

Exit codes: 0 if all went well, 1 if something failed, 2 if the command line, the environment or the
configuration is wrong.`

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "vmw-cloudinit-metadata",
		Short:         "cloud-init's data for virtual machines, over their serial ports",
		Long:          rootHelp,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return usageErrorf("there is no command %q%s", args[0], nearest.Hint(args[0], commandNames(cmd)))
		},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		if bad, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
			return usageErrorf("--%s %q: %w", bad.GetFlag().Name, bad.GetValue(), unfit(bad.GetFlag(), bad))
		}
		return usageError{err}
	})
	commands := []*cobra.Command{
		newRunCommand(), newRenderCommand(), newCheckCommand(), newSimulateCommand(), newTLSInitCommand(), newVersionCommand(), newDocsCommand(),
	}
	for _, command := range commands {
		completeChoices(command)
	}
	root.AddCommand(commands...)
	return root
}

func commandNames(cmd *cobra.Command) []string {
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	return names
}

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "vmw-cloudinit-metadata", versionText())
			return err
		},
	}
}

func versionText() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return "unknown"
}

// usageError is a mistake in the command line, the environment or the configuration.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usageErrorf(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

func isUsage(err error) bool {
	_, ok := errors.AsType[usageError](err)
	return ok
}

func noArguments(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageErrorf("what is %q for? A value that has blanks needs quotes", args[0])
	}
	return nil
}

// fromEnvironment lets each of the command's flags come from its variable, VMW_CLOUDINIT_LISTEN and its like, and says so
// in the flag's help. What the command line has goes first; an empty variable counts as not set.
func fromEnvironment(cmd *cobra.Command) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) { f.Usage += " [$" + variable(f) + "]" })
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) (err error) {
		cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
			text := os.Getenv(variable(f))
			if err != nil || f.Changed || text == "" || f.Name == "help" {
				return
			}
			if bad := cmd.Flags().Set(f.Name, text); bad != nil {
				err = usageErrorf("the variable %s: %w", variable(f), unfit(f, bad))
			}
			_ = cmd.Flags().SetAnnotation(f.Name, fromVariable, nil) // it fails for flags that there are not
		})
		return err
	}
}

// fromVariable marks a flag whose value is from its variable.
const fromVariable = "variable"

// spelling is how the user has given the flag its value: by the command line, or by its variable.
func spelling(f *pflag.Flag) string {
	if _, ok := f.Annotations[fromVariable]; ok {
		return "the variable " + variable(f)
	}
	return "--" + f.Name
}

// warnOfStrayVariables says which variables look like a flag's, and are none: whoever misspells VMW_CLOUDINIT_ALLOW has no rule.
func warnOfStrayVariables(root *cobra.Command, log *slog.Logger) {
	var known []string
	for _, command := range root.Commands() {
		command.Flags().VisitAll(func(f *pflag.Flag) {
			known = append(known, strings.TrimPrefix(variable(f), variables))
		})
	}
	for _, setting := range os.Environ() {
		name, _, _ := strings.Cut(setting, "=")
		rest, ours := strings.CutPrefix(name, variables)
		if !ours || strings.HasPrefix(rest, "GUEST_") || slices.Contains(known, rest) {
			continue
		}
		attrs := []any{"variable", name}
		if meant, _ := nearest.Word(rest, known); meant != "" {
			attrs = append(attrs, "known", variables+meant)
		}
		log.Warn("a variable of the environment is no flag's, and has no effect", attrs...)
	}
}

// variables is what the names of flags' variables begin with. Those of the guest's program go on with GUEST_.
const variables = "VMW_CLOUDINIT_"

func variable(f *pflag.Flag) string {
	return variables + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
}

// choice is a flag's value that is one of a few words.
type choice struct {
	value string
	words []string
}

func newChoice(words ...string) *choice { return &choice{words[0], words} }
func (c *choice) String() string        { return c.value }
func (c *choice) Type() string          { return strings.Join(c.words, "|") }
func (c *choice) Set(text string) error {
	if !slices.Contains(c.words, text) {
		return fmt.Errorf("it must be %s", strings.Join(c.words, " or "))
	}
	c.value = text
	return nil
}

// completeChoices lets a shell complete the values of flags that are one of a few words.
func completeChoices(cmd *cobra.Command) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		var words []string
		if c, ok := f.Value.(*choice); ok {
			words = c.words
		} else if f.Name == "driver" {
			words = driverNames()
		}
		if words != nil {
			// The one error there is: no such flag.
			_ = cmd.RegisterFlagCompletionFunc(f.Name, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
		}
	})
}

// driverFlags choose where the data comes from.
type driverFlags struct{ names, options []string }

func (d *driverFlags) register(flags *pflag.FlagSet) {
	flags.StringArrayVar(&d.names, "driver", []string{"file"}, "where the data comes from, `NAME`: "+strings.Join(driverNames(), ", ")+"; if repeated, the data of the later goes over that of the earlier")
	flags.StringArrayVar(&d.options, "driver-opts", nil, "the driver's options, as `JSON`: '{\"directory\": \"/etc/my-vms\"}'; if repeated, for the drivers in their order")
}

// driverNames are those that are documented.
func driverNames() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(drivers)), func(name string) bool { return strings.Contains(name, ":") })
}

// open makes the driver. The function that it returns closes it.
func (d *driverFlags) open(log *slog.Logger) (metadata.Driver, func(), error) {
	if len(d.options) > len(d.names) {
		return nil, nil, usageErrorf("--driver-opts is there %d times, and --driver %d times", len(d.options), len(d.names))
	}
	var sources []source
	for i, name := range d.names {
		if _, known := drivers[name]; !known {
			return nil, nil, usageErrorf("--driver: there is no driver %q%s", name, nearest.Hint(name, driverNames()))
		}
		options := []byte("{}")
		if i < len(d.options) && strings.TrimSpace(d.options[i]) != "" {
			options = []byte(d.options[i])
		}
		if err := checkJSON(options); err != nil {
			return nil, nil, d.wrongOptions(i, err)
		}
		sources = append(sources, source{name: name, options: options})
	}
	return openSources(sources, log, d.wrongOptions)
}

// wrongOptions is an error about the options of the driver at an index.
func (d *driverFlags) wrongOptions(index int, err error) error {
	if len(d.names) == 1 {
		return usageErrorf("--driver-opts: %w", err)
	}
	return usageErrorf("--driver-opts of driver %d of %d: %w", index+1, len(d.names), err)
}

// checkJSON says at which column, counted in characters from 1, data stops being JSON.
func checkJSON(data []byte) error {
	var anything json.RawMessage
	err := json.Unmarshal(data, &anything)
	wrong, ok := errors.AsType[*json.SyntaxError](err)
	if !ok {
		return err
	}
	before := data[:min(int(wrong.Offset), len(data))]
	line := before[bytes.LastIndexByte(before, '\n')+1:]
	place := fmt.Sprintf("column %d", max(1, len([]rune(string(line)))))
	if n := bytes.Count(before, []byte("\n")); n > 0 {
		place = fmt.Sprintf("line %d, %s", n+1, place)
	}
	return fmt.Errorf("not JSON, at %s: %w (a shell needs single quotes around it all)", place, wrong)
}
