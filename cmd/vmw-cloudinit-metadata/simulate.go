package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"time"

	"github.com/spf13/cobra"

	"vmw-cloudinit-metadata/internal/simulator"
	"vmw-cloudinit-metadata/metadata"
	"vmw-cloudinit-metadata/packet"
	"vmw-cloudinit-metadata/vspc"
)

const simulateHelp = `simulate plays a VM whose serial port is connected to a server: it connects as an ESXi host does, asks for the
documents, and prints them.

With --unix or --pty, it carries bytes between the server and a program instead, until it is interrupted: a QEMU
guest, or whatever speaks over a serial line. Each program that connects to the socket is a VM that is powered on.

With --vmotion-every, the VM moves to another host, and its port to another connection, again and again. While it
does so, it goes on asking, and compares what it gets with the first answers, for --duration or until it is
interrupted; then it prints what came of it.`

const simulateExample = `  vmw-cloudinit-metadata simulate --connect localhost:13370 --uri my-metadata --name web1
  vmw-cloudinit-metadata simulate --uri my-metadata --name web1 --vmotion-every 200ms --duration 1m

  vmw-cloudinit-metadata simulate --uri my-metadata --name web1 --unix /run/web1.sock
  qemu-system-x86_64 … -serial mon:stdio -chardev socket,id=data,path=/run/web1.sock -serial chardev:data`

type simulateFlags struct {
	server    serverFlags
	vm        metadata.VM
	uri       string
	direction *choice
	timeout   time.Duration
	unix      string
	pty       string
	moves     time.Duration
	duration  time.Duration
}

func newSimulateCommand() *cobra.Command {
	f := simulateFlags{direction: newChoice("client", "server")}
	cmd := &cobra.Command{
		Use:     "simulate --uri URI {--name NAME | --uuid UUID}",
		Short:   "Be a VM: connect to a server, ask, and print",
		Long:    simulateHelp,
		Example: simulateExample,
		Args: func(cmd *cobra.Command, args []string) error {
			if link := cmd.Flags().Lookup("pty"); link.Changed && link.Value.String() == noLink && len(args) == 1 {
				return usageErrorf("--pty takes its link behind an equals sign: --pty=%s", args[0])
			}
			return noArguments(cmd, args)
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), cmd.Flags().Changed("pty"))
		},
	}
	flags := cmd.Flags()
	f.server.register(flags)
	flags.StringVar(&f.uri, "uri", "", "the port's `URI` in vSphere; the server has the same")
	flags.Var(f.direction, "direction", "the port's direction in vSphere")
	flags.StringVar(&f.vm.Name, "name", "", "the VM's `NAME`")
	flags.StringVar(&f.vm.UUID, "uuid", "", "the VM's VC `UUID`")
	flags.StringVar(&f.vm.BIOSUUID, "bios-uuid", "", "the VM's BIOS `UUID`")
	flags.DurationVar(&f.timeout, "timeout", 10*time.Second, "how long to wait for the connection, and for each answer")
	flags.StringVar(&f.unix, "unix", "", "listen on a Unix socket at this `PATH` for the program behind the port")
	flags.StringVar(&f.pty, "pty", "", "make a pseudo-terminal for the program behind the port, and a link to it at `LINK`; - for no link")
	flags.Lookup("pty").NoOptDefVal = noLink
	flags.DurationVar(&f.moves, "vmotion-every", 0, "move the VM to another host this often")
	flags.DurationVar(&f.duration, "duration", 0, "end after this time (default: with --vmotion-every, --unix or --pty, never)")
	return cmd
}

// noLink is what --pty means with no link.
const noLink = "-"

func (f *simulateFlags) run(ctx context.Context, stdout, stderr io.Writer, pty bool) error {
	vm, err := checkedVM(f.vm)
	switch {
	case f.uri == "":
		return usageErrorf("--uri is missing: the server takes only ports with its own URI")
	case err != nil:
		return err
	case vm.Name == "" && vm.UUID == "":
		return usageErrorf("which VM? Give --name, --uuid or both: the server waits for one of them before it answers")
	case f.unix != "" && pty:
		return usageErrorf("--unix and --pty: there is one port; take one of them")
	case f.moves < 0 || f.duration < 0 || f.timeout <= 0:
		return usageErrorf("a time must not be negative, nor --timeout 0")
	}
	dial, tlsConfig, err := f.server.dialer()
	if err != nil {
		return err
	}
	conf := vspc.HostConfig{
		Identity:   vspc.Identity{Name: vm.Name, VCUUID: vm.UUID, BIOSUUID: vm.BIOSUUID},
		ServiceURI: f.uri,
		Direction:  vspc.Client,
		TLS:        tlsConfig,
	}
	if f.direction.value == "server" {
		conf.Direction = vspc.Server
	}
	if f.duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.duration)
		defer cancel()
	}
	s := &simulation{flags: f, vm: vm, dial: dial, conf: conf, stdout: stdout, stderr: stderr}
	switch {
	case f.unix != "":
		return s.unix(ctx, f.unix)
	case pty:
		return s.pty(ctx, f.pty)
	case f.moves > 0:
		return s.soak(ctx)
	}
	return s.ask(ctx)
}

// simulation is one run of the command.
type simulation struct {
	flags          *simulateFlags
	vm             metadata.VM
	dial           simulator.Dialer
	conf           vspc.HostConfig
	stdout, stderr io.Writer
}

func (s *simulation) say(format string, args ...any) { fmt.Fprintf(s.stderr, format+"\n", args...) }

func (s *simulation) connect(ctx context.Context) (*simulator.Port, error) {
	limited, cancel := context.WithTimeout(ctx, s.flags.timeout)
	defer cancel()
	port, err := simulator.Connect(limited, s.dial, s.conf)
	switch {
	case err == nil:
		s.say("connected to %s as VM %v", s.flags.server.connect, s.vm)
		return port, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	}
	return nil, s.explain(err)
}

// explain adds to an error of connecting what to do about it.
func (s *simulation) explain(err error) error {
	var advice string
	switch {
	case errors.Is(err, vspc.ErrWontProxy):
		advice = "The server's log says why. Most often it has another --uri, or takes only ports of the other direction (its --direction)."
	case errors.Is(err, vspc.ErrNotProxy):
		advice = "It is no serial port concentrator, or one that demands encryption. Is the port number right? Does it take --tls?"
	case errors.Is(err, context.DeadlineExceeded):
		advice = "Is there a server, and does it expect TLS where this end has none, or the other way round?"
	case isAnswerInClear(err):
		advice = "It does not speak TLS there: leave out --tls, or telnets://, or give the server a certificate."
	case errors.Is(err, io.EOF), errors.Is(err, errConnectionReset), errors.Is(err, errBrokenPipe):
		advice = "The server's log says why; it may have a limit, or a rule on who may connect."
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, errConnectionRefused):
		advice = "Does the server run, and listen there?"
	default:
		return fmt.Errorf("%s: %w", s.flags.server.connect, err)
	}
	return fmt.Errorf("%s: %w\n%s", s.flags.server.connect, err, advice)
}

// isAnswerInClear reports whether TLS was begun with a server that speaks telnet, or something else.
func isAnswerInClear(err error) bool {
	_, ok := errors.AsType[tls.RecordHeaderError](err)
	return ok
}

// ask asks for each document once.
func (s *simulation) ask(ctx context.Context) error {
	port, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer port.Close()
	documents, err := s.fetch(ctx, port, simulator.NewGuest(port))
	if err != nil {
		return err
	}
	return printDocuments(s.stdout, documents)
}

// fetch asks for each document, and leaves out those that the VM does not have.
func (s *simulation) fetch(ctx context.Context, port *simulator.Port, guest *simulator.Guest) (map[packet.Document][]byte, error) {
	documents := make(map[packet.Document][]byte)
	for _, document := range packet.Documents() {
		limited, cancel := context.WithTimeout(ctx, s.flags.timeout)
		stop := context.AfterFunc(limited, port.Close)
		content, err := guest.Ask(document)
		stop()
		late := limited.Err() != nil && ctx.Err() == nil
		cancel()
		refusal, refused := errors.AsType[*packet.Error](err)
		switch {
		case err == nil:
			documents[document] = content
		case refused && refusal.Code == packet.NotFound && document != packet.MetaData:
		case refused && refusal.Code == packet.NotFound:
			return nil, fmt.Errorf("the server says: %s\nIs that the name, or the UUID, under which its driver has the VM?", refusal.Message)
		case refused:
			return nil, fmt.Errorf("the server can't give %s to VM %v (%s): %s\nIts log says more", document, s.vm, refusal.Code, refusal.Message)
		case late:
			return nil, fmt.Errorf("no answer for %s within %v (--timeout)", document, s.flags.timeout)
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		default:
			return nil, err
		}
	}
	return documents, nil
}

// soak asks again and again while the VM moves.
func (s *simulation) soak(ctx context.Context) error {
	port, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer port.Close()
	guest := simulator.NewGuest(port)
	moving, stop := context.WithCancel(ctx)
	defer stop()
	moved := make(chan simulator.Moves, 1)
	go func() { moved <- port.MoveEvery(moving, s.flags.moves) }()

	asked := 0
	var first map[packet.Document][]byte
	for err == nil {
		var documents map[packet.Document][]byte
		documents, err = s.fetch(ctx, port, guest)
		if err != nil {
			break
		}
		asked++
		if first == nil {
			first = documents
		}
		if document := difference(first, documents); document != "" {
			err = fmt.Errorf("%s came differently the %dth time: it was changed at the server, or damaged on the way", document, asked)
		}
	}
	stop()
	port.Close()
	moves := <-moved
	_, unprinted := fmt.Fprintf(s.stdout, "asked %d times for all documents\n%v\n", asked, moves)
	switch {
	case ctx.Err() == nil || !errors.Is(err, context.Cause(ctx)):
		return err
	case moves.Refused+moves.Late+moves.Failed > 0:
		return errors.New("some migrations did not succeed")
	}
	return unprinted // it ended because it was told to
}

// difference returns a document that is not the same in a and b.
func difference(a, b map[packet.Document][]byte) packet.Document {
	for _, document := range packet.Documents() {
		if !bytes.Equal(a[document], b[document]) {
			return document
		}
	}
	return ""
}

// line is what the program behind the port is connected to.
func (s *simulation) line(ctx context.Context) *simulator.Line {
	return &simulator.Line{
		Connect: s.connect,
		Connected: func(port *simulator.Port) {
			if s.flags.moves > 0 {
				go func() { s.say("%v", port.MoveEvery(ctx, s.flags.moves)) }()
			}
		},
		Lost: func(err error) { s.say("no connection to the server, trying again: %v", err) },
	}
}

// unix serves programs at a Unix socket, one at a time.
func (s *simulation) unix(ctx context.Context, path string) error {
	if err := removeStaleSocket(path); err != nil {
		return err
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("--unix: %w", err)
	}
	defer listener.Close()
	defer context.AfterFunc(ctx, func() { listener.Close() })()
	s.say("waiting at %s for the program behind the port", path)
	for {
		program, err := listener.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("--unix: %w", err)
		}
		if err := s.line(ctx).Carry(ctx, program); ctx.Err() != nil {
			return nil
		} else if err != nil {
			return err
		}
		s.say("the program has left")
	}
}

// removeStaleSocket removes what an earlier run that was killed left at path.
func removeStaleSocket(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Mode()&fs.ModeSocket == 0 {
		return nil // what else is there, listening reports
	}
	if err != nil {
		return fmt.Errorf("--unix: %w", err)
	}
	if conn, err := net.Dial("unix", path); err == nil {
		conn.Close()
		return fmt.Errorf("--unix %s: another program listens there already", path)
	}
	return os.Remove(path)
}

// pty serves programs at a pseudo-terminal.
func (s *simulation) pty(ctx context.Context, link string) error {
	pty, err := simulator.OpenPTY()
	if err != nil {
		return fmt.Errorf("--pty: %w", err)
	}
	defer func() { _ = pty.Close() }()
	path := pty.Path
	if link != noLink {
		if _, err := os.Readlink(link); err == nil {
			_ = os.Remove(link) // of an earlier run; if it can't be removed, the next line says so
		}
		if err := os.Symlink(pty.Path, link); err != nil {
			return fmt.Errorf("--pty: %w", err)
		}
		defer func() { _ = os.Remove(link) }()
		path = link
	}
	s.say("the port is %s", path)
	if err := s.line(ctx).Carry(ctx, pty); ctx.Err() == nil {
		return err
	}
	return nil
}
