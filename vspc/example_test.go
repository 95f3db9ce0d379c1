package vspc_test

import (
	"context"
	"fmt"
	"net"

	"vmw-cloudinit-metadata/vspc"
)

// logbook prints the first thing that the guest behind a port says, and closes the port.
type logbook struct {
	session *vspc.Session
	closed  chan struct{}
}

func (b *logbook) Receive(p []byte) {
	fmt.Printf("%s: %q\n", b.session.Identity().Name, p)
	b.session.Close()
}

func (b *logbook) Closed(error) { close(b.closed) }

func ExampleConcentrator() {
	closed := make(chan struct{})
	concentrator := vspc.NewConcentrator(vspc.Config{
		Open: func(s *vspc.Session) vspc.Receiver { return &logbook{s, closed} },
		Notify: func(ev vspc.Event) {
			if ev.Kind == vspc.PortOpened {
				fmt.Printf("%s is there, by URI %s\n", ev.Identity.Name, ev.DoProxy.ServiceURI)
			}
		},
	})
	conn, host := net.Pipe() // in earnest: accepted from a net.Listener
	go concentrator.Serve(conn)

	esx := vspc.NewHost(host, vspc.HostConfig{
		Identity:   vspc.Identity{Name: "web1", VCUUID: "50370a1b-4a5f-4c2e-9f0b-1d2c3b4a5f6e"},
		ServiceURI: "console",
	})
	defer esx.Close()
	if err := esx.Handshake(context.Background()); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Fprint(esx, "login: ")
	<-closed
	// Output:
	// web1 is there, by URI console
	// web1: "login: "
}
