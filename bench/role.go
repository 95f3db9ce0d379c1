//go:build linux

package main

import (
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/rpc"

	"vmw-cloudinit-metadata/bench/answers"
	"vmw-cloudinit-metadata/bench/floor"
	"vmw-cloudinit-metadata/bench/load"
	"vmw-cloudinit-metadata/bench/sessions"
)

// role is what the program does as one of its own children.
func role(args []string, stdin io.Reader, stdout io.WriteCloser) error {
	if len(args) == 0 {
		return errors.New("which role?")
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	address := flags.String("address", "", "where to listen")
	directory := flags.String("answers", "", "directory of the prepared answers")
	threads := flags.Int("threads", 1, "of epoll")
	certificate := flags.String("cert", "", "TLS certificate, with its key")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	if service := map[string]any{"load": &load.Fleet{}, "sessions": &sessions.Sessions{}}[args[0]]; service != nil {
		server := rpc.NewServer()
		if err := server.Register(service); err != nil {
			return err
		}
		server.ServeConn(pipe{stdin, stdout})
		return nil
	}
	set, err := answers.Load(*directory)
	if err != nil {
		return err
	}
	if args[0] == "epoll" {
		at, err := netip.ParseAddrPort(*address)
		if err != nil {
			return err
		}
		epoll, err := floor.NewEpoll(at, *threads, set)
		if err != nil {
			return err
		}
		return epoll.Serve()
	}
	listener, err := net.Listen("tcp4", *address)
	if err != nil {
		return err
	}
	defer listener.Close()
	if *certificate != "" {
		pair, err := tls.LoadX509KeyPair(*certificate, *certificate)
		if err != nil {
			return err
		}
		listener = tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12})
	}
	switch args[0] {
	case "lines":
		return floor.Serve(listener, floor.Lines(set))
	case "telnet":
		return floor.Serve(listener, floor.Telnet(set))
	}
	return fmt.Errorf("no role %q", args[0])
}
