package guest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"vmw-cloudinit-metadata/internal/guest/guesttest"
	"vmw-cloudinit-metadata/internal/tty"
	"vmw-cloudinit-metadata/packet"
)

type documents = map[packet.Document][]byte

func small() documents {
	return documents{
		packet.MetaData: []byte(`{"instance-id":"i-1","hostname":"h"}`), packet.UserData: []byte("#cloud-config\n"),
		packet.NetworkConfig: []byte("version: 1\nconfig: []\n"),
	}
}

// machine is a guest whose one port has a server behind it.
type machine struct {
	t       *testing.T
	root    string
	config  Config
	server  *guesttest.Server
	host    *guesttest.End
	mu      sync.Mutex
	console []string
}

// newMachine is for use inside a bubble: its server ends with the bubble.
func newMachine(t *testing.T, server *guesttest.Server, damage func([]byte) []byte) *machine {
	m := &machine{t: t, root: t.TempDir(), server: server}
	m.put("sys/class/tty/ttyS0/type", "4")
	m.put("sys/class/tty/ttyS1/type", "4")
	m.put("sys/class/tty/console/active", "ttyS0")
	m.put("sys/class/dmi/id/product_uuid", "4213AAAA-0000-0000-0000-000000000001")
	m.put("proc/sys/kernel/random/boot_id", "11111111-2222-3333-4444-555555555555")
	guest, host := guesttest.Line(damage)
	m.host = host
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(host)
	}()
	t.Cleanup(func() { host.Close(); <-done })
	m.config = Config{
		Root: m.root, Dir: filepath.Join(m.root, "cloud/seed/nocloud"), CloudDir: filepath.Join(m.root, "cloud"), Agent: "test/1",
		Console: func(line string) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.console = append(m.console, line)
		},
		Open: func(path string, _ int) (Port, error) {
			if path != "/dev/ttyS1" {
				return nil, fmt.Errorf("%s: %w", path, tty.ErrNoPort)
			}
			return kept{guest}, nil
		},
	}
	return m
}

// kept is a port that can be opened again.
type kept struct{ *guesttest.End }

func (kept) Close() error { return nil }

func (m *machine) put(path, text string) {
	m.t.Helper()
	path = filepath.Join(m.root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

// cached makes this a later boot.
func (m *machine) cached(id string) {
	m.put("cloud/instance/obj.pkl", "")
	m.put("cloud/instance/user-data.txt", "#cloud-config cached\n")
	m.put("cloud/data/instance-id", id+"\n")
}

func (m *machine) seed() documents {
	m.t.Helper()
	entries, err := os.ReadDir(m.config.Dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		m.t.Fatal(err)
	}
	var seed documents
	for _, entry := range entries {
		data, err := os.ReadFile(filepath.Join(m.config.Dir, entry.Name()))
		if err != nil {
			m.t.Fatal(err)
		}
		if seed == nil {
			seed = documents{}
		}
		seed[packet.Document(entry.Name())] = data
	}
	return seed
}

func (m *machine) wantSeed(want documents) {
	m.t.Helper()
	if got := m.seed(); !maps.EqualFunc(got, want, bytes.Equal) {
		m.t.Errorf("the seed is %.300q, want %.300q", got, want)
	}
}

// run seeds, and holds the result to what every run must keep to.
func (m *machine) run(most time.Duration) *Result {
	m.t.Helper()
	started := time.Now()
	r := Seed(m.t.Context(), m.config)
	if took := time.Since(started); took > most {
		m.t.Errorf("it took %v, and may take %v", took, most)
	}
	if r.Message == "" || strings.ContainsAny(r.Message, "\n\r\x1b") {
		m.t.Errorf("the message is %q", r.Message)
	}
	if r.Result != OK && r.Result != NoPort && len(m.console) == 0 {
		m.t.Errorf("nothing on the console about %s: %s", r.Result, r.Message)
	}
	return r
}

func TestFirstBoot(t *testing.T) {
	with := func(name packet.Document, text string) documents {
		d := small()
		d[name] = []byte(text)
		return d
	}
	without := func(name packet.Document) documents {
		d := small()
		delete(d, name)
		return d
	}
	large := documents{packet.MetaData: []byte(`{"instance-id":"i-1"}`), packet.UserData: noise(100_000), packet.VendorData: bytes.Repeat([]byte("# text\n"), 50_000)}
	for _, tc := range []struct {
		name     string
		server   *guesttest.Server
		protocol int
		want     Outcome
		version  int
		seed     documents
		most     time.Duration
	}{
		{name: "all is well", server: &guesttest.Server{Documents: with(packet.VendorData, "v")}, want: OK, version: 2, seed: with(packet.VendorData, "v"), most: time.Second / 10},
		{name: "large documents", server: &guesttest.Server{Documents: large}, want: OK, version: 2, seed: large, most: time.Second / 10},
		{name: "small chunks", server: &guesttest.Server{Documents: large, MaxChunk: 100}, want: OK, version: 2, seed: large, most: time.Second / 10},
		{name: "version 1 by wish", server: &guesttest.Server{Documents: small()}, protocol: 1, want: OK, version: 1, seed: small(), most: time.Second},
		{name: "older server, silent", server: &guesttest.Server{Documents: small(), Old: true}, want: OK, version: 1, seed: small(), most: 10 * time.Second},
		{name: "older server, which says bad-request", server: &guesttest.Server{Documents: small(), Old: true, Strict: true}, want: OK, version: 1, seed: small(), most: time.Second},
		{name: "older server, large documents", server: &guesttest.Server{Documents: large, Old: true}, want: OK, version: 1, seed: large, most: 30 * time.Second},
		{
			name: "older server, nothing but meta-data", server: &guesttest.Server{Documents: documents{packet.MetaData: []byte("{}")}, Old: true}, want: OK, version: 1,
			seed: documents{packet.MetaData: []byte("{}"), packet.UserData: {}}, most: 40 * time.Second,
		},
		{name: "older server, version 2 by wish", server: &guesttest.Server{Documents: small(), Old: true}, protocol: 2, want: Unreachable, most: DefaultWait},
		{name: "no network-config", server: &guesttest.Server{Documents: without(packet.NetworkConfig)}, want: OK, version: 2, seed: without(packet.NetworkConfig), most: time.Second / 10},
		{name: "empty user-data", server: &guesttest.Server{Documents: with(packet.UserData, "")}, want: OK, version: 2, seed: with(packet.UserData, ""), most: time.Second / 10},
		{name: "mute", server: &guesttest.Server{Mute: true}, want: Unreachable, most: DefaultWait},
		{name: "nothing for it", server: &guesttest.Server{Fail: packet.NotFound}, want: NotFound, most: time.Second / 10},
		{name: "nothing for it, older", server: &guesttest.Server{Fail: packet.NotFound, Old: true}, want: NotFound, most: 5 * time.Second},
		{name: "denied", server: &guesttest.Server{Fail: packet.Denied}, want: Denied, most: time.Second / 10},
		{name: "invalid", server: &guesttest.Server{Fail: packet.Invalid}, want: Invalid, most: time.Second / 10},
		{name: "driver fails", server: &guesttest.Server{Fail: packet.Unavailable}, want: Unavailable, most: DefaultWait},
		{name: "slow", server: &guesttest.Server{Documents: small(), Delay: 900 * time.Millisecond}, want: OK, version: 2, seed: small(), most: 10 * time.Second},
		{name: "slower", server: &guesttest.Server{Documents: small(), Delay: 4 * time.Second}, want: OK, most: DefaultWait, seed: small()},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMachine(t, tc.server, nil)
				m.config.Protocol = tc.protocol
				r := m.run(tc.most)
				if r.Result != tc.want || tc.version != 0 && r.Protocol != tc.version || r.Boot != "first" {
					t.Errorf("got %+v, want %s with version %d", r, tc.want, tc.version)
				}
				m.wantSeed(tc.seed)
				if written := r.Seed == SeedWritten; written != (tc.want == OK) {
					t.Errorf("the result says that the seed is %s", r.Seed)
				}
				if tc.want == OK && r.Protocol == 2 && tc.server.Delay < patience {
					if reports := m.server.Reports(); len(reports) == 0 || reports[0].Stage != "seed" || reports[0].BootID != BootID(m.root) || reports[0].Generation != r.Generation {
						t.Errorf("the server heard %+v", reports)
					}
				}
			})
		})
	}
}

// TestAnOlderServerHasTrouble has one whose answers, of which nothing says that they are whole or all, fail now and then.
func TestAnOlderServerHasTrouble(t *testing.T) {
	// once changes the first answers of a code.
	once := func(code packet.Code, times int, change func([]byte) []byte) func(*guesttest.Server) {
		return func(s *guesttest.Server) {
			s.Rewrite = func(got packet.Code, data []byte) []byte {
				if got == code && times > 0 {
					times--
					return change(data)
				}
				return data
			}
		}
	}
	lost := func([]byte) []byte { return nil }
	// fails answers the request behind that for meta-data with an error, once.
	fails := func(why packet.ErrorCode) func(*guesttest.Server) {
		return func(s *guesttest.Server) {
			s.Rewrite = func(code packet.Code, data []byte) []byte {
				switch {
				case code == packet.ResponseMetaData:
					s.Fail = why
				case code == packet.ResponseError && s.Fail != "":
					s.Fail, s.Rewrite = "", nil
				}
				return data
			}
		}
	}
	for name, trouble := range map[string]func(*guesttest.Server){
		"user-data is lost":            once(packet.ResponseUserData, 1, lost),
		"user-data is lost twice":      once(packet.ResponseUserData, 2, lost),
		"network-config is lost twice": once(packet.ResponseNetworkData, 2, lost),
		"meta-data is lost":            once(packet.ResponseMetaData, 1, lost),
		"meta-data is empty":           once(packet.ResponseMetaData, 1, func([]byte) []byte { return []byte{} }),
		"meta-data is cut":             once(packet.ResponseMetaData, 1, func(data []byte) []byte { return data[:len(data)-1] }),
		"not now":                      fails(packet.Unavailable),
		"not understood":               fails(packet.BadRequest),
		"no trouble, and empty documents": func(s *guesttest.Server) {
			s.Documents[packet.VendorData] = nil
		},
	} {
		for _, strict := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, strict %v", name, strict), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					server := &guesttest.Server{Documents: small(), Old: true, Strict: strict}
					trouble(server)
					m := newMachine(t, server, nil)
					if r := m.run(DefaultWait); r.Result != OK || r.Protocol != 1 {
						t.Errorf("got %+v", r)
					}
					m.wantSeed(small())
				})
			})
		}
	}
}

// TestAnOlderServerStalls has one that is held up for a while, and then answers all that has queued up.
func TestAnOlderServerStalls(t *testing.T) {
	for _, tc := range []struct {
		before packet.Code // the answer ahead of the stall
		stall  time.Duration
		fail   packet.ErrorCode // what it says of the first request then
	}{
		{packet.ResponseMetaData, 10 * time.Second, ""},
		{packet.ResponseMetaData, 10 * time.Second, packet.Unavailable},
		{packet.ResponseUserData, 10 * time.Second, packet.NotFound},
		{packet.ResponseUserData, 10 * time.Second, ""},
		{packet.ResponseUserData, 40 * time.Second, ""},
		{packet.ResponseVendorData, 10 * time.Second, ""},
	} {
		t.Run(fmt.Sprintf("%v behind %s %s", tc.stall, tc.before, tc.fail), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				want := small()
				want[packet.VendorData] = []byte("#cloud-config\n# vendor\n")
				server := &guesttest.Server{Documents: want, Old: true}
				stalled := false
				server.Rewrite = func(code packet.Code, data []byte) []byte {
					if server.Delay = 0; code == tc.before && !stalled {
						stalled, server.Delay, server.Fail = true, tc.stall, tc.fail
					} else if server.Fail != "" {
						server.Fail = ""
					}
					return data
				}
				m := newMachine(t, server, nil)
				if r := m.run(DefaultWait); r.Result != OK || r.Protocol != 1 {
					t.Errorf("got %+v", r)
				}
				if tc.fail == packet.NotFound {
					delete(want, packet.VendorData)
				}
				m.wantSeed(want)
			})
		})
	}
}

// TestLateChunksAreLeftAlone has a line on which all chunks come once more, ahead of each new one.
func TestLateChunksAreLeftAlone(t *testing.T) {
	changed := small()
	changed[packet.UserData] = []byte("#cloud-boothook, which is another")
	for name, tc := range map[string]struct {
		maxChunk, retries int
		want              documents
	}{
		"documents in one chunk":      {0, 0, small()},
		"small chunks":                {10, 0, small()},
		"data that change in between": {10, 1, changed},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var sent []byte
				m := newMachine(t, &guesttest.Server{Documents: small(), MaxChunk: tc.maxChunk}, func(b []byte) []byte {
					if bytes.HasPrefix(b, []byte("!!RESPONSE_CHUNK#")) {
						sent = append(sent, b...)
						return sent
					}
					return b
				})
				m.server.Rewrite = func(code packet.Code, data []byte) []byte {
					if chunk, err := packet.ParseChunk(data); err == nil && chunk.Document == packet.UserData && tc.retries > 0 && m.server.Edition == 0 {
						m.server.Edition, m.server.Documents = 1, maps.Clone(changed)
					}
					return data
				}
				if r := m.run(time.Second); r.Result != OK || r.Retries != tc.retries {
					t.Errorf("got %+v; want %d retries", r, tc.retries)
				}
				m.wantSeed(tc.want)
			})
		})
	}
}

// slow is a port on a line of 9600 baud.
type slow struct {
	kept
	mu       sync.Mutex
	deadline time.Time
}

func (p *slow) SetDeadline(t time.Time) error {
	p.mu.Lock()
	p.deadline = t
	p.mu.Unlock()
	return p.kept.SetDeadline(t)
}

func (p *slow) Read(b []byte) (int, error) {
	time.Sleep(10 * time.Millisecond)
	p.mu.Lock()
	late := !p.deadline.IsZero() && time.Now().After(p.deadline)
	p.mu.Unlock()
	if late { // what is on the line has not come yet
		return 0, os.ErrDeadlineExceeded
	}
	return p.kept.Read(b[:min(len(b), 10)])
}

// TestSlowLine has documents that take their time: with version 1, where nobody knows how much there is, more than the wait.
func TestSlowLine(t *testing.T) {
	for _, tc := range []struct {
		name string
		old  bool
		size int
		most time.Duration
	}{
		{"version 2", false, 20_000, time.Minute},
		{"version 1", true, 150_000, 5 * time.Minute},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				docs := small()
				docs[packet.UserData] = noise(tc.size)
				m := newMachine(t, &guesttest.Server{Documents: docs, Old: tc.old, Strict: tc.old}, nil)
				open := m.config.Open
				m.config.Open = func(path string, speed int) (Port, error) {
					port, err := open(path, speed)
					if err != nil {
						return nil, err
					}
					return &slow{kept: port.(kept)}, nil
				}
				if r := m.run(tc.most); r.Result != OK || r.Retries != 0 {
					t.Errorf("got %+v; the line is slow, and works", r)
				}
				m.wantSeed(docs)
			})
		})
	}
}

func TestNobodyHasToListen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t, &guesttest.Server{Mute: true}, nil)
		m.config.Console, m.config.Log = nil, nil
		if r := Seed(t.Context(), m.config); r.Result != Unreachable {
			t.Errorf("got %+v", r)
		}
	})
}

// faulty is a port that fails.
type faulty struct{ kept }

func (faulty) Read([]byte) (int, error) { return 0, syscall.EIO }

// TestPortIsOpenedAgain has one that comes late, and one that fails and is there again.
func TestPortIsOpenedAgain(t *testing.T) {
	for name, trouble := range map[string]func(since time.Duration, port Port) (Port, error){
		"comes late": func(since time.Duration, port Port) (Port, error) {
			if since < openWait-time.Second {
				return nil, syscall.ENODEV
			}
			return port, nil
		},
		"fails": func(since time.Duration, port Port) (Port, error) {
			if since == 0 {
				return faulty{port.(kept)}, nil
			}
			return port, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMachine(t, &guesttest.Server{Documents: small()}, nil)
				open, started := m.config.Open, time.Now()
				m.config.Open = func(path string, speed int) (Port, error) {
					port, err := open(path, speed)
					if err != nil {
						return nil, err
					}
					return trouble(time.Since(started), port)
				}
				if r := m.run(DefaultWait); r.Result != OK {
					t.Errorf("got %+v", r)
				}
				m.wantSeed(small())
			})
		})
	}
}

func noise(n int) []byte {
	data := make([]byte, n)
	rand.NewChaCha8([32]byte{7}).Read(data)
	return data
}

func TestLaterBoot(t *testing.T) {
	other := small()
	other[packet.MetaData] = []byte(`{"instance-id":"i-2"}`)
	for _, tc := range []struct {
		name     string
		server   *guesttest.Server
		hasSeed  bool
		want     Outcome
		wantSeed string
		seed     documents
	}{
		{"the same data", &guesttest.Server{Documents: small()}, true, OK, SeedUnchanged, small()},
		{"other data", &guesttest.Server{Documents: other}, true, OK, SeedWritten, other},
		{"server down", &guesttest.Server{Mute: true}, true, Unreachable, SeedKept, small()},
		{"nothing for it any more", &guesttest.Server{Fail: packet.NotFound}, true, NotFound, SeedKept, small()},
		{"denied by now", &guesttest.Server{Fail: packet.Denied}, true, Denied, SeedKept, small()},
		{"server down, seed gone", &guesttest.Server{Mute: true}, false, Unreachable, SeedIdentity, documents{
			packet.MetaData: []byte(`{"instance-id":"i-1"}`), packet.UserData: []byte("#cloud-config cached\n"),
		}},
		{"seed gone", &guesttest.Server{Documents: small()}, false, OK, SeedWritten, small()},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMachine(t, tc.server, nil)
				m.cached("i-1")
				if tc.hasSeed {
					for name, data := range small() {
						m.put("cloud/seed/nocloud/"+string(name), string(data))
					}
					os.Chmod(m.config.Dir, 0o700)
				}
				r := m.run(LaterWait)
				if r.Result != tc.want || r.Seed != tc.wantSeed || r.Boot != "later" || tc.want != Denied && r.InstanceID == "" {
					t.Errorf("got %+v, want %s, seed %s", r, tc.want, tc.wantSeed)
				}
				m.wantSeed(tc.seed)
				if served := m.server.Served(); r.Seed == SeedUnchanged && served != 0 {
					t.Errorf("%d bytes were fetched for nothing", served)
				}
			})
		})
	}
}

// A server makes a flat network's network-config with the MAC address of a card that the hello names. When the drivers come
// later than a later boot waits for them, what it makes lacks the address that the first boot got.
func TestLaterBootWithoutNICs(t *testing.T) {
	const with, without, moved = "address: 192.0.2.1\nmac_address: 02:00:00:00:00:01\n", "address: 192.0.2.1\n", "address: 192.0.2.2\n"
	seed := func(id, network string) documents {
		d := small()
		d[packet.MetaData] = []byte(`{"instance-id":"` + id + `"}`)
		if d[packet.NetworkConfig] = []byte(network); network == "" {
			delete(d, packet.NetworkConfig)
		}
		return d
	}
	for _, tc := range []struct {
		name           string
		before, server documents
		old, nic       bool // the server is of version 1; there is a card
		template       bool // the seed is another machine's
		seed           documents
		wantSeed       string
	}{
		{name: "no card", before: seed("i-1", with), server: seed("i-1", without), seed: seed("i-1", with), wantSeed: SeedUnchanged},
		{name: "no card, changed", before: seed("i-1", with), server: seed("i-1", moved), seed: seed("i-1", with), wantSeed: SeedUnchanged},
		{name: "a card, changed", before: seed("i-1", with), server: seed("i-1", moved), nic: true, seed: seed("i-1", moved), wantSeed: SeedWritten},
		{name: "no card, new instance", before: seed("i-1", with), server: seed("i-2", without), seed: seed("i-2", without), wantSeed: SeedWritten},
		{name: "no card, network gone", before: seed("i-1", with), server: seed("i-1", ""), seed: seed("i-1", ""), wantSeed: SeedWritten},
		{name: "no card, network new", before: seed("i-1", ""), server: seed("i-1", without), seed: seed("i-1", without), wantSeed: SeedWritten},
		{name: "no card, older server", before: seed("i-1", with), server: seed("i-1", moved), old: true, seed: seed("i-1", moved), wantSeed: SeedWritten},
		{name: "no card, a template's seed", before: seed("i-1", with), server: seed("i-1", without), template: true, seed: seed("i-1", without), wantSeed: SeedWritten},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMachine(t, &guesttest.Server{Documents: tc.server, Old: tc.old, Strict: tc.old}, nil)
				m.cached("i-1")
				for name, data := range tc.before {
					m.put("cloud/seed/nocloud/"+string(name), string(data))
				}
				if err := os.Chmod(m.config.Dir, 0o700); err != nil {
					t.Fatal(err)
				}
				if tc.template {
					m.put("cloud/seed/nocloud.machine", "4213aaaa-0000-0000-0000-00000000000f")
				}
				m.put("sys/bus/pci/devices/0000:03:00.0/class", "0x020000")
				if tc.nic {
					m.put("sys/bus/pci/devices/0000:03:00.0/net/ens192/ifindex", "2")
					m.put("sys/class/net/ens192/device/vendor", "0x15ad")
					for file, text := range map[string]string{"ifindex": "2", "type": "1", "address": "02:00:00:00:00:01"} {
						m.put("sys/class/net/ens192/"+file, text)
					}
				}
				if r := m.run(nicWait + LaterWait); r.Result != OK || r.Seed != tc.wantSeed || r.Boot != later {
					t.Errorf("got %+v, want the seed %s", r, tc.wantSeed)
				}
				m.wantSeed(tc.seed)
			})
		})
	}
}

// An instance that cloud-init made up for want of a datasource is nothing to go on with.
func TestBootAfterAFirstBootWithoutServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t, &guesttest.Server{Mute: true}, nil)
		m.cached("iid-datasource-none")
		if r := m.run(DefaultWait); r.Boot != "first" || r.Seed != SeedNone || r.Seconds < LaterWait.Seconds() {
			t.Errorf("got %+v", r)
		}
	})
}

// A copy of a VM brings the seed of the VM it was copied from.
func TestSeedOfAnotherMachine(t *testing.T) {
	for _, tc := range []struct {
		name, owner string
		later       bool
		want        string
	}{
		{"another machine's", "4213aaaa-0000-0000-0000-00000000000f", false, SeedRemoved},
		{"another machine's, at a later boot", "4213aaaa-0000-0000-0000-00000000000f", true, SeedKept},
		{"its own", "4213aaaa-0000-0000-0000-000000000001", false, SeedKept},
		{"made by hand", "", false, SeedKept},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMachine(t, &guesttest.Server{Mute: true}, nil)
				m.put("cloud/seed/nocloud/meta-data", "{}")
				m.put("cloud/seed/nocloud/user-data", "")
				if tc.owner != "" {
					m.put("cloud/seed/nocloud.machine", tc.owner)
				}
				if tc.later {
					m.cached("i-1")
				}
				r := m.run(DefaultWait)
				if _, err := os.Stat(m.config.Dir); r.Seed != tc.want || os.IsNotExist(err) != (tc.want == SeedRemoved) {
					t.Errorf("got %+v, %v", r, err)
				}
				// What somebody puts there by hand stays, whatever was there before.
				m.put("cloud/seed/nocloud/meta-data", "{}")
				m.put("cloud/seed/nocloud/user-data", "")
				if r := m.run(DefaultWait); r.Seed != SeedKept {
					t.Errorf("at the next boot: got %+v", r)
				}
			})
		})
	}
}

func TestTheConsoleHears(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t, &guesttest.Server{Mute: true}, nil)
		m.config.Wait = 23 * time.Second
		m.run(23 * time.Second)
		want := []string{
			"waiting for a metadata server on /dev/ttyS1 (5s of 23s)", "waiting for a metadata server on /dev/ttyS1 (10s of 23s)",
			"waiting for a metadata server on /dev/ttyS1 (15s of 23s)", "waiting for a metadata server on /dev/ttyS1 (20s of 23s)",
		}
		if len(m.console) != 5 || !strings.HasPrefix(m.console[4], "unreachable: ") {
			t.Fatalf("the console heard %q", m.console)
		}
		for i := range want {
			if m.console[i] != want[i] {
				t.Errorf("the console heard %q, want %q", m.console[i], want[i])
			}
		}
	})
}

func TestNoPort(t *testing.T) {
	for name, files := range map[string][]string{
		"nothing at all": nil,
		"phantoms":       {"sys/class/tty/ttyS0/type=0", "sys/class/tty/ttyS1/type=0"},
		"a console":      {"sys/class/tty/ttyS0/type=4", "sys/class/tty/console/active=ttyS0"},
	} {
		t.Run(name, func(t *testing.T) {
			m := &machine{t: t, root: t.TempDir()}
			for _, file := range files {
				path, text, _ := strings.Cut(file, "=")
				m.put(path, text)
			}
			m.config = Config{Root: m.root, Dir: filepath.Join(m.root, "seed"), CloudDir: filepath.Join(m.root, "cloud")}
			r := m.run(200 * time.Millisecond)
			if r.Result != NoPort || r.Seed != SeedNone {
				t.Errorf("got %+v", r)
			}
			if name == "a console" && !strings.Contains(r.Message, "/dev/ttyS0: it is a console") {
				t.Errorf("the message is %q", r.Message)
			}
		})
	}
}

func TestPortTrouble(t *testing.T) {
	for _, tc := range []struct {
		name string
		err  error
		want Outcome
		most time.Duration
	}{
		{"no hardware", tty.ErrNoPort, NoPort, 200 * time.Millisecond},
		{"busy", tty.ErrBusy, Busy, openWait + time.Second},
		{"not root", os.ErrPermission, Failed, openWait + time.Second},
		{"a folder", syscall.EISDIR, Failed, openWait + time.Second},
		{"a speed that there is not", errors.New("12345 baud is not a usual speed"), Failed, openWait + time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMachine(t, &guesttest.Server{}, nil)
				m.config.Open = func(string, int) (Port, error) { return nil, tc.err }
				if r := m.run(tc.most); r.Result != tc.want {
					t.Errorf("got %+v", r)
				}
			})
		})
	}
}

func TestGettyOnThePort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t, &guesttest.Server{Documents: small()}, nil)
		m.put("proc/612/comm", "agetty\n")
		fd := filepath.Join(m.root, "proc/612/fd")
		if err := os.MkdirAll(fd, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("/dev/ttyS1", filepath.Join(fd, "0")); err != nil {
			t.Fatal(err)
		}
		r := m.run(openWait + time.Second)
		if r.Result != Busy || !strings.Contains(r.Message, "agetty (process 612)") || !strings.Contains(r.Message, "serial-getty@ttyS1") {
			t.Errorf("got %+v", r)
		}
	})
}

// A port on which something talks without end takes its turns, and no more.
func TestChatterOnAnotherPort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t, &guesttest.Server{Documents: small()}, nil)
		m.put("sys/class/tty/console/active", "tty0")
		chatty, receiver := guesttest.Line(nil)
		ticker := time.NewTicker(time.Second / 10)
		defer ticker.Stop()
		ended := make(chan struct{})
		defer close(ended)
		go func() {
			for {
				select {
				case <-ticker.C:
					receiver.Write([]byte("$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47\r\n"))
				case <-ended:
					return
				}
			}
		}()
		open := m.config.Open
		m.config.Open = func(path string, speed int) (Port, error) {
			if path == "/dev/ttyS0" {
				return kept{chatty}, nil
			}
			return open(path, speed)
		}
		if r := m.run(firstTurn + time.Second); r.Result != OK || r.Device != "/dev/ttyS1" {
			t.Errorf("got %+v", r)
		}
		m.wantSeed(small())

		m.server.Do(func() { m.server.Mute = true })
		time.AfterFunc(time.Minute, func() { m.server.Do(func() { m.server.Mute = false }) })
		if r := m.run(DefaultWait); r.Result != OK {
			t.Errorf("from a server that comes late: %+v", r)
		}
	})
}

// Who stops it, as a shutdown does, is not told of a server that did not answer in time.
func TestStopped(t *testing.T) {
	for _, mute := range []bool{true, false} {
		t.Run(fmt.Sprintf("mute %v", mute), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := &guesttest.Server{Documents: small(), Mute: mute}
				server.Rewrite = func(code packet.Code, data []byte) []byte {
					if code == packet.ResponseChunk {
						return nil
					}
					return data
				}
				m := newMachine(t, server, nil)
				ctx, stop := context.WithTimeout(t.Context(), 7*time.Second)
				defer stop()
				r := Seed(ctx, m.config)
				if r.Result != Unreachable || r.Seconds != 7 || !strings.Contains(r.Message, "stopped while") && !strings.Contains(r.Message, "stopped in the middle of fetching") {
					t.Errorf("got %+v", r)
				}
			})
		})
	}
}

func TestServerComesLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t, &guesttest.Server{Documents: small(), Mute: true}, nil)
		time.AfterFunc(80*time.Second, func() { m.server.Do(func() { m.server.Mute = false }) })
		if r := m.run(90 * time.Second); r.Result != OK || r.Protocol != 2 && r.Protocol != 1 {
			t.Errorf("got %+v", r)
		}
		m.wantSeed(small())
	})
}

func TestDriverFailsForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t, &guesttest.Server{Documents: small(), Fail: packet.Unavailable}, nil)
		time.AfterFunc(20*time.Second, func() { m.server.Do(func() { m.server.Fail = "" }) })
		if r := m.run(25 * time.Second); r.Result != OK || r.Protocol != 2 {
			t.Errorf("got %+v", r)
		}
		if n := m.server.Count(packet.RequestHello); n > 15 {
			t.Errorf("the server was asked %d times in 20 seconds", n)
		}
	})
}

func TestTransferGoesOnWhereItStalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		docs := small()
		docs[packet.UserData] = noise(1 << 20)
		m := newMachine(t, &guesttest.Server{Documents: docs, Delay: time.Millisecond}, nil)
		cut := false
		m.server.Rewrite = func(code packet.Code, data []byte) []byte {
			if code == packet.ResponseChunk && !cut && bytes.Contains(data, []byte(`"offset":5`)) {
				cut = true
				m.host.Cut()
				time.AfterFunc(20*time.Second, func() { m.server.Forget(); m.host.Mend() })
			}
			return data
		}
		if r := m.run(30 * time.Second); r.Result != OK || !cut {
			t.Errorf("got %+v, cut: %v", r, cut)
		}
		m.wantSeed(docs)
		if served := m.server.Served(); served > 1<<20+200<<10 {
			t.Errorf("%d bytes were sent", served)
		}
	})
}

func TestServerDiesInTheMiddle(t *testing.T) {
	for _, later := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			docs := small()
			docs[packet.UserData] = noise(1 << 20)
			m := newMachine(t, &guesttest.Server{Documents: docs}, nil)
			most, want, seed := 2*DefaultWait+5*time.Second, SeedNone, documents(nil)
			if later {
				m.cached("i-0")
				most, want = 2*LaterWait+5*time.Second, SeedIdentity
				seed = documents{packet.MetaData: []byte(`{"instance-id":"i-0"}`), packet.UserData: []byte("#cloud-config cached\n")}
			}
			m.server.Rewrite = func(code packet.Code, data []byte) []byte {
				if bytes.Contains(data, []byte(`"offset":5`)) {
					m.server.Mute = true
				}
				return data
			}
			if r := m.run(most); r.Result != Unreachable || r.Seed != want {
				t.Errorf("got %+v", r)
			}
			m.wantSeed(seed)
		})
	}
}

func TestDataChangesUnderTheTransfer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		docs := small()
		docs[packet.UserData] = noise(200_000)
		docs[packet.VendorData] = noise(100_000)
		m := newMachine(t, &guesttest.Server{Documents: docs}, nil)
		want := maps.Clone(docs)
		want[packet.VendorData] = []byte("new")
		changed := false
		m.server.Rewrite = func(code packet.Code, data []byte) []byte {
			if code == packet.ResponseChunk && !changed && bytes.Contains(data, []byte(`"vendor-data"`)) {
				changed = true
				m.server.Documents = want
				m.server.Edition++
			}
			return data
		}
		if r := m.run(time.Second); r.Result != OK || !changed {
			t.Errorf("got %+v", r)
		}
		m.wantSeed(want)
		if served := m.server.Served(); served > 320_000 {
			t.Errorf("%d bytes were sent: what had not changed was fetched again", served)
		}
	})
}

func TestAlwaysStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t, &guesttest.Server{Documents: small(), Stale: true}, nil)
		if r := m.run(2 * DefaultWait); r.Result != Unreachable {
			t.Errorf("got %+v", r)
		}
		if n := m.server.Count(packet.RequestHello); n > 4000 {
			t.Errorf("%d hellos: two machines spin", n)
		}
		m.wantSeed(nil)
	})
}

// What a server must not get away with.
func TestBadServers(t *testing.T) {
	reply := func(change func(*packet.HelloReply)) func(packet.Code, []byte) []byte {
		return func(code packet.Code, data []byte) []byte {
			if code != packet.ResponseHello {
				return data
			}
			r, err := packet.ParseHelloReply(data)
			if err != nil {
				panic(err)
			}
			change(r)
			return r.Append(nil)
		}
	}
	bomb := func(r *packet.HelloReply) {
		info := r.Documents[packet.UserData]
		info.Size = 100
		r.Documents[packet.UserData] = info
	}
	docs := small()
	docs[packet.UserData] = make([]byte, 1<<20)
	for _, tc := range []struct {
		name    string
		rewrite func(packet.Code, []byte) []byte
		want    Outcome
		most    time.Duration
	}{
		{"gzip bomb", reply(bomb), Invalid, 10 * time.Second},
		{"another hash", reply(func(r *packet.HelloReply) {
			info := r.Documents[packet.MetaData]
			sum := sha256.Sum256(nil)
			info.SHA256 = hex.EncodeToString(sum[:])
			r.Documents[packet.MetaData] = info
		}), Invalid, 10 * time.Second},
		{"no user-data", reply(func(r *packet.HelloReply) { delete(r.Documents, packet.UserData) }), Invalid, time.Second},
		{"version 3", reply(func(r *packet.HelloReply) { r.Version = 3 }), Invalid, time.Second},
		{"an encoding of its own", reply(func(r *packet.HelloReply) {
			r.Documents[packet.UserData] = packet.DocumentInfo{Size: 1, EncodedSize: 1, Encoding: "zstd", SHA256: strings.Repeat("0", 64)}
		}), Invalid, time.Second},
		{"an earlier boot's answer", reply(func(r *packet.HelloReply) { r.Nonce = "old" }), Unreachable, DefaultWait},
		{"an answer that is cut", func(code packet.Code, data []byte) []byte {
			if code == packet.ResponseHello {
				return data[:len(data)-1]
			}
			return data
		}, Unreachable, DefaultWait},
		{"the wrong chunks", func(code packet.Code, data []byte) []byte {
			if code == packet.ResponseChunk {
				return bytes.Replace(data, []byte(`"offset":0`), []byte(`"offset":1`), 1)
			}
			return data
		}, Unreachable, 2*DefaultWait + 10*time.Second},
		{"empty chunks", func(code packet.Code, data []byte) []byte {
			if code == packet.ResponseChunk {
				return (&packet.Chunk{Document: packet.MetaData}).Append(nil)
			}
			return data
		}, Unreachable, 2*DefaultWait + 10*time.Second},
		{"damaged chunks", func(code packet.Code, data []byte) []byte {
			if code == packet.ResponseChunk {
				return []byte("{}")
			}
			return data
		}, Unreachable, 2*DefaultWait + 10*time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMachine(t, &guesttest.Server{Documents: docs, Rewrite: tc.rewrite}, nil)
				if tc.want == Unreachable {
					m.config.Protocol = 2
				}
				if r := m.run(tc.most); r.Result != tc.want {
					t.Errorf("got %+v", r)
				}
				m.wantSeed(nil)
			})
		})
	}
}

// TestTheServerLearnsWhatFailed has a seed that can't be written, and documents that are not what was announced.
func TestTheServerLearnsWhatFailed(t *testing.T) {
	for _, tc := range []struct {
		name    string
		dir     string // below the root
		rewrite func(packet.Code, []byte) []byte
		want    packet.Report
		most    time.Duration
	}{
		{"no folder", "file/seed", nil, packet.Report{Result: "failed", Message: "seed: "}, time.Second},
		{"a server that is silent then", "file/seed", func(code packet.Code, data []byte) []byte {
			if code == packet.ResponseReport {
				return nil
			}
			return data
		}, packet.Report{Result: "failed", Message: "seed: "}, reportWait},
		{"a wrong document", "seed", func(code packet.Code, data []byte) []byte {
			if code != packet.ResponseHello {
				return data
			}
			reply, err := packet.ParseHelloReply(data)
			if err != nil {
				panic(err)
			}
			info := reply.Documents[packet.MetaData]
			info.SHA256 = strings.Repeat("0", 64)
			reply.Documents[packet.MetaData] = info
			return reply.Append(nil)
		}, packet.Report{Result: "invalid", Message: "what the server sends can't be used: "}, 10 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMachine(t, &guesttest.Server{Documents: small(), Rewrite: tc.rewrite}, nil)
				m.put("file", "")
				m.config.Dir = filepath.Join(m.root, tc.dir)
				if r := m.run(tc.most); string(r.Result) != tc.want.Result || r.InstanceID != "" {
					t.Errorf("got %+v", r)
				}
				reports := m.server.Reports()
				if len(reports) == 0 {
					t.Fatal("the server hears nothing")
				}
				got := reports[0]
				if got.Result != tc.want.Result || !strings.HasPrefix(got.Message, tc.want.Message) || got.Stage != "seed" || got.Generation == "" || got.InstanceID != "" ||
					got.BootID != "11111111-2222-3333-4444-555555555555" {
					t.Errorf("the server hears %+v", got)
				}
			})
		})
	}
}

func TestReplyWithoutASealMustComeTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t, &guesttest.Server{Documents: small()}, nil)
		m.server.Rewrite = func(code packet.Code, data []byte) []byte {
			if code == packet.ResponseHello {
				at := bytes.LastIndex(data, []byte(`,"crc32c"`))
				data = append(data[:at:at], '}')
			}
			return data
		}
		if r := m.run(time.Second); r.Result != OK || r.Protocol != 2 || m.server.Count(packet.RequestHello) != 2 {
			t.Errorf("got %+v, after %d hellos", r, m.server.Count(packet.RequestHello))
		}
	})
}

func TestTheServerLearnsTheNICs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t, &guesttest.Server{Documents: small()}, nil)
		for name, files := range map[string]string{
			"lo": "ifindex=1 type=772 address=00:00:00:00:00:00", "ens224": "device/vendor=1 ifindex=3 type=1 address=00:50:56:00:00:02",
			"ens192": "device/vendor=1 ifindex=2 type=1 address=00:50:56:00:00:01", "br0": "ifindex=4 type=1 address=00:50:56:00:00:03",
			"ib0": "device/vendor=1 ifindex=5 type=32 address=80:00:02:08:fe:80",
		} {
			for file := range strings.FieldsSeq(files) {
				path, text, _ := strings.Cut(file, "=")
				m.put("sys/class/net/"+name+"/"+path, text+"\n")
			}
		}
		m.run(time.Second)
		hellos := m.server.Hellos()
		if len(hellos) != 1 || fmt.Sprint(hellos[0].NICs) != "[{ens192 00:50:56:00:00:01} {ens224 00:50:56:00:00:02}]" || hellos[0].Agent != "test/1" {
			t.Errorf("the server heard %+v", hellos)
		}
	})
}

// At boot the NICs' drivers are loaded while this program runs: the server hears of each NIC all the same.
// A machine may have more network cards than a hello may name.
func TestVeryManyNICs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t, &guesttest.Server{Documents: small()}, nil)
		for n := range packet.MaxNICs + 1 {
			for file, text := range map[string]string{"ifindex": fmt.Sprint(n + 2), "type": "1", "address": fmt.Sprintf("00:50:56:00:00:%02x", n), "device/vendor": "1"} {
				m.put(fmt.Sprintf("sys/class/net/eth%d/%s", n, file), text+"\n")
			}
		}
		r := m.run(time.Second)
		hellos := m.server.Hellos()
		if r.Protocol != 2 || len(hellos) != 1 || len(hellos[0].NICs) != packet.MaxNICs || hellos[0].NICs[0].Name != "eth0" {
			t.Errorf("got %+v, and the server heard %d hellos", r, len(hellos))
		}
	})
}

func TestNICsThatComeLate(t *testing.T) {
	for _, tc := range []struct {
		name  string
		nic   string // where it turns up below its PCI device, after 3 s
		class string
		want  string
		least time.Duration
	}{
		{"vmxnet3", "net/ens192", "0x020000", "[{ens192 00:50:56:00:00:01}]", 3 * time.Second},
		{"virtio", "virtio0/net/ens192", "0x020000", "[{ens192 00:50:56:00:00:01}]", 3 * time.Second},
		{"no driver", "", "0x028000", "[]", 30 * time.Second},
		{"not a network card", "", "0x010802", "[]", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMachine(t, &guesttest.Server{Documents: small()}, nil)
				m.put("sys/bus/pci/devices/0000:00:03.0/class", tc.class+"\n")
				if tc.nic != "" {
					time.AfterFunc(3*time.Second, func() {
						for file, text := range map[string]string{"device/vendor": "1", "ifindex": "2", "type": "1", "address": "00:50:56:00:00:01"} {
							m.put("sys/class/net/ens192/"+file, text+"\n")
						}
						m.put("sys/bus/pci/devices/0000:00:03.0/"+tc.nic+"/ifindex", "2\n")
					})
				}
				started := time.Now()
				m.run(tc.least + time.Second)
				hellos := m.server.Hellos()
				if len(hellos) != 1 || fmt.Sprint(hellos[0].NICs) != tc.want {
					t.Errorf("the server heard %+v; want the NICs %s", hellos, tc.want)
				}
				if took := time.Since(started); took < tc.least {
					t.Errorf("it took %v; want at least %v", took, tc.least)
				}
			})
		})
	}
}

// A bad line: bytes are dropped, doubled and flipped, the console prints in between, and the VM moves from host to
// host. What arrives is right, or it is not written.
func TestBadLine(t *testing.T) {
	size := 16 << 20
	if testing.Short() {
		size = 1 << 20
	}
	synctest.Test(t, func(t *testing.T) {
		docs := small()
		docs[packet.UserData] = noise(size)
		docs[packet.VendorData] = bytes.Repeat([]byte("a line of text\n"), 10_000)
		r := rand.New(rand.NewPCG(1, 2))
		var hits int
		m := newMachine(t, &guesttest.Server{Documents: docs}, func(b []byte) []byte { return damage(r, b, &hits) })
		moves := 0
		m.server.Rewrite = func(code packet.Code, data []byte) []byte {
			if code == packet.ResponseChunk && r.IntN(size>>10) < 8 {
				moves++
				m.host.Cut()
				time.AfterFunc(time.Duration(r.IntN(4000))*time.Millisecond, func() { m.server.Forget(); m.host.Mend() })
			}
			return data
		}
		// A line of version 1 has nothing to find the damage with.
		m.config.Protocol = 2
		result := m.run(time.Hour)
		if result.Result != OK {
			t.Errorf("got %+v", result)
		}
		m.wantSeed(docs)
		if moves == 0 || hits < size/10_000 {
			t.Errorf("the line was too good: %d moves, %d damaged bytes", moves, hits)
		}
		t.Logf("%d moves, %d damaged bytes, %d retries, %d of %d bytes sent, %v", moves, hits, result.Retries, m.server.Served(), size, result.Seconds)
	})
}

// damage does to b what a bad line does to one byte in 10,000, and lets the console print now and then.
func damage(r *rand.Rand, b []byte, hits *int) []byte {
	const rate = 10_000
	out := make([]byte, 0, len(b)+64)
	for next := r.IntN(2 * rate); ; next = r.IntN(2 * rate) {
		if next >= len(b) {
			out = append(out, b...)
			break
		}
		out = append(out, b[:next]...)
		switch hit := b[next]; r.IntN(3) {
		case 0:
		case 1:
			out = append(out, hit, hit)
		default:
			out = append(out, hit^1<<r.IntN(8))
		}
		*hits++
		b = b[next+1:]
	}
	if r.IntN(50) == 0 && len(out) > 0 {
		at := r.IntN(len(out))
		out = bytes.Join([][]byte{out[:at], out[at:]}, []byte("[   12.345678] usb 1-1: new device!!\r\n"))
	}
	return out
}

func TestSaveResult(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "result.json")
	want := Result{Result: NotFound, Seed: SeedKept, Message: "m", Boot: "later", Started: time.Unix(0, 0).UTC(), Documents: map[packet.Document]Length{packet.MetaData: {7}}}
	for range 2 {
		if err := want.Save(path); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(data, &got); err != nil || got["result"] != "not-found" || got["seed"] != "kept" {
		t.Errorf("%s, %v", data, err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Errorf("leftovers: %v", entries)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestGetAndProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t, &guesttest.Server{Documents: small()}, nil)
		m.put("sys/class/tty/ttyS9/type", "0")
		var last int64
		data, outcome, err := Get(t.Context(), m.config, packet.UserData, func(done, total int64) { last = total - done })
		if err != nil || outcome != OK || string(data) != "#cloud-config\n" || last != 0 {
			t.Errorf("got %q, %s, %v", data, outcome, err)
		}
		if _, outcome, err := Get(t.Context(), m.config, packet.VendorData, nil); outcome != NotFound || err == nil {
			t.Errorf("got %s, %v", outcome, err)
		}
		findings, err := Probe(t.Context(), m.config)
		if err != nil || len(findings) != 3 || findings[0].Path != "/dev/ttyS1" || findings[0].Version != 2 || findings[0].Sizes[packet.UserData] != 14 {
			t.Errorf("got %+v, %v", findings, err)
		}
		if findings[1].Asked || !strings.Contains(findings[1].Problem, "console") || findings[2].Asked || !strings.Contains(findings[2].Problem, "no hardware") {
			t.Errorf("got %+v", findings)
		}
		m.server.Do(func() { m.server.Mute = true })
		m.config.Wait = 5 * time.Second
		if findings, _ := Probe(t.Context(), m.config); findings[0].Outcome != Unreachable || findings[0].Problem == "" {
			t.Errorf("got %+v", findings)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second/2, cancel)
		started := time.Now()
		if _, outcome, _ := Get(ctx, m.config, packet.UserData, nil); outcome != Unreachable || time.Since(started) != time.Second/2 {
			t.Errorf("cancelled: %s after %v", outcome, time.Since(started))
		}
	})
}
