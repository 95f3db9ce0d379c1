//go:build linux

package main

import (
	"encoding/json"
	"strconv"

	"vmw-cloudinit-metadata/bench/report"
)

// serverConf is what a case wants of a server.
type serverConf struct {
	files   string // directory of the VMs' files, for ours
	answers string // directory of prepared answers, for the floors
	tls     bool
}

// serverKind is one of those that are compared.
type serverKind struct {
	name string
	// hosts says that it speaks with an ESXi host, and not bare lines.
	hosts bool
	// exact says that it answers every VM alike.
	exact   bool
	command func(b *bench, conf serverConf, address string) ([]string, error)
}

// The names of the servers that are compared.
const (
	ours        = report.Ours
	former      = "former" // another build of ours
	floorTelnet = "floor, telnet"
	floorLines  = "floor"
	floorEpoll  = "floor, epoll"
	floorEpoll2 = "floor, epoll ×2"
)

// formerKind is the build of ours at a path.
func formerKind(path string) serverKind {
	return serverKind{name: former, hosts: true, command: func(b *bench, conf serverConf, address string) ([]string, error) {
		return program(path, b, conf, address)
	}}
}

// uri is the ports' service URI.
const uri = "bench"

func serverKinds() []serverKind {
	floorRole := func(role string, more ...string) func(*bench, serverConf, string) ([]string, error) {
		return func(b *bench, conf serverConf, address string) ([]string, error) {
			command := append([]string{b.self, "role", role, "-address", address, "-answers", conf.answers}, more...)
			if conf.tls {
				command = append(command, "-cert", b.certificate)
			}
			return command, nil
		}
	}
	return []serverKind{
		{name: ours, hosts: true, command: func(b *bench, conf serverConf, address string) ([]string, error) {
			return program(b.server, b, conf, address)
		}},
		{name: floorTelnet, hosts: true, exact: true, command: floorRole("telnet")},
		{name: floorLines, exact: true, command: floorRole("lines")},
		{name: floorEpoll, exact: true, command: floorRole("epoll")},
		{name: floorEpoll2, exact: true, command: floorRole("epoll", "-threads", strconv.Itoa(2))},
	}
}

// program is how a build of the project's own server is started.
func program(name string, b *bench, conf serverConf, address string) ([]string, error) {
	options, err := json.Marshal(map[string]string{"directory": conf.files})
	if err != nil {
		return nil, err
	}
	command := []string{name, "run", "--uri", uri, "--driver", "file", "--driver-opts", string(options),
		"--listen", address, "--log-level", "warn"}
	if conf.tls {
		command = append(command, "--tls", "offer", "--tls-cert", b.certificate, "--tls-key", b.certificate)
	}
	return command, nil
}
