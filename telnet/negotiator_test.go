package telnet_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"vmw-cloudinit-metadata/telnet"
)

func TestNegotiator(t *testing.T) {
	accept := func(side telnet.Side, option telnet.Option) bool { return option == telnet.Binary }
	for _, tc := range []struct {
		name, ask, in, want     string
		local, remote           bool
		localAfter, remoteAfter bool
	}{
		{name: "refuses what it does not know", in: "ff fb 25 ff fd 2c", want: "ff fe 25 ff fc 2c"},
		{name: "accepts what it knows", in: "ff fb 00 ff fd 00", want: "ff fd 00 ff fb 00", localAfter: true, remoteAfter: true},
		{name: "does not acknowledge an acknowledgement", local: true, remote: true, in: "ff fb 00 ff fd 00", localAfter: true, remoteAfter: true},
		{name: "does not answer a repetition", in: "ff fb 00 ff fb 00 ff fb 00", want: "ff fd 00", remoteAfter: true},
		{name: "takes a refusal", local: true, in: "ff fe 00"},
		{name: "does not answer a refusal of nothing", in: "ff fe 00 ff fc 00"},
		{name: "keeps options apart", local: true, in: "ff fd 2c ff fd 00", want: "ff fc 2c", localAfter: true},
		{name: "lets the peer stop", in: "ff fb 00 ff fc 00", want: "ff fd 00 ff fe 00"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := telnet.Negotiator{Accept: accept}
			if tc.local {
				n.Enable(nil, telnet.Local, telnet.Binary)
			}
			if tc.remote {
				n.Enable(nil, telnet.Remote, telnet.Binary)
			}
			got := receive(t, &n, unhex(t, tc.in))
			if want := unhex(t, tc.want); string(got) != string(want) {
				t.Errorf("answers % x, want % x", got, want)
			}
			if l, r := n.Enabled(telnet.Local, telnet.Binary), n.Enabled(telnet.Remote, telnet.Binary); l != tc.localAfter || r != tc.remoteAfter {
				t.Errorf("local %v, remote %v; want %v, %v", l, r, tc.localAfter, tc.remoteAfter)
			}
		})
	}
}

// TestNegotiatorQueues changes its mind while the peer's answer is on its way: the last wish counts, and is sent when the
// answer to the one before has come.
func TestNegotiatorQueues(t *testing.T) {
	const will, wont, do, dont = "ff fb 00", "ff fc 00", "ff fd 00", "ff fe 00"
	for _, tc := range []struct {
		name  string
		steps []string // "enable", "disable" or what comes from the peer; each with what is sent then
		after bool
	}{
		{"asked, and no longer wanted", []string{"enable", will, "disable", "", do, wont, dont, ""}, false},
		{"asked, no longer wanted, and refused", []string{"enable", will, "disable", "", dont, ""}, false},
		{"asked, not wanted and wanted again", []string{"enable", will, "disable", "", "enable", "", do, ""}, true},
		{"asked, not wanted, agreed to, and wanted again", []string{"enable", will, "disable", "", do, wont, "enable", "", dont, will, do, ""}, true},
		{"stopped, and wanted again", []string{"enable", will, do, "", "disable", wont, "enable", "", dont, will, do, ""}, true},
		{"stopped, wanted and stopped again", []string{"enable", will, do, "", "disable", wont, "enable", "", "disable", "", dont, ""}, false},
		{"stopped, which the peer does not heed", []string{"enable", will, do, "", "disable", wont, do, ""}, false},
		{"stopped, wanted again, and the peer never stopped", []string{"enable", will, do, "", "disable", wont, "enable", "", do, ""}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var n telnet.Negotiator
			for i := 0; i < len(tc.steps); i += 2 {
				var sent []byte
				switch step := tc.steps[i]; step {
				case "enable":
					sent = n.Enable(nil, telnet.Local, telnet.Binary)
				case "disable":
					sent = n.Disable(nil, telnet.Local, telnet.Binary)
				default:
					sent = receive(t, &n, unhex(t, step))
				}
				if want := unhex(t, tc.steps[i+1]); string(sent) != string(want) {
					t.Errorf("after %q: sends % x, want % x", tc.steps[:i+1], sent, want)
				}
			}
			if n.Enabled(telnet.Local, telnet.Binary) != tc.after || n.Pending(telnet.Local, telnet.Binary) {
				t.Errorf("in the end enabled: %v, pending: %v; want %v, settled", n.Enabled(telnet.Local, telnet.Binary), n.Pending(telnet.Local, telnet.Binary), tc.after)
			}
		})
	}
}

// A peer may turn an option on and off for ever.
func TestNegotiatorTakesNoMemoryForRepetition(t *testing.T) {
	n := telnet.Negotiator{Accept: func(telnet.Side, telnet.Option) bool { return true }}
	answers := make([]byte, 0, 16)
	if allocs := testing.AllocsPerRun(1, func() { // and once before
		for range 1000 {
			n.Receive(n.Receive(answers, telnet.WILL, telnet.Echo), telnet.WONT, telnet.Echo)
		}
	}); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// receive feeds the negotiations in wire to n and returns its answers.
func receive(t *testing.T, n *telnet.Negotiator, wire []byte) (answers []byte) {
	t.Helper()
	var d telnet.Decoder
	for len(wire) > 0 {
		ev, used, err := d.Next(wire)
		if err != nil {
			t.Fatal(err)
		}
		if ev.Kind == telnet.Negotiation {
			answers = n.Receive(answers, ev.Command, ev.Option)
		}
		wire = wire[used:]
	}
	return answers
}

// TestNegotiatorsAgree lets two ends change their minds at random while their messages cross: the talk must end, and
// both must then believe the same.
func TestNegotiatorsAgree(t *testing.T) {
	for seed := range uint64(2000) {
		random := rand.New(rand.NewPCG(seed, 1))
		policy := func(telnet.Side, telnet.Option) bool { return seed%3 != 0 }
		ends := [2]*telnet.Negotiator{{Accept: policy}, {Accept: policy}}
		var wires [2][]byte // wires[i] is on its way to ends[i]
		sides := [2]telnet.Side{telnet.Local, telnet.Remote}
		for range 30 {
			i := random.IntN(2)
			side := sides[random.IntN(2)]
			switch random.IntN(4) {
			case 0:
				wires[1-i] = ends[i].Enable(wires[1-i], side, telnet.Echo)
			case 1:
				wires[1-i] = ends[i].Disable(wires[1-i], side, telnet.Echo)
			default:
				if len(wires[i]) > 0 {
					wires[1-i] = append(wires[1-i], receive(t, ends[i], wires[i][:3])...)
					wires[i] = wires[i][3:]
				}
			}
		}
		for round := 0; len(wires[0])+len(wires[1]) > 0; round++ {
			if round > 100 {
				t.Fatalf("seed %d: they talk for ever", seed)
			}
			for i := range ends {
				in := wires[i]
				wires[i] = nil
				wires[1-i] = append(wires[1-i], receive(t, ends[i], in)...)
			}
		}
		for i, side := range sides {
			a, b := ends[0].Enabled(side, telnet.Echo), ends[1].Enabled(sides[1-i], telnet.Echo)
			if a != b || ends[0].Pending(side, telnet.Echo) || ends[1].Pending(side, telnet.Echo) {
				t.Fatalf("seed %d: one end has %v, the other %v", seed, a, b)
			}
		}
	}
}

func ExampleDecoder() {
	var d telnet.Decoder
	in := []byte("hello\xff\xfb\x00, \xff\xffworld")
	for len(in) > 0 {
		ev, n, err := d.Next(in)
		if err != nil {
			fmt.Println(err)
			return
		}
		switch ev.Kind {
		case telnet.Data:
			fmt.Printf("data %q\n", ev.Bytes)
		case telnet.Negotiation:
			fmt.Println(ev.Command, ev.Option)
		}
		in = in[n:]
	}
	// Output:
	// data "hello"
	// WILL BINARY
	// data ", \xff"
	// data "world"
}

func ExampleNegotiator() {
	n := telnet.Negotiator{Accept: func(side telnet.Side, option telnet.Option) bool {
		return option == telnet.Binary
	}}
	out := n.Enable(nil, telnet.Local, telnet.Binary)        // we ask: WILL BINARY
	out = n.Receive(out, telnet.DO, telnet.Binary)           // the peer agrees; nothing to say
	out = n.Receive(out, telnet.WILL, telnet.Authentication) // the peer offers what we do not know
	fmt.Printf("% x\n", out)
	fmt.Println(n.Enabled(telnet.Local, telnet.Binary))
	// Output:
	// ff fb 00 ff fe 25
	// true
}
