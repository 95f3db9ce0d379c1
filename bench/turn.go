//go:build linux

package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"time"
	"vmw-cloudinit-metadata/bench/answers"
	"vmw-cloudinit-metadata/bench/inventory"
	"vmw-cloudinit-metadata/bench/load"
)

// aged is how old files are when they are first asked for. A driver may look twice at one that was just written, and
// those of real VMs rarely were.
const aged = 3 * time.Second

// prepare makes the files of so many VMs with so much user-data, and the answers that the floors give: ours, so that
// all answer with as many bytes.
func (b *bench) prepare(vms, userDataSize int) (serverConf, error) {
	name := fmt.Sprintf("%d-vms-of-%d", vms, userDataSize)
	conf := serverConf{files: filepath.Join(b.work, name), answers: filepath.Join(b.work, "answers-of-"+strconv.Itoa(userDataSize))}
	if slices.Contains(b.prepared, name) {
		return conf, nil
	}
	if err := inventory.Write(conf.files, vms, userDataSize); err != nil {
		return conf, err
	}
	metaData, networkConfig := inventory.Documents(0)
	userData := inventory.UserData(userDataSize)
	set := answers.Set{answers.MetaData.Line(metaData), answers.NetworkData.Line(networkConfig), answers.UserData.Line(userData)}
	if err := set.Save(conf.answers); err != nil {
		return conf, err
	}
	if b.server != "" {
		time.Sleep(aged)
		if err := b.sample(conf, userData); err != nil {
			return conf, err
		}
	}
	b.prepared = append(b.prepared, name)
	return conf, nil
}

// sample takes the floors' answers from ours.
func (b *bench) sample(conf serverConf, userData []byte) error {
	server, fleet, err := b.launch(b.kind(ours), conf, false)
	if err != nil {
		return err
	}
	err = fleet.call("Sample", conf.answers, &load.Nothing{})
	fleet.stop()
	server.stop()
	if err != nil {
		return err
	}
	return sameUserData(conf.answers, userData)
}

// sameUserData checks that what ours answers is what is in the file: else nothing that follows is worth measuring.
func sameUserData(directory string, userData []byte) error {
	set, err := answers.Load(directory)
	if err != nil {
		return err
	}
	got, err := answers.UserData.Document(set[answers.UserData])
	if err == nil && string(got) != string(userData) {
		err = fmt.Errorf("the server answers with user-data of %d bytes that is not the file's, of %d", len(got), len(userData))
	}
	return err
}

// selected are those of the kinds that the user wants, in the kinds' order.
func (b *bench) selected(names []string) []serverKind {
	var kinds []serverKind
	for _, kind := range b.kinds {
		name := kind.name
		if name == former { // goes with ours
			name = ours
		}
		if slices.Contains(names, name) && (len(b.only) == 0 || slices.Contains(b.only, name)) {
			kinds = append(kinds, kind)
		}
	}
	return kinds
}

// launch starts a server and a load for it.
func (b *bench) launch(kind serverKind, conf serverConf, skim bool) (*server, *fleet, error) {
	server, err := b.startServer(kind, conf)
	if err != nil {
		return nil, nil, err
	}
	fleet, err := b.startLoad(b.loadConf(kind, conf, server, skim))
	if err != nil {
		server.stop()
		return nil, nil, err
	}
	return server, fleet, nil
}

func (b *bench) loadConf(kind serverKind, conf serverConf, server *server, skim bool) load.Config {
	c := load.Config{Address: server.address, Hosts: kind.hosts, URI: uri, Answers: conf.answers, Exact: kind.exact, Skim: skim}
	if conf.tls {
		c.CA = b.certificate
	}
	return c
}

// turns runs measure in turn, for each kind in each round, on a new server with a new load.
func (b *bench) turns(of string, names []string, rounds int, conf serverConf, skim bool, measure func(kind serverKind, s *server, f *fleet) error) error {
	for round := range rounds {
		for _, kind := range b.selected(names) {
			server, fleet, err := b.launch(kind, conf, skim)
			if err != nil {
				return err
			}
			begin := time.Now()
			err = measure(kind, server, fleet)
			fleet.stop()
			server.stop()
			if err != nil {
				return server.failed(err)
			}
			b.progress("%s: %d of %d, %s: %.1f s", of, round+1, rounds, kind.name, time.Since(begin).Seconds())
		}
	}
	return nil
}

// charge runs do, and notes the processor's time that it took of the server and of the load, for each of what it counts.
func (b *bench) charge(of, phase string, kind serverKind, s *server, do func() (count int, load time.Duration, err error)) error {
	before, err := s.cpu()
	if err != nil {
		return err
	}
	count, load, err := do()
	if err != nil {
		return err
	}
	after, err := s.cpu()
	if err != nil {
		return err
	}
	if count == 0 {
		return errors.New("nothing was answered")
	}
	each := float64(count) * float64(time.Microsecond)
	b.report.Add(of, phase, kind.name, "cpu", float64(after-before)/each)
	b.report.Add(of, phase, kind.name, "load", float64(load)/each)
	return nil
}
