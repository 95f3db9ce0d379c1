//go:build linux

// Command bench measures the server beside servers that do next to nothing, in turn and on the same machine, and
// writes tables, charts and the raw figures into a directory. docs/performance.md says what the cases mean.
package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"vmw-cloudinit-metadata/bench/report"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "role" {
		if err := role(os.Args[2:], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
		os.Exit(1)
	}
}

// bench is one run.
type bench struct {
	sizes  sizes
	kinds  []serverKind
	only   []string // names of the servers to measure; empty for all
	report *report.Report
	log    io.Writer
	begin  time.Time

	self, server string // programs
	work         string // directory for files that nobody looks at, except the processes' logs
	certificate  string // file with a key
	prepared     []string
	workers      int
}

func (b *bench) progress(format string, args ...any) {
	fmt.Fprintf(b.log, "%6.1fs  %s\n", time.Since(b.begin).Seconds(), fmt.Sprintf(format, args...))
}

func (b *bench) kind(name string) serverKind {
	return b.kinds[slices.IndexFunc(b.kinds, func(k serverKind) bool { return k.name == name })]
}

func run(args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	small := flags.Bool("small", false, "few VMs and short runs: tries everything in two minutes, for CI")
	only := flags.String("cases", "", "measure the cases that match this `regexp` alone")
	servers := flags.String("servers", "", "measure these servers alone: `names` separated by semicolons")
	rounds := flags.Int("rounds", 0, "how many `turns` (0: 5, or 1 with -small)")
	out := flags.String("out", "bench/out", "`directory` of the report")
	program := flags.String("server", "", "the server's `program` (default: built from the source in this directory)")
	against := flags.String("against", "", "measure this other build of the server's `program` too, in turn, as \"former\"")
	then := flags.String("compare", "", "print the figures beside those of this former report, a JSON `file`")
	list := flags.Bool("list", false, "list the cases and servers, and measure nothing")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("no arguments are taken, and there is %q", flags.Arg(0))
	}
	kinds := serverKinds()
	if *against != "" {
		kinds = slices.Insert(kinds, 1, formerKind(*against))
	}
	b := &bench{sizes: fullSizes(), kinds: kinds, log: stderr, begin: time.Now()}
	if *small {
		b.sizes = smallSizes()
	}
	if *rounds > 0 {
		b.sizes.rounds = *rounds
	}
	wanted, err := regexp.Compile(*only)
	if err != nil {
		return fmt.Errorf("-cases: %w", err)
	}
	var chosen []benchCase
	var shown []report.Case
	for _, c := range cases(b.sizes) {
		if wanted.MatchString(c.Name) {
			chosen, shown = append(chosen, c), append(shown, c.Case)
		}
	}
	if len(chosen) == 0 {
		return fmt.Errorf("-cases: no case matches %q; -list shows them", *only)
	}
	if *servers != "" {
		for name := range strings.SplitSeq(*servers, ";") {
			if name = strings.TrimSpace(name); !slices.ContainsFunc(b.kinds, func(k serverKind) bool { return k.name == name }) {
				return fmt.Errorf("-servers: no server %q; -list shows them", name)
			}
			b.only = append(b.only, name)
		}
	}
	if *list {
		for _, c := range chosen {
			fmt.Fprintf(stdout, "%-16s %s\n", c.Name, c.Title)
		}
		for _, kind := range b.kinds {
			fmt.Fprintf(stdout, "%-16s %s\n", "server", kind.name)
		}
		return nil
	}
	var formerReport *report.Report
	if *then != "" {
		if formerReport, err = report.Read(*then); err != nil {
			return err
		}
	}
	defer func() {
		if b.work != "" {
			_ = os.RemoveAll(b.work) // what is left says so in its name
		}
	}()
	if err := b.setUp(*out, *program, *small); err != nil {
		return err
	}
	for _, c := range chosen {
		if err := c.run(b, c.Name); err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
	}
	return b.write(*out, shown, formerReport, stdout)
}

// setUp finds or makes what the cases need.
func (b *bench) setUp(out, program string, small bool) (err error) {
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	if b.work, err = os.MkdirTemp(out, "work-"); err != nil {
		return err
	}
	if b.work, err = filepath.Abs(b.work); err != nil {
		return err
	}
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	b.certificate = filepath.Join(b.work, "certificate.pem")
	if err := makeCertificate(b.certificate); err != nil {
		return err
	}
	b.server = program
	if b.server == "" && len(b.selected([]string{ours})) > 0 {
		b.server = filepath.Join(b.work, "vmw-cloudinit-metadata")
		build := exec.Command("go", "build", "-trimpath", "-o", b.server, "./cmd/vmw-cloudinit-metadata")
		if text, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("building the server: %w\n%s", err, text)
		}
	}
	// Each connection is a file. The children inherit the limit.
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("getrlimit: %w", err)
	}
	limit.Cur = limit.Max
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("setrlimit: %w", err)
	}
	const spare = 500 // what a process opens beside connections
	for i, vms := range b.sizes.idle {
		if most := int(min(limit.Max, 1<<30)) - spare; vms > most {
			b.progress("a process may open %d files here: idle VMs are measured at %d in place of %d", limit.Max, most, vms)
			b.sizes.idle[i] = most
		}
	}
	if most := int(min(limit.Max, 1<<30)) - spare - b.sizes.parallel; max(b.sizes.storm, b.sizes.connected) > most {
		return fmt.Errorf("a process may open %d files, and the cases need more: raise the limit (ulimit -Hn) or use -small", limit.Max)
	}
	b.report = &report.Report{
		Version: report.Version, When: time.Now().UTC().Truncate(time.Second), Revision: revision(), Small: small, Machine: machine(),
	}
	return nil
}

// write writes the report's files into out, and the tables to stdout too.
func (b *bench) write(out string, shown []report.Case, then *report.Report, stdout io.Writer) error {
	var text bytes.Buffer
	m := b.report.Machine
	fmt.Fprintf(&text, "Revision %s, %s. %s, %d cores, %s, Linux %s, %s. Load and server share the machine.\n\n",
		b.report.Revision, b.report.When.Format(time.DateOnly), m.CPU, m.Cores, m.Memory, m.Kernel, m.Go)
	if b.report.Small {
		fmt.Fprint(&text, "A small run: it shows that all works, and its figures say little.\n\n")
	}
	b.report.Goals(&text, goals(b.sizes))
	fmt.Fprintln(&text)
	b.report.Tables(&text, shown)
	if then != nil {
		fmt.Fprintf(&text, "## Beside %s of %s\n\n", then.Revision, then.When.Format(time.DateOnly))
		b.report.Compare(&text, then)
	}
	if _, err := stdout.Write(text.Bytes()); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(out, "report.md"), text.Bytes(), 0o644); err != nil {
		return err
	}
	for name, svg := range b.report.Charts(shown) {
		if err := os.WriteFile(filepath.Join(out, name), svg, 0o644); err != nil {
			return err
		}
	}
	return b.report.Write(filepath.Join(out, "report.json"))
}

// revision is the source's, as git knows it.
func revision() string {
	text, err := exec.Command("git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(text))
}

func machine() report.Machine {
	m := report.Machine{CPU: runtime.GOARCH, Cores: runtime.NumCPU(), Memory: "unknown memory", Kernel: "unknown", Go: runtime.Version()}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if found := regexp.MustCompile(`(?m)^model name\s*: (.*)$`).FindSubmatch(text); found != nil {
			m.CPU = string(found[1])
		}
	}
	if values, err := kilobytes("/proc/meminfo"); err == nil {
		m.Memory = fmt.Sprintf("%.0f GiB", values["MemTotal"]/(1<<30))
	}
	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(text))
	}
	return m
}

// makeCertificate writes a self-signed certificate for localhost, and its key, into one file.
func makeCertificate(name string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 0, 2),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})
	text = append(text, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
	return os.WriteFile(name, text, 0o600)
}
