// Command vmw-cloudinit-guest fetches this machine's cloud-init data over its serial port.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"vmw-cloudinit-metadata/internal/guest"
	"vmw-cloudinit-metadata/internal/tty"
	"vmw-cloudinit-metadata/nocloud/seed"
	"vmw-cloudinit-metadata/packet"
)

const (
	name = "vmw-cloudinit-guest"
	// wrongUsage is the exit code for it; the others are the outcomes'.
	wrongUsage = 2
	// prefix begins the names of the environment variables that set the flags' defaults.
	prefix        = "VMW_CLOUDINIT_GUEST_"
	defaultResult = "/run/vmw-cloudinit-guest/result.json"
)

// version is set by the linker.
var version string

const usage = `Usage: vmw-cloudinit-guest COMMAND [FLAGS]

Commands:
  seed           fetch this machine's data and write cloud-init's NoCloud seed
  get DOCUMENT   print one: meta-data, user-data, vendor-data or network-config
  probe          say which serial port has a server behind it, and why others don't
  version        print the version

"vmw-cloudinit-guest COMMAND -h" lists a command's flags. Each can be set in the
environment, too: --wait is VMW_CLOUDINIT_GUEST_WAIT.

Exit codes: 0 all is well, 1 something local failed, 2 wrong usage, 3 the server
has nothing for this machine, 4 denied, 5 nobody answered, 6 no serial port,
7 the server's data is wrong, 8 the server can't find out, 9 the port is in use.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	p := program{out: os.Stdout, err: os.Stderr, env: os.LookupEnv}
	code := p.run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// program is the command line with its surroundings.
type program struct {
	out, err io.Writer
	env      func(string) (string, bool)
}

func (p *program) run(ctx context.Context, args []string) int {
	if len(args) == 0 {
		return p.usage("which command?")
	}
	command, args := args[0], args[1:]
	switch command {
	case "seed":
		return p.seed(ctx, args)
	case "get":
		return p.get(ctx, args)
	case "probe":
		return p.probe(ctx, args)
	case "version", "--version", "-version":
		fmt.Fprintf(p.out, "%s %s %s/%s\n", name, versionText(), runtime.GOOS, runtime.GOARCH)
		return 0
	case "help", "--help", "-help", "-h":
		if len(args) == 1 && args[0] != "help" && !strings.HasPrefix(args[0], "-") {
			return p.run(ctx, []string{args[0], "-h"})
		}
		fmt.Fprint(p.out, usage)
		return 0
	}
	return p.usage(fmt.Sprintf("there is no command %q", command))
}

func (p *program) usage(problem string) int {
	fmt.Fprintf(p.err, "%s: %s\n%s", name, problem, usage)
	return wrongUsage
}

func versionText() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(unknown)"
}

// flags are a command's, with the environment's defaults.
type flags struct {
	*flag.FlagSet
	p        *program
	config   guest.Config
	operands []string // what is no flag
	// lenient has a variable with a wrong value be as none: a boot without data is worse. ignored says which.
	lenient bool
	ignored []string
}

func (p *program) flags(command, arguments string, wait time.Duration, waitUsage string) *flags {
	f := &flags{FlagSet: flag.NewFlagSet(command, flag.ContinueOnError), p: p}
	f.SetOutput(p.err)
	f.Usage = func() {
		fmt.Fprintf(f.Output(), "Usage: %s %s [FLAGS]%s\n", name, command, arguments)
		f.PrintDefaults()
	}
	f.StringVar(&f.config.Device, "device", "", "`PATH` of the serial port (default: each one that a server can be behind)")
	f.IntVar(&f.config.Speed, "speed", tty.DefaultSpeed, "the port's speed in `BAUD`")
	f.Var((*protocol)(&f.config.Protocol), "protocol", "`VERSION` of the protocol: 1, 2, or auto, the default, for 2 with a way back to 1")
	f.config.Wait = wait
	f.Var((*duration)(&f.config.Wait), "wait", waitUsage)
	return f
}

// duration is a flag's value. The flag package has one that says "parse error" of a number without its unit.
type duration time.Duration

func (d *duration) String() string { return time.Duration(*d).String() }

// Set implements flag.Value.
func (d *duration) Set(text string) error {
	value, err := time.ParseDuration(text)
	if err != nil {
		return errors.New("it takes a number with its unit, as in 90s or 2m")
	}
	if value <= 0 {
		return errors.New("it must be more than nothing")
	}
	*d = duration(value)
	return nil
}

// protocol is a flag's value, 0 for auto.
type protocol int

func (v *protocol) String() string {
	if *v == 0 {
		return "auto"
	}
	return strconv.Itoa(int(*v))
}

// Set implements flag.Value.
func (v *protocol) Set(text string) error {
	switch text {
	case "1", "2":
		*v = protocol(text[0] - '0')
	case "auto":
		*v = 0
	default:
		return errors.New("it may be 1, 2 or auto")
	}
	return nil
}

// parse takes the environment first, then the arguments. Unless ok, the program ends with code.
func (f *flags) parse(args []string, most int) (code int, ok bool) {
	var bad error
	f.VisitAll(func(fl *flag.Flag) {
		key := prefix + strings.ToUpper(strings.ReplaceAll(fl.Name, "-", "_"))
		text, set := f.p.env(key)
		if set && (text != "" || f.mayBeEmpty(fl)) && bad == nil {
			if err := f.Set(fl.Name, text); err != nil {
				err = fmt.Errorf("%s=%q: %w", key, text, err)
				if !f.lenient {
					bad = err
					return
				}
				f.ignored = append(f.ignored, err.Error()+"; it is ignored")
			}
		}
	})
	if bad == nil {
		for { // flags may come behind an operand, too
			switch err := f.Parse(args); {
			case errors.Is(err, flag.ErrHelp):
				return 0, false
			case err != nil:
				return wrongUsage, false // the flag package has said why
			}
			if f.NArg() == 0 {
				break
			}
			f.operands, args = append(f.operands, f.Arg(0)), f.Args()[1:]
		}
	}
	if bad == nil && len(f.operands) > most {
		bad = fmt.Errorf("%q is one argument too many", f.operands[most])
	}
	if bad != nil {
		fmt.Fprintf(f.p.err, "%s: %v\n", name, bad)
		return wrongUsage, false
	}
	f.config.Agent = name + "/" + versionText()
	f.config.Log = f.p.log
	return 0, true
}

// mayBeEmpty says whether a flag's empty value means something else than its default.
func (f *flags) mayBeEmpty(fl *flag.Flag) bool { return fl.Name == "result" || fl.Name == "console" }

func (p *program) log(line string) { fmt.Fprintf(p.err, "%s: %s\n", name, line) }

func (p *program) seed(ctx context.Context, args []string) int {
	// A log that nobody reads any more must not end a boot without its data.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	f := p.flags("seed", "", guest.DefaultWait, "`DURATION` that a first boot waits for a server; later ones wait at most "+guest.LaterWait.String())
	result := f.String("result", defaultResult, "`FILE` for the result, in JSON; empty for none")
	console := f.String("console", "/dev/console", "`PATH` of the console that hears what is waited for; empty for none")
	f.StringVar(&f.config.Dir, "dir", seed.DefaultDir, "`FOLDER` of the seed")
	f.StringVar(&f.config.CloudDir, "cloud-dir", guest.DefaultCloudDir, "`FOLDER` of cloud-init's state")
	f.lenient = true
	if code, ok := f.parse(args, 0); !ok {
		return code
	}
	if *console != "" {
		f.config.Console = func(line string) { tell(*console, name+": "+line) }
	}
	for _, line := range f.ignored {
		p.log(line)
		if f.config.Console != nil {
			f.config.Console(line)
		}
	}
	r := guest.Seed(ctx, f.config)
	if *result != "" {
		if err := r.Save(*result); err != nil {
			p.log("the result can't be written: " + err.Error())
		}
	}
	return r.Result.ExitCode()
}

func (p *program) get(ctx context.Context, args []string) int {
	f := p.flags("get", " DOCUMENT", 10*time.Second, "`DURATION` to wait for a server")
	output := f.String("output", "", "`FILE` to write to, for its owner alone (default: print)")
	if code, ok := f.parse(args, 1); !ok {
		return code
	}
	const known = "meta-data, user-data, vendor-data or network-config"
	if len(f.operands) == 0 {
		fmt.Fprintf(p.err, "%s: get needs a document: %s\n", name, known)
		return wrongUsage
	}
	document := packet.Document(f.operands[0])
	if !document.Valid() {
		fmt.Fprintf(p.err, "%s: there is no document %q, but %s\n", name, f.operands[0], known)
		return wrongUsage
	}
	data, outcome, err := guest.Get(ctx, f.config, document, p.progress(document))
	if err != nil {
		p.log(err.Error())
		return outcome.ExitCode()
	}
	if *output != "" {
		err = write(*output, data)
	} else {
		_, err = p.out.Write(data)
	}
	if err != nil {
		p.log(err.Error())
		return guest.Failed.ExitCode()
	}
	return 0
}

// write makes a file that only its owner can read, whoever could read the one that was there.
func write(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 && runtime.GOOS != "windows" {
		err = f.Chmod(0o600)
	}
	if err == nil {
		_, err = f.Write(data)
	}
	return errors.Join(err, f.Close())
}

// progress draws a bar on a terminal, and nothing elsewhere.
func (p *program) progress(document packet.Document) func(done, total int64) {
	terminal, ok := p.err.(*os.File)
	if !ok || !tty.IsTerminal(terminal) {
		return nil
	}
	const width = 40
	return func(done, total int64) {
		full := int(done * width / total)
		fmt.Fprintf(terminal, "\r%s [%s%s] %d of %d bytes", document, strings.Repeat("#", full), strings.Repeat(".", width-full), done, total)
		if done == total {
			fmt.Fprintln(terminal)
		}
	}
}

func (p *program) probe(ctx context.Context, args []string) int {
	f := p.flags("probe", "", 8*time.Second, "`DURATION` for which each port is asked")
	if code, ok := f.parse(args, 0); !ok {
		return code
	}
	findings, err := guest.Probe(ctx, f.config)
	if err != nil {
		p.log(err.Error())
	}
	best := guest.NoPort
	for _, finding := range findings {
		p.say(finding)
		if rank(finding.Outcome) > rank(best) {
			best = finding.Outcome
		}
	}
	return best.ExitCode()
}

// rank orders what is behind ports: data, a server's no, silence, nothing.
func rank(o guest.Outcome) int {
	switch o {
	case guest.OK:
		return 4
	case guest.NotFound, guest.Denied, guest.Invalid, guest.Unavailable:
		return 3
	case guest.NoPort:
		return 0
	case guest.Unreachable:
		return 1
	}
	return 2
}

func (p *program) say(finding guest.Finding) {
	switch {
	case !finding.Asked:
		fmt.Fprintf(p.out, "%s: not asked: %s\n", finding.Path, finding.Problem)
	case finding.Outcome != guest.OK:
		fmt.Fprintf(p.out, "%s: %s: %s\n", finding.Path, finding.Outcome, finding.Problem)
	default:
		fmt.Fprintf(p.out, "%s: a server answers, with version %d", finding.Path, finding.Version)
		for _, document := range packet.Documents() {
			if size, ok := finding.Sizes[document]; ok {
				fmt.Fprintf(p.out, ", %s: %d bytes", document, size)
			}
		}
		fmt.Fprintln(p.out)
	}
}
