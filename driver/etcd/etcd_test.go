package etcd_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"vmw-cloudinit-metadata/driver/etcd"
	"vmw-cloudinit-metadata/internal/tlstest"
	"vmw-cloudinit-metadata/metadata"
	"vmw-cloudinit-metadata/metadata/metadatatest"
)

const uuid1 = "421338a5-0a6a-b9b4-b647-3007991cf1d6"

// freeURL returns the URL of a port that nobody listens on just now.
func freeURL(t *testing.T) url.URL {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return url.URL{Scheme: "http", Host: l.Addr().String()}
}

// cluster is some members of a real etcd, in this process.
type cluster struct {
	endpoints []string
	members   []*embed.Etcd
	client    *clientv3.Client
}

func start(t *testing.T, size int) *cluster {
	t.Helper()
	configs := make([]*embed.Config, size)
	var initial []string
	c := &cluster{}
	for i := range configs {
		config := embed.NewConfig()
		config.Name = fmt.Sprintf("member%d", i)
		config.Dir = t.TempDir()
		config.UnsafeNoFsync = true
		config.BcryptCost = 4 // the least; with the race detector a password takes a second else
		config.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
		client, peer := freeURL(t), freeURL(t)
		config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
		config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
		initial = append(initial, config.Name+"="+peer.String())
		c.endpoints = append(c.endpoints, client.String())
		configs[i] = config
	}
	c.members = make([]*embed.Etcd, size)
	var wg sync.WaitGroup
	for i, config := range configs {
		config.InitialCluster = strings.Join(initial, ",")
		wg.Go(func() {
			member, err := embed.StartEtcd(config)
			if err != nil {
				t.Error(err)
				return
			}
			select {
			case <-member.Server.ReadyNotify():
			case <-time.After(time.Minute):
				t.Error("etcd is not ready after a minute")
			}
			c.members[i] = member
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	t.Cleanup(func() {
		for _, member := range c.members {
			if member != nil {
				member.Close()
			}
		}
	})
	client, err := clientv3.New(clientv3.Config{Endpoints: c.endpoints, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	c.client = client
	return c
}

// kill ends a member.
func (c *cluster) kill(i int) {
	c.members[i].Close()
	c.members[i] = nil
}

func (c *cluster) put(t *testing.T, key, value string) {
	t.Helper()
	if _, err := c.client.Put(t.Context(), key, value); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, config etcd.Config) *etcd.Driver {
	t.Helper()
	d, err := etcd.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// eventually calls f until it says true.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	deadline, tick := time.After(30*time.Second), time.NewTicker(2*time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-deadline:
			t.Fatalf("not within 30 seconds: %s", what)
		case <-tick.C:
		}
	}
}

func userData(t *testing.T, d *etcd.Driver, vm metadata.VM) string {
	t.Helper()
	instance, err := d.Find(t.Context(), vm)
	if err != nil {
		return err.Error()
	}
	return string(instance.UserData)
}

func TestEtcd(t *testing.T) {
	c := start(t, 1)
	t.Run("contract", func(t *testing.T) {
		for name, cacheBytes := range map[string]int{"cached": 0, "not cached": -1} {
			t.Run(name, func(t *testing.T) {
				suites := 0
				metadatatest.Run(t, metadatatest.Suite{New: func(t *testing.T, records []metadatatest.Record) metadata.Driver {
					suites++
					prefix := fmt.Sprintf("/%s/%d/", name, suites)
					for _, r := range records {
						key := prefix + "uuid/" + r.UUID
						if r.UUID == "" {
							key = prefix + "name/" + r.Name
						}
						c.put(t, key, r.Document)
					}
					return open(t, etcd.Config{Endpoints: c.endpoints, Prefix: prefix, CacheBytes: cacheBytes})
				}})
			})
		}
	})
	t.Run("changes", func(t *testing.T) { testChanges(t, c) })
	t.Run("list", func(t *testing.T) { testList(t, c) })
	t.Run("documentation", func(t *testing.T) { testDocumentation(t, c) })
	t.Run("login", func(t *testing.T) { testLogin(t, c) }) // the last: it switches authentication on
}

// What is put, changed or deleted is seen, whatever was kept, by UUID and by name.
func testChanges(t *testing.T, c *cluster) {
	d := open(t, etcd.Config{Endpoints: c.endpoints, Prefix: "/changes/"})
	vm := metadata.VM{UUID: uuid1, Name: "web1"}
	is := func(want string) {
		t.Helper()
		began := time.Now()
		eventually(t, want, func() bool { return strings.Contains(userData(t, d, vm), want) })
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("it took %s until %q was seen", took, want)
		}
	}
	for round := range 20 {
		is("no data for this VM")
		c.put(t, "/changes/name/web1", fmt.Sprintf("userdata: name %d", round))
		is(fmt.Sprintf("name %d", round))
		c.put(t, "/changes/uuid/"+uuid1, "userdata: uuid")
		is("uuid")
		c.put(t, "/changes/uuid/"+uuid1, "userdat: uuid")
		is("did you mean userdata?")
		if _, err := c.client.Delete(t.Context(), "/changes/uuid/"+uuid1); err != nil {
			t.Fatal(err)
		}
		is(fmt.Sprintf("name %d", round))
		if _, err := c.client.Delete(t.Context(), "/changes/name/web1"); err != nil {
			t.Fatal(err)
		}
	}
	c.put(t, "/changes/name/web1", "userdata: same")
	var last *metadata.Instance
	eventually(t, "the same instance twice: that it is kept", func() bool {
		instance, err := d.Find(t.Context(), vm)
		if err != nil {
			return false
		}
		same := instance == last
		last = instance
		return same
	})
}

func testList(t *testing.T, c *cluster) {
	for i := range 250 {
		c.put(t, fmt.Sprintf("/list/name/vm%03d", i), "{}")
	}
	c.put(t, "/list/uuid/"+uuid1, "bad: 1")
	c.put(t, "/list/uuid/"+strings.ToUpper(uuid1), "{}")
	c.put(t, "/list/other/web1", "{}")
	d := open(t, etcd.Config{Endpoints: c.endpoints, Prefix: "/list/"})
	fine := 0
	bad := map[string]bool{}
	for entry, err := range d.All(t.Context()) {
		switch {
		case err != nil && errors.Is(err, metadata.ErrInvalid):
			bad[entry.Key] = strings.Contains(err.Error(), "is never read")
		case err != nil:
			t.Error(err)
		case entry.VM.Name != fmt.Sprintf("vm%03d", fine):
			t.Errorf("entry %d is %v", fine, entry.VM)
		default:
			fine++
		}
	}
	want := map[string]bool{"/list/uuid/" + uuid1: false, "/list/uuid/" + strings.ToUpper(uuid1): true, "/list/other/web1": true}
	if fine != 250 || !reflect.DeepEqual(bad, want) {
		t.Errorf("%d good ones, want 250; bad ones %v, want %v", fine, bad, want)
	}
}

func testLogin(t *testing.T, c *cluster) {
	c.put(t, "/login/name/web1", "userdata: x")
	for _, step := range []func() error{
		func() error { _, err := c.client.RoleAdd(t.Context(), "root"); return err },
		func() error { _, err := c.client.UserAdd(t.Context(), "root", "hunter2"); return err },
		func() error { _, err := c.client.UserGrantRole(t.Context(), "root", "root"); return err },
		func() error { _, err := c.client.AuthEnable(t.Context()); return err },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(t.TempDir(), "password")
	for password, works := range map[string]bool{"hunter2\n": true, "hunter3": false} {
		if err := os.WriteFile(file, []byte(password), 0o600); err != nil {
			t.Fatal(err)
		}
		d := open(t, etcd.Config{Endpoints: c.endpoints, Prefix: "/login/", Username: "root", PasswordFile: file})
		got := userData(t, d, metadata.VM{Name: "web1"})
		if works && got != "x" || !works && (!strings.Contains(got, "authentication failed") || strings.Contains(got, "hunter")) {
			t.Errorf("with the password %q: %s", password, got)
		}
	}
	d := open(t, etcd.Config{Endpoints: c.endpoints, Prefix: "/login/"})
	if _, err := d.Find(t.Context(), metadata.VM{Name: "web1"}); err == nil || errors.Is(err, metadata.ErrNotFound) || errors.Is(err, metadata.ErrDenied) {
		t.Errorf("without login: %v", err)
	}
	testCloseWhenRefused(t, c)
}

// Close comes back, also at the moment at which etcd refuses us a watch, when its client may wait for itself for ever.
func testCloseWhenRefused(t *testing.T, c *cluster) {
	for i := range 200 {
		d, err := etcd.New(etcd.Config{Endpoints: c.endpoints, Prefix: "/login/"})
		if err != nil {
			t.Fatal(err)
		}
		for range i % 5 {
			userData(t, d, metadata.VM{Name: "web1"})
		}
		d.Close()
	}
}

// Three members: one may go, with two gone nothing is found out, and nothing that was kept is given out.
func TestMembersGo(t *testing.T) {
	c := start(t, 3)
	d := open(t, etcd.Config{Endpoints: c.endpoints, Prefix: "/p/", Timeout: 2 * time.Second})
	vm := metadata.VM{Name: "web1"}
	c.put(t, "/p/name/web1", "userdata: one")
	eventually(t, "one", func() bool { return userData(t, d, vm) == "one" })

	c.kill(0)
	c.put(t, "/p/name/web1", "userdata: two")
	eventually(t, "two, with one member gone", func() bool { return userData(t, d, vm) == "two" })
	for i := range 20 {
		c.put(t, "/p/name/web1", fmt.Sprintf("userdata: n%d", i))
		eventually(t, fmt.Sprint("change ", i), func() bool { return userData(t, d, vm) == fmt.Sprintf("n%d", i) })
	}

	c.kill(1)
	eventually(t, "that nothing can be found out with two members gone", func() bool {
		_, err := d.Find(t.Context(), vm)
		if errors.Is(err, metadata.ErrNotFound) || errors.Is(err, metadata.ErrInvalid) {
			t.Errorf("with two members gone: %v", err)
		}
		return err != nil
	})
	began := time.Now()
	if _, err := d.Find(t.Context(), metadata.VM{Name: "db1"}); err == nil || errors.Is(err, metadata.ErrNotFound) || time.Since(began) > 4*time.Second {
		t.Errorf("another VM: %v after %s", err, time.Since(began))
	}
}

// A network that swallows everything between etcd and us.
func TestSilence(t *testing.T) {
	c := start(t, 1)
	proxy := newProxy(t, strings.TrimPrefix(c.endpoints[0], "http://"))
	d := open(t, etcd.Config{Endpoints: []string{"http://" + proxy.address}, Prefix: "/p/", Timeout: time.Second})
	vm := metadata.VM{Name: "web1"}
	c.put(t, "/p/name/web1", "userdata: one")
	eventually(t, "one", func() bool { return userData(t, d, vm) == "one" })
	began := time.Now()
	proxy.hold()
	c.put(t, "/p/name/web1", "userdata: two")
	eventually(t, "that what was kept is not trusted", func() bool { return userData(t, d, vm) != "one" })
	if took := time.Since(began); took > 6*time.Second {
		t.Errorf("it was trusted for %s", took)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := d.Find(ctx, vm); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a caller with little time: %v", err)
	}
	proxy.release()
	eventually(t, "two, when it is back", func() bool { return userData(t, d, vm) == "two" })
}

// proxy carries bytes until it is told to hold them.
type proxy struct {
	address string
	mu      sync.Mutex
	open    *sync.Cond
	held    bool
}

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{address: listener.Addr().String()}
	p.open = sync.NewCond(&p.mu)
	t.Cleanup(func() { listener.Close(); p.release() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", target)
			if err != nil {
				client.Close()
				continue
			}
			go p.carry(client, server)
			go p.carry(server, client)
		}
	}()
	return p
}

func (p *proxy) carry(from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	for buffer := make([]byte, 32<<10); ; {
		n, err := from.Read(buffer)
		p.mu.Lock()
		for p.held {
			p.open.Wait()
		}
		p.mu.Unlock()
		if _, writeErr := to.Write(buffer[:n]); err != nil || writeErr != nil {
			return
		}
	}
}

func (p *proxy) set(held bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = held
	p.open.Broadcast()
}

func (p *proxy) hold()    { p.set(true) }
func (p *proxy) release() { p.set(false) }

func TestNobodyThere(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	nobody := freeURL(t)
	for name, endpoint := range map[string]string{"nobody": nobody.String(), "silent": "http://" + silent.Addr().String()} {
		d := open(t, etcd.Config{Endpoints: []string{endpoint}, Timeout: 500 * time.Millisecond})
		began := time.Now()
		_, err := d.Find(t.Context(), metadata.VM{Name: "web1"})
		if err == nil || errors.Is(err, metadata.ErrNotFound) || errors.Is(err, metadata.ErrInvalid) || strings.Contains(err.Error(), "\n") || time.Since(began) > 3*time.Second {
			t.Errorf("%s: %v after %s", name, err, time.Since(began))
		}
	}
}

// Engines that are broken as a whole: a network that swallows all, and what is no etcd.
func TestFaults(t *testing.T) {
	answers := map[metadatatest.Fault]func(net.Conn){
		metadatatest.Hanging: func(conn net.Conn) { io.Copy(io.Discard, conn) },
		metadatatest.Dying:   func(conn net.Conn) { fmt.Fprint(conn, "\x00\x00\x12\x04") },
		metadatatest.Lying: func(conn net.Conn) {
			fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n"+metadatatest.Planted)
		},
		metadatatest.Huge: func(conn net.Conn) {
			for {
				if _, err := conn.Write([]byte(strings.Repeat(metadatatest.Planted, 1000))); err != nil {
					return
				}
			}
		},
	}
	have := slices.Collect(maps.Keys(answers))
	metadatatest.Faults{
		Have: have, Shared: have,
		New: func(t *testing.T, fault metadatatest.Fault) metadata.Driver {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { listener.Close() })
			go func() {
				for {
					conn, err := listener.Accept()
					if err != nil {
						return
					}
					go func() {
						defer conn.Close()
						answers[fault](conn)
					}()
				}
			}()
			return open(t, etcd.Config{Endpoints: []string{"http://" + listener.Addr().String()}, Timeout: time.Second})
		},
	}.Run(t)
}

func TestClosed(t *testing.T) {
	nobody := freeURL(t)
	d := open(t, etcd.Config{Endpoints: []string{nobody.String()}})
	d.Close()
	if _, err := d.Find(t.Context(), metadata.VM{Name: "web1"}); err == nil || errors.Is(err, metadata.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

// An administrator is told why there was no answer, and not only that there was none.
func TestReasons(t *testing.T) {
	untrusted, _ := tlstest.SelfSigned(t, "localhost")
	server, err := tls.Listen("tcp", "127.0.0.1:0", untrusted)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	go func() {
		for {
			conn, err := server.Accept()
			if err != nil {
				return
			}
			_ = conn.(*tls.Conn).Handshake()
			conn.Close()
		}
	}()
	nobody := freeURL(t)
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for endpoint, want := range map[string]string{
		nobody.String():                     "connection refused",
		"https://" + server.Addr().String(): "x509: cannot validate certificate",
	} {
		for _, username := range []string{"", "u"} {
			config := etcd.Config{Endpoints: []string{endpoint}, Timeout: 500 * time.Millisecond}
			if username != "" {
				config.Username, config.PasswordFile = username, file
			}
			d := open(t, config)
			var got string
			for try := 0; try < 10 && !strings.Contains(got, want); try++ { // on a busy machine the first may end before it is known
				got = userData(t, d, metadata.VM{Name: "web1"})
			}
			if !strings.Contains(got, want) {
				t.Errorf("%s, with the login %q: got %q, want %q", endpoint, username, got, want)
			}
		}
	}
}

// So he is where nothing at all comes, and nothing says why.
func TestSilentServer(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	endpoint := "http://" + silent.Addr().String()
	d := open(t, etcd.Config{Endpoints: []string{endpoint}, Timeout: 300 * time.Millisecond})
	if got, want := userData(t, d, metadata.VM{Name: "web1"}), "etcd: no answer from "+endpoint+" within 300ms"; !strings.HasPrefix(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A list of what nobody gives ends, and says why.
func TestListWithoutServer(t *testing.T) {
	nobody := freeURL(t)
	d := open(t, etcd.Config{Endpoints: []string{nobody.String()}, Timeout: 500 * time.Millisecond})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for entry, err := range d.All(ctx) {
		if entry.Key != "" || err == nil || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("got %+v, %v", entry, err)
		}
	}
}

// A proxy that the environment names is not for etcd. Go reads its name once, so this takes a process of its own.
func TestNoProxy(t *testing.T) {
	const variable = "TEST_ETCD_ENDPOINT"
	if endpoint := os.Getenv(variable); endpoint != "" {
		d := open(t, etcd.Config{Endpoints: []string{endpoint}, Timeout: 2 * time.Second})
		if got := userData(t, d, metadata.VM{Name: "web1"}); got != "x" {
			t.Error(got)
		}
		return
	}
	c := start(t, 1)
	c.put(t, etcd.DefaultPrefix+"name/web1", "userdata: x")
	nobody := freeURL(t)
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// Addresses of 127.0.0.0/8 are never asked for through a proxy; 0.0.0.0 leads here too.
	endpoint := strings.Replace(c.endpoints[0], "127.0.0.1", "0.0.0.0", 1)
	again := exec.CommandContext(t.Context(), program, "-test.run=^TestNoProxy$")
	again.Env = append(os.Environ(), variable+"="+endpoint, "HTTP_PROXY="+nobody.String(), "HTTPS_PROXY="+nobody.String(), "NO_PROXY=", "no_proxy=")
	if out, err := again.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// Close doesn't wait for a login that nobody answers.
func TestCloseDuringLogin(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := open(t, etcd.Config{Endpoints: []string{"http://" + listener.Addr().String()}, Username: "u", PasswordFile: file, Timeout: time.Minute})
	if _, err := listener.Accept(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	d.Close()
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("Close took %s", took)
	}
}

func TestBadConfig(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for options, want := range map[string]string{
		`{"endpoints": ["https://a"], "username": "u", "password-file": "EMPTY"}`: "holds no password",
		`{}`:                                 "option endpoints: are missing",
		`{"endpoints": ["etcd1:2379"]}`:      "each must be https://host:2379",
		`{"endpoints": ["https://u:p@h:1"]}`: "each must be https://host:2379",
		`{"endpoints": ["https://a", "http://b"]}`:                                       "are https:// all, or none",
		`{"endpoints": ["https://a"], "username": "u"}`:                                  "go together",
		`{"endpoints": ["https://a"], "username": "u", "password-file": "/nonexistent"}`: "option password-file",
		`{"endpoints": ["https://a"], "cert-file": "c"}`:                                 "go together",
		`{"endpoints": ["http://a"], "ca-file": "c"}`:                                    "which uses no certificates",
		`{"endpoints": ["https://a"], "ca-file": "/nonexistent"}`:                        "option ca-file",
		`{"endpoints": ["https://a"], "ca-file": "FILE"}`:                                "holds no certificate",
		`{"endpoints": ["https://a"], "cert-file": "FILE", "key-file": "FILE"}`:          "option cert-file",
		`{"endpoint": ["https://a"]}`:                                                    "did you mean endpoints?",
	} {
		config, err := etcd.ParseConfig([]byte(strings.NewReplacer("FILE", file, "EMPTY", empty).Replace(options)))
		if err == nil {
			_, err = etcd.New(config)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", options, err, want)
		}
	}
}
