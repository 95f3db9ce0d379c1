//go:build linux

package load_test

import (
	"bytes"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"vmw-cloudinit-metadata/bench/answers"
	"vmw-cloudinit-metadata/bench/floor"
	"vmw-cloudinit-metadata/bench/inventory"
	"vmw-cloudinit-metadata/bench/load"
)

// prepared are answers about VM 0, in a directory.
func prepared(t *testing.T, userDataSize int) (*answers.Set, string) {
	t.Helper()
	metaData, networkConfig := inventory.Documents(0)
	set := &answers.Set{
		answers.MetaData.Line(metaData), answers.NetworkData.Line(networkConfig),
		answers.UserData.Line(inventory.UserData(userDataSize)),
	}
	dir := t.TempDir()
	if err := set.Save(dir); err != nil {
		t.Fatal(err)
	}
	return set, dir
}

// fleet makes one that talks to handle.
func fleet(t *testing.T, handle func(net.Conn), conf load.Config) *load.Fleet {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- floor.Serve(listener, handle) }()
	f := &load.Fleet{}
	t.Cleanup(func() {
		if err := f.Disconnect(load.Nothing{}, &load.Nothing{}); err != nil {
			t.Error(err)
		}
		listener.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	conf.Address = listener.Addr().String()
	if err := f.Configure(conf, &load.Nothing{}); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestAStormIsServed(t *testing.T) {
	set, dir := prepared(t, 64<<10)
	for name, c := range map[string]struct {
		handle func(net.Conn)
		hosts  bool
	}{"lines": {floor.Lines(set), false}, "hosts": {floor.Telnet(set), true}} {
		t.Run(name, func(t *testing.T) {
			f := fleet(t, c.handle, load.Config{Hosts: c.hosts, Answers: dir, Exact: true})
			var storm load.StormReply
			for range 2 { // the second is a power cut's
				if err := f.Storm(load.StormArgs{From: 5, Count: 60, Parallel: 8, Ask: true}, &storm); err != nil {
					t.Fatal(err)
				}
				if storm.Latency.Count != 60 || storm.Latency.P50 <= 0 || storm.Elapsed <= 0 || storm.CPU <= 0 {
					t.Errorf("a storm of 60 VMs gives %+v", storm)
				}
			}
			if err := f.Storm(load.StormArgs{Count: 5, Parallel: 2}, &storm); err != nil {
				t.Fatal(err)
			}
			var steady load.SteadyReply
			questions := []answers.Question{answers.MetaData, answers.UserData}
			if err := f.Steady(load.SteadyArgs{VMs: 20, Duration: time.Second, Questions: questions}, &steady); err != nil {
				t.Fatal(err)
			}
			if least := 20 * len(set[answers.MetaData]); steady.Answers < 20 || steady.Bytes < least || steady.Latency.Count != steady.Answers {
				t.Errorf("20 VMs that ask for a while give %+v", steady)
			}
		})
	}
}

func TestPacedKeepsItsPace(t *testing.T) {
	set, dir := prepared(t, 1000)
	f := fleet(t, floor.Telnet(set), load.Config{Hosts: true, Answers: dir, Exact: true})
	if err := f.Storm(load.StormArgs{Count: 10, Parallel: 10}, &load.StormReply{}); err != nil {
		t.Fatal(err)
	}
	var reply load.PacedReply
	if err := f.Paced(load.PacedArgs{VMs: 10, Rate: 500, Duration: 200 * time.Millisecond}, &reply); err != nil {
		t.Fatal(err)
	}
	if len(reply.Latencies) != 100 {
		t.Errorf("500 questions a second for 0.2 s are %d", len(reply.Latencies))
	}
}

func TestVMsMoveWhileOthersBoot(t *testing.T) {
	set, dir := prepared(t, 1000)
	f := fleet(t, floor.Telnet(set), load.Config{Hosts: true, Answers: dir, Exact: true})
	if err := f.Storm(load.StormArgs{Count: 30, Parallel: 10}, &load.StormReply{}); err != nil {
		t.Fatal(err)
	}
	var moves load.MovesReply
	err := f.Moves(load.MovesArgs{
		From: 10, Count: 20, Rate: 100, Duration: 200 * time.Millisecond, BootFrom: 0, BootCount: 10, BootsParallel: 2,
	}, &moves)
	if err != nil {
		t.Fatal(err)
	}
	if moves.Begun != 20 || moves.Lost != 0 || moves.GoAhead.Count != 20 || moves.Downtime.P50 < moves.GoAhead.P50 {
		t.Errorf("100 moves a second for 0.2 s give %+v", moves)
	}
	if moves.Boots == 0 || moves.Boot.Count != moves.Boots {
		t.Errorf("meanwhile %d boots, %+v", moves.Boots, moves.Boot)
	}
}

func TestALostAnswerIsALostMove(t *testing.T) {
	set, dir := prepared(t, 1000)
	// Says nothing in answer to a question, but all that a vMotion needs.
	mute := *set
	for q := range mute {
		mute[q] = nil
	}
	mute[answers.NetworkData] = set[answers.NetworkData]
	f := fleet(t, floor.Telnet(&mute), load.Config{Hosts: true, Answers: dir, Exact: true, Patience: 500 * time.Millisecond})
	if err := f.Storm(load.StormArgs{Count: 2, Parallel: 2}, &load.StormReply{}); err != nil {
		t.Fatal(err)
	}
	var moves load.MovesReply
	// VM 0 has asked for meta-data when it moves.
	if err := f.Moves(load.MovesArgs{Count: 2, Rate: 100, Duration: 10 * time.Millisecond}, &moves); err != nil {
		t.Fatal(err)
	}
	if moves.Begun != 1 || moves.Lost != 1 || !strings.Contains(moves.FirstLoss, "answer that moved") {
		t.Errorf("a move that loses an answer gives %+v", moves)
	}
}

func TestASlowHostGetsItsGoAhead(t *testing.T) {
	set, dir := prepared(t, 4000)
	f := fleet(t, floor.Telnet(set), load.Config{Hosts: true, Answers: dir, Exact: true})
	var slow load.SlowReply
	if err := f.Slow(load.SlowArgs{VMs: 3, Rate: 50_000, After: 1000}, &slow); err != nil {
		t.Fatal(err)
	}
	// 4,000 bytes are 5,400 on the line; those that have not arrived yet stand before GOAHEAD.
	if slow.GoAhead.Count != 3 || slow.GoAhead.P50 < 20 {
		t.Errorf("GOAHEAD behind 4 KB at 50 KB/s: %+v", slow)
	}
}

func TestHostilityIsEndured(t *testing.T) {
	set, dir := prepared(t, 1<<20)
	for _, kind := range load.Hostilities() {
		t.Run(string(kind), func(t *testing.T) {
			f := fleet(t, floor.Telnet(set), load.Config{Hosts: true, Answers: dir, Exact: true})
			var hostile load.HostileReply
			if err := f.Hostile(load.HostileArgs{VM: 3, Kind: kind, Duration: 100 * time.Millisecond}, &hostile); err != nil {
				t.Fatal(err)
			}
			if (hostile.Sent == 0) != (kind == load.Silent) || hostile.Ended {
				t.Errorf("a server that lets it go on: %+v", hostile)
			}
			if err := f.Storm(load.StormArgs{Count: 4, Parallel: 1, Ask: true}, &load.StormReply{}); err != nil {
				t.Fatal(err)
			}
		})
	}
	f := fleet(t, func(conn net.Conn) { conn.Close() }, load.Config{Answers: dir, Exact: true})
	var hostile load.HostileReply
	if err := f.Hostile(load.HostileArgs{Kind: load.Noise, Duration: time.Minute}, &hostile); err != nil {
		t.Fatal(err)
	}
	if !hostile.Ended {
		t.Errorf("a server that closes the connection: %+v", hostile)
	}
}

func TestWrongAnswersAreFound(t *testing.T) {
	set, dir := prepared(t, 1000)
	damage := func(change func(s *answers.Set)) *answers.Set {
		s := answers.Set{bytes.Clone(set[0]), bytes.Clone(set[1]), bytes.Clone(set[2])}
		change(&s)
		return &s
	}
	for name, c := range map[string]struct {
		set   *answers.Set
		exact bool
		vm    int
		want  string
	}{
		"right":              {set, true, 0, ""},
		"another VM's":       {set, false, 7, "not bench-000007's"},
		"one byte of many":   {damage(func(s *answers.Set) { s[answers.UserData][700] ^= 1 }), false, 0, "is wrong at byte"},
		"too long":           {damage(func(s *answers.Set) { s[answers.UserData] = append(s[answers.UserData], "more"...) }), true, 0, "is wrong at byte"},
		"an error instead":   {damage(func(s *answers.Set) { s[answers.MetaData] = []byte("!!RESPONSE_ERROR#e30=\n") }), false, 0, "begins with"},
		"another question's": {damage(func(s *answers.Set) { s[answers.NetworkData] = s[answers.MetaData] }), false, 0, "begins with"},
		"two at once":        {damage(func(s *answers.Set) { s[answers.MetaData] = bytes.Repeat(s[answers.MetaData], 2) }), false, 0, "more than an answer"},
	} {
		t.Run(name, func(t *testing.T) {
			f := fleet(t, floor.Lines(c.set), load.Config{Answers: dir, Exact: c.exact})
			err := f.Storm(load.StormArgs{From: c.vm, Count: 1, Parallel: 1, Ask: true}, &load.StormReply{})
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("the storm ends with %v, want %q", err, c.want)
			}
		})
	}
}

func TestSampleTakesWhatIsAnswered(t *testing.T) {
	set, dir := prepared(t, 100_000)
	f := fleet(t, floor.Telnet(set), load.Config{Hosts: true, Answers: dir})
	into := t.TempDir()
	if err := f.Sample(into, &load.Nothing{}); err != nil {
		t.Fatal(err)
	}
	taken, err := answers.Load(into)
	if err != nil {
		t.Fatal(err)
	}
	for q := range answers.Questions {
		if !bytes.Equal(taken[q], set[q]) {
			t.Errorf("%s: %d bytes are taken, %d were answered", q, len(taken[q]), len(set[q]))
		}
	}
}

func TestProcessorTimeIsCounted(t *testing.T) {
	if _, err := load.CPU(1 << 22); err == nil { // beyond any process's number
		t.Error("a process that is not there has processor time")
	}
}

func TestVMsAreLeftAlone(t *testing.T) {
	set, dir := prepared(t, 1<<10)
	var left atomic.Int64
	handle := func(conn net.Conn) {
		floor.Telnet(set)(conn)
		left.Add(1)
	}
	f := fleet(t, handle, load.Config{Hosts: true, Answers: dir, Exact: true, VMs: 20})
	var storm load.StormReply
	if err := f.Storm(load.StormArgs{Count: 20, Parallel: 4, Ask: true}, &storm); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second has nothing to do
		if err := f.Leave(load.LeaveArgs{From: 5, Count: 10}, &load.Nothing{}); err != nil {
			t.Fatal(err)
		}
	}
	if n := left.Load(); n != 0 {
		t.Errorf("%d connections have ended", n)
	}
	if err := f.Storm(load.StormArgs{Count: 20, Parallel: 4, Ask: true}, &storm); err != nil {
		t.Errorf("booting again: %v", err)
	}
}

func TestBootsKeepTheirPace(t *testing.T) {
	set, dir := prepared(t, 1<<10)
	f := fleet(t, floor.Telnet(set), load.Config{Hosts: true, Answers: dir, Exact: true})
	var storm load.StormReply
	if err := f.Storm(load.StormArgs{Count: 4, Parallel: 4}, &storm); err != nil {
		t.Fatal(err)
	}
	var moves load.MovesReply
	args := load.MovesArgs{Count: 4, Rate: 4, Duration: time.Second / 2, BootFrom: 4, BootCount: 3, BootsParallel: 2, BootRate: 20}
	if err := f.Moves(args, &moves); err != nil {
		t.Fatal(err)
	}
	if moves.Boots < 1 || moves.Boots > 11 { // one at each end
		t.Errorf("%d boots in half a second, and 20 a second are allowed", moves.Boots)
	}
}
