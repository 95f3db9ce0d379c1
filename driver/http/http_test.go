package http

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vmw-cloudinit-metadata/metadata"
	"vmw-cloudinit-metadata/metadata/metadatatest"
)

const vmUUID = "421338a5-0a6a-b9b4-b647-3007991cf1d6"

var web1 = metadata.VM{Name: "web1", UUID: vmUUID}

func newDriver(t *testing.T, config Config) *Driver {
	t.Helper()
	d, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func serve(t *testing.T, handler http.HandlerFunc) string {
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

// The contract, with the UUID and the name as parts of one URL's path and of another's query.
func TestContract(t *testing.T) {
	for _, template := range []string{"/vms/%s", "/find?vm=%s"} {
		t.Run(template, func(t *testing.T) {
			metadatatest.Run(t, metadatatest.Suite{OnlyUUIDs: true, New: func(t *testing.T, records []metadatatest.Record) metadata.Driver {
				documents := map[string]string{}
				for _, r := range records {
					documents[fmt.Sprintf(template, r.UUID)] = r.Document
				}
				base := serve(t, func(w http.ResponseWriter, r *http.Request) {
					document, ok := documents[r.RequestURI]
					if !ok {
						http.NotFound(w, r)
						return
					}
					w.Header().Set("ETag", `"1"`)
					fmt.Fprint(w, document)
				})
				return newDriver(t, Config{URL: base + fmt.Sprintf(template, "{{.UUID}}")})
			}})
		})
	}
}

func TestExpand(t *testing.T) {
	for _, c := range []struct{ template, name, want string }{
		{"https://h/{{.UUID}}", "", "https://h/" + vmUUID},
		{"https://h/{{ .Name }}.yaml", "web 1", "https://h/web%201.yaml"},
		{"https://h/a?uuid={{.UUID}}&n={{.Name}}", "x&uuid=y#z", "https://h/a?uuid=" + vmUUID + "&n=x%26uuid%3Dy%23z"},
		{"https://h/{{.Name}}/", "a/b?c", "https://h/a%2Fb%3Fc/"},
		{"https://h/{{.Name}}", "Größe 3+4", "https://h/Gr%C3%B6%C3%9Fe%203%2B4"},
		{"https://h/{{.Name}}.yaml", "..", "https://h/...yaml"},
		{"https://h/{{.Name}}", "..", ""},
		{"https://h/{{.Name}}", "../x", ""},
		{"https://h/{{.Name}}", `..\x`, ""},
		{"https://h/x{{.Name}}", "/../y", ""},
		{"https://h/{{.Name}}", "", ""},
		{"https://h/{{.Name}}", "a\nb", ""},
		{"https://h/{{.Name}}", "a\xff", ""},
		{"https://h/{{.Name}}", strings.ToUpper(vmUUID), ""},
		{"https://h/{{.BIOSUUID}}", "web1", ""},
		{"https://h/all", "", "https://h/all"},
	} {
		target, err := parseTarget("url", c.template)
		if err != nil {
			t.Errorf("%s: %v", c.template, err)
			continue
		}
		got, err := target.expand(metadata.VM{UUID: vmUUID, Name: c.name})
		switch {
		case c.want == "" && !errors.Is(err, metadata.ErrNotFound):
			t.Errorf("%s with %q: got %v, %v, want ErrNotFound", c.template, c.name, got, err)
		case c.want != "" && (err != nil || got.String() != c.want):
			t.Errorf("%s with %q: got %v, %v, want %s", c.template, c.name, got, err, c.want)
		}
	}
}

func TestBadConfig(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		config Config
		want   string
	}{
		{Config{}, `one of the options "url" and "nocloud" is required`},
		{Config{URL: "http://a/", NoCloud: "http://a/"}, `the options "url" and "nocloud" exclude each other`},
		{Config{URL: "ftp://a/"}, "option url: must be an http:// or https:// URL"},
		{Config{URL: "/a"}, "must be an http:// or https:// URL"},
		{Config{URL: "http://a\x00/"}, "is not a URL"},
		{Config{URL: "http://{{.Name}}.example/"}, "must not choose the server"},
		{Config{URL: "{{.Name}}://example/"}, "must be an http"},
		{Config{URL: "http://user:secret@h/"}, "there is no user in it"},
		{Config{URL: "http://h/{{.Nam}}"}, "there is no {{.Nam}}"},
		{Config{URL: "http://h/{{if .Name}}a{{end}}"}, "braces stand only around a field"},
		{Config{URL: "http://h/#{{.Name}}"}, "fragment"},
		{Config{NoCloud: "http://h/{{.Name}}"}, "must end in a slash"},
		{Config{URL: "https://h/", CAFile: missing}, "option ca-file"},
		{Config{URL: "https://h/", CAFile: empty}, "holds no certificate"},
		{Config{URL: "https://h/", CertFile: missing}, "go together"},
		{Config{URL: "https://h/", CertFile: missing, KeyFile: missing}, "option cert-file"},
		{Config{URL: "https://h/", TokenFile: missing}, "option token-file"},
		{Config{URL: "https://h/", TokenFile: empty}, "must hold one word"},
	} {
		_, err := New(c.config)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%+v: got %v, want %q", c.config, err, c.want)
		}
	}
}

func TestParseConfig(t *testing.T) {
	c, err := ParseConfig([]byte(`{"url": "u", "nocloud": "n", "socket": "s", "ca-file": "ca", "cert-file": "c", "key-file": "k", "token-file": "t", "timeout": "2s", "cache-bytes": -1}`))
	if want := (Config{"u", "n", "s", "ca", "c", "k", "t", 2 * time.Second, -1}); err != nil || c != want {
		t.Errorf("got %+v, %v", c, err)
	}
	if _, err := ParseConfig([]byte(`{"ur": ""}`)); err == nil || !strings.Contains(err.Error(), "did you mean url?") {
		t.Errorf("got %v", err)
	}
}

func TestSeed(t *testing.T) {
	files := map[string]string{
		"/web1/meta-data":      "instance-id: 0123\nlocal-hostname: no\nflag: yes\n",
		"/web1/user-data":      "#cloud-config\r\n\xff",
		"/web1/vendor-data":    "",
		"/web1/network-config": "network:\n  version: 2\n  ethernets:\n    a:\n      match: {macaddress: 01:02:03:04:05:06}\n",
		"/db1/meta-data":       "",
		"/bad1/meta-data":      "a: [\n",
		"/bad2/meta-data":      "[]\n",
		"/bad3/meta-data":      "{}",
		"/bad3/network-config": "address: 1.2.3.4\n",
		"/bad4/meta-data":      "a: &x [*x]\n",
	}
	base := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if body, ok := files[r.URL.Path]; ok {
			fmt.Fprint(w, body)
			return
		}
		if strings.HasPrefix(r.URL.Path, "/flaky/") && r.URL.Path != "/flaky/meta-data" {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		if r.URL.Path != "/flaky/meta-data" {
			http.NotFound(w, r)
		}
	})
	d := newDriver(t, Config{NoCloud: base + "/{{.Name}}/"})
	instance, err := d.Find(t.Context(), web1)
	if err != nil {
		t.Fatal(err)
	}
	if m := instance.MetaData; m["instance-id"] != "0123" || m["local-hostname"] != "no" || m["flag"] != any(true) {
		t.Errorf("meta-data is %v: want text as it is written, and true for yes", m)
	}
	if string(instance.UserData) != "#cloud-config\r\n\xff" || instance.VendorData != nil {
		t.Errorf("user-data %q, vendor-data %q, want the bytes, and none for an empty file", instance.UserData, instance.VendorData)
	}
	if got := fmt.Sprint(instance.Network); got != "map[ethernets:map[a:map[match:map[macaddress:01:02:03:04:05:06]]] version:2]" {
		t.Errorf("network is %s", got)
	}
	for path, want := range map[string]string{
		"network.ethernets.a.match": base + "/web1/network-config:5:7",
		"network.ethernets.a.x.y":   base + "/web1/network-config:4:5",
		"metadata.flag":             base + "/web1/meta-data:3:1",
		"userdata":                  base + "/web1/user-data",
		"":                          base + "/web1/",
	} {
		if got := instance.Origin.Locate(path); got != want {
			t.Errorf("Locate(%q) = %s, want %s", path, got, want)
		}
	}
	if instance, err := d.Find(t.Context(), metadata.VM{Name: "db1"}); err != nil || instance.MetaData != nil || instance.Network != nil {
		t.Errorf("an empty seed: %+v, %v", instance, err)
	}
	if _, err := d.Find(t.Context(), metadata.VM{Name: "a/b"}); !errors.Is(err, metadata.ErrNotFound) {
		t.Errorf("no seed: %v", err)
	}
	for name, want := range map[string]string{
		"bad1": "/bad1/meta-data:2:1: is not YAML", "bad2": "must be a mapping", "bad3": "has no version", "bad4": "contains itself",
	} {
		_, err := d.Find(t.Context(), metadata.VM{Name: name})
		if !errors.Is(err, metadata.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want ErrInvalid and %q", name, err, want)
		}
	}
	if _, err := d.Find(t.Context(), metadata.VM{Name: "flaky"}); err == nil || errors.Is(err, metadata.ErrNotFound) || !strings.Contains(err.Error(), "502") {
		t.Errorf("half of a seed: %v, want that it is not available", err)
	}
}

func TestStatus(t *testing.T) {
	var status int
	base := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("key") != "s3cret" {
			t.Errorf("asked for %s", r.URL)
		}
		w.WriteHeader(status)
		fmt.Fprint(w, "confidential: text of an error")
	})
	d := newDriver(t, Config{URL: base + "/{{.Name}}?key=s3cret"})
	for _, status = range []int{201, 204, 304, 400, 401, 403, 404, 410, 418, 429, 500, 503} {
		_, err := d.Find(t.Context(), web1)
		missing := status == 404 || status == 410
		if err == nil || errors.Is(err, metadata.ErrNotFound) != missing || errors.Is(err, metadata.ErrDenied) || errors.Is(err, metadata.ErrInvalid) {
			t.Errorf("%d: got %v", status, err)
		}
		if text := fmt.Sprint(err); strings.Contains(text, "s3cret") || strings.Contains(text, "confidential") || !strings.Contains(text, "/web1") {
			t.Errorf("%d: the error is %q: it must have the path, not the query nor the body", status, text)
		}
	}
	d = newDriver(t, Config{URL: "http://127.0.0.1:1/{{.Name}}?key=s3cret"})
	if _, err := d.Find(t.Context(), web1); err == nil || strings.Contains(err.Error(), "s3cret") || errors.Is(err, metadata.ErrNotFound) {
		t.Errorf("no server: %v", err)
	}
}

func TestRedirects(t *testing.T) {
	var other atomic.Int32
	elsewhere := serve(t, func(http.ResponseWriter, *http.Request) { other.Add(1) })
	base := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/moved":
			http.Redirect(w, r, "/here", http.StatusMovedPermanently)
		case "/here":
			fmt.Fprint(w, "userdata: x")
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		case "/secure":
			http.Redirect(w, r, "https://"+r.Host+"/here", http.StatusMovedPermanently)
		default:
			http.Redirect(w, r, elsewhere, http.StatusFound)
		}
	})
	d := newDriver(t, Config{URL: base + "/{{.Name}}"})
	if instance, err := d.Find(t.Context(), metadata.VM{Name: "moved"}); err != nil || string(instance.UserData) != "x" {
		t.Errorf("on the same server: %v", err)
	}
	for name, want := range map[string]string{"loop": "redirects more than 3 times", "away": "redirects to another server", "secure": "write https:// in the URL"} {
		if _, err := d.Find(t.Context(), metadata.VM{Name: name}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", name, err, want)
		}
	}
	if other.Load() != 0 {
		t.Error("the other server was asked")
	}
}

// Bodies without end, of zeros that were compressed, and that are cut short.
func TestHostileBodies(t *testing.T) {
	base := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/endless":
			for chunk := []byte(strings.Repeat("a: b\n", 10_000)); ; {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		case "/short":
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, "userdata: x")
		case "/slow":
			fmt.Fprint(w, "userdata: ")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}
	})
	d := newDriver(t, Config{URL: base + "/{{.Name}}", Timeout: 300 * time.Millisecond})
	d2 := newDriver(t, Config{URL: base + "/{{.Name}}"})
	if _, err := d2.Find(t.Context(), metadata.VM{Name: "endless"}); !errors.Is(err, metadata.ErrInvalid) || !strings.Contains(err.Error(), "larger than 4 MiB") {
		t.Errorf("endless: %v", err)
	}
	if _, err := d2.Find(t.Context(), metadata.VM{Name: "short"}); err == nil || errors.Is(err, metadata.ErrInvalid) {
		t.Errorf("short: %v", err)
	}
	if _, err := d.Find(t.Context(), metadata.VM{Name: "slow"}); !errors.Is(err, context.DeadlineExceeded) || !strings.HasSuffix(err.Error(), " within 300ms") {
		t.Errorf("slow: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := d2.Find(ctx, metadata.VM{Name: "slow"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("slow, for one with less time: %v", err)
	}
}

// An administrator is told what a server that says nothing did not do.
func TestSilentServer(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for scheme, want := range map[string]string{
		"http":  "no answer within 1s",
		"https": "no end of the TLS handshake within 1s",
	} {
		d := newDriver(t, Config{URL: scheme + "://" + silent.Addr().String() + "/{{.Name}}", Timeout: time.Second})
		if _, err := d.Find(t.Context(), metadata.VM{Name: "web1"}); err == nil || !strings.HasSuffix(err.Error(), "/web1: "+want) {
			t.Errorf("%s: got %v, want %s", scheme, err, want)
		}
	}
}

// pipeListener is a server's end of connections in memory, for tests in which time stands still.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
}

func (l pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l pipeListener) Close() error   { close(l.done); return nil }
func (l pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func TestCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked, unchanged int
		var header http.Header
		body, etag := "userdata: one", `"1"`
		status := 0
		listener := pipeListener{make(chan net.Conn), make(chan struct{})}
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked++
			for key, values := range header {
				w.Header()[key] = values
			}
			if etag != "" {
				w.Header().Set("ETag", etag)
			}
			switch {
			case status != 0:
				w.WriteHeader(status)
			case etag != "" && r.Header.Get("If-None-Match") == etag:
				unchanged++
				w.WriteHeader(http.StatusNotModified)
			default:
				fmt.Fprint(w, body)
			}
		})}
		go server.Serve(listener)
		defer server.Close()
		d := newDriver(t, Config{URL: "http://inventory/{{.UUID}}"})
		d.client.Transport.(*http.Transport).DialContext = func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			listener.conns <- theirs
			return ours, nil
		}
		defer d.Close()
		find := func(want string, wantAsked, wantUnchanged int) {
			t.Helper()
			asked, unchanged = 0, 0
			instance, err := d.Find(t.Context(), web1)
			if err != nil || string(instance.UserData) != want || asked != wantAsked || unchanged != wantUnchanged {
				t.Errorf("got %v, %v, asked %d times of which %d gave 304; want %s, %d, %d", instance, err, asked, unchanged, want, wantAsked, wantUnchanged)
			}
		}
		find("one", 1, 0)
		find("one", 1, 1)
		body, etag = "userdata: two", `"2"`
		find("two", 1, 0)

		header = http.Header{"Cache-Control": {"private, max-age=60"}, "Age": {"10"}}
		find("two", 1, 1)
		find("two", 0, 0)
		time.Sleep(50 * time.Second)
		body, etag = "userdata: three", `"3"`
		find("three", 1, 0)

		header = http.Header{"Cache-Control": {"max-age=60, no-cache"}}
		time.Sleep(time.Minute)
		find("three", 1, 1)
		find("three", 0+1, 1)

		header = http.Header{"Cache-Control": {"no-store, max-age=60"}}
		body, etag = "userdata: four", `"4"`
		find("four", 1, 0)
		find("four", 1, 0)

		header = http.Header{"Cache-Control": {"max-age=99999999"}}
		find("four", 1, 0)
		time.Sleep(maxFresh - time.Second)
		find("four", 0, 0)
		time.Sleep(time.Second)
		find("four", 1, 1)

		header = http.Header{"Expires": {time.Now().Add(30 * time.Second).UTC().Format(http.TimeFormat)}}
		time.Sleep(maxFresh)
		header.Set("Expires", time.Now().Add(30*time.Second).UTC().Format(http.TimeFormat))
		body, etag = "userdata: five", ""
		find("five", 1, 0)
		find("five", 0, 0)

		// Expires and Date are by the server's clock, which need not be ours.
		for _, ahead := range []time.Duration{time.Hour, -time.Hour} {
			time.Sleep(time.Hour)
			theirs := time.Now().Add(ahead)
			header.Set("Date", theirs.UTC().Format(http.TimeFormat))
			header.Set("Expires", theirs.Add(30*time.Second).UTC().Format(http.TimeFormat))
			find("five", 1, 0)
			find("five", 0, 0)
			time.Sleep(30 * time.Second)
			find("five", 1, 0)
		}

		time.Sleep(time.Minute)
		header, status = nil, http.StatusNotFound
		if _, err := d.Find(t.Context(), web1); !errors.Is(err, metadata.ErrNotFound) {
			t.Error(err)
		}
		if d.cache.Len() != 0 {
			t.Error("what is gone is still kept")
		}
		status, body, etag = 0, "userdat: bad", `"6"`
		for i := range 2 {
			asked, unchanged = 0, 0
			if _, err := d.Find(t.Context(), web1); !errors.Is(err, metadata.ErrInvalid) || unchanged != i {
				t.Errorf("bad data: %v, %d times unchanged, want it to be known as bad", err, unchanged)
			}
		}
		d.client.CloseIdleConnections()
	})
}

func TestUnixSocket(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "userdata: %s%s", r.Host, r.URL.Path) })}
	go server.Serve(listener)
	defer server.Close()
	d := newDriver(t, Config{URL: "http://inventory/{{.Name}}", Socket: socket})
	if instance, err := d.Find(t.Context(), web1); err != nil || string(instance.UserData) != "inventory/web1" {
		t.Errorf("got %v, %v", instance, err)
	}
}

// certificate makes one that is signed by ca, or by itself, and writes it and its key as PEM.
func certificate(t *testing.T, dir, name string, ca *tls.Certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour), IsCA: ca == nil,
		BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	parent, signer := template, any(key)
	if ca != nil {
		parent, signer = ca.Leaf, ca.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{name + ".crt": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	ca := certificate(t, dir, "ca", nil)
	pool := x509.NewCertPool()
	pool.AddCert(ca.Leaf)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "userdata: %s %s", r.TLS.PeerCertificates[0].Subject.CommonName, r.Header.Get("Authorization"))
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate(t, dir, "server", &ca)}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()

	certificate(t, dir, "client", &ca)
	file := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, content string) {
		if err := os.WriteFile(file(name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("token", "t0ken-1\n")
	config := Config{URL: server.URL + "/{{.Name}}", CAFile: file("ca.crt"), CertFile: file("client.crt"), KeyFile: file("client.key"), TokenFile: file("token"), CacheBytes: -1}
	d := newDriver(t, config)
	find := func(want string) {
		t.Helper()
		if instance, err := d.Find(t.Context(), web1); err != nil || string(instance.UserData) != want {
			t.Errorf("got %v, %v, want %s", instance, err, want)
		}
	}
	find("client Bearer t0ken-1")
	write("token", "t0ken-2")
	find("client Bearer t0ken-2")

	second := t.TempDir()
	certificate(t, second, "client2", &ca)
	for _, extension := range []string{".crt", ".key"} {
		data, err := os.ReadFile(filepath.Join(second, "client2"+extension))
		if err != nil {
			t.Fatal(err)
		}
		write("client"+extension, string(data))
	}
	d.client.CloseIdleConnections()
	find("client2 Bearer t0ken-2")
	write("client.key", "half writ")
	d.client.CloseIdleConnections()
	find("client2 Bearer t0ken-2")
	if err := os.Remove(file("client.key")); err != nil {
		t.Fatal(err)
	}
	d.client.CloseIdleConnections()
	find("client2 Bearer t0ken-2")

	write("token", "two words")
	if _, err := d.Find(t.Context(), web1); err == nil || strings.Contains(err.Error(), "words") {
		t.Errorf("a broken token file: %v, want an error without its content", err)
	}
	for name, other := range map[string]Config{
		"without our CA":               {URL: config.URL, CertFile: file("server.crt"), KeyFile: file("server.key")},
		"without a client certificate": {URL: config.URL, CAFile: config.CAFile},
	} {
		if _, err := newDriver(t, other).Find(t.Context(), web1); err == nil || errors.Is(err, metadata.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// deafConn loses what is written once its other end is gone, as a network does that drops packets.
type deafConn struct {
	net.Conn
	gone *atomic.Bool
}

func (c deafConn) Write(b []byte) (int, error) {
	if c.gone.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

// HTTP/2 has one connection for all requests. When its server is gone without a word, another one must take its place.
func TestConnectionThatFellSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		ca := certificate(t, dir, "ca", nil)
		listener := pipeListener{make(chan net.Conn), make(chan struct{})}
		server := &http.Server{
			Handler:   http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "userdata: ", r.Proto) }),
			TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate(t, dir, "server", &ca)}},
		}
		go server.ServeTLS(listener, "", "")
		defer server.Close()
		d := newDriver(t, Config{URL: "https://127.0.0.1/{{.Name}}", CAFile: filepath.Join(dir, "ca.crt")})
		var gone *atomic.Bool
		d.client.Transport.(*http.Transport).DialContext = func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			listener.conns <- theirs
			gone = new(atomic.Bool)
			return deafConn{ours, gone}, nil
		}
		defer d.Close()
		find := func() error {
			instance, err := d.Find(t.Context(), web1)
			if err == nil && string(instance.UserData) != "HTTP/2.0" {
				t.Errorf("got %s, want HTTP/2", instance.UserData)
			}
			return err
		}
		for range maxConnections + 1 { // none that is lost counts as open
			if err := find(); err != nil {
				t.Fatal(err)
			}
			gone.Store(true)
			start, err := time.Now(), errors.New("not asked yet")
			for err != nil && time.Since(start) < time.Minute {
				err = find()
			}
			if took := time.Since(start); err != nil || took > 2*silence {
				t.Fatalf("after %s: %v", took, err)
			}
		}
	})
}

// With HTTP/1 a boot storm leaves many connections. When their server is gone without a word, one request finds out for all.
func TestConnectionsThatFellSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const storm = 20
		listener := pipeListener{make(chan net.Conn), make(chan struct{})}
		var all sync.WaitGroup
		all.Add(storm)
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/storm" {
				all.Done()
				all.Wait()
			}
			fmt.Fprint(w, "{}")
		})}
		go server.Serve(listener)
		defer server.Close()
		d := newDriver(t, Config{URL: "http://127.0.0.1/{{.Name}}"})
		var gone atomic.Pointer[atomic.Bool]
		gone.Store(new(atomic.Bool))
		d.client.Transport.(*http.Transport).DialContext = func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			listener.conns <- theirs
			return deafConn{ours, gone.Load()}, nil
		}
		defer d.Close()
		var requests sync.WaitGroup
		for range storm {
			requests.Go(func() {
				if _, err := d.Find(t.Context(), metadata.VM{Name: "storm"}); err != nil {
					t.Error(err)
				}
			})
		}
		requests.Wait()
		gone.Swap(new(atomic.Bool)).Store(true)
		if _, err := d.Find(t.Context(), web1); err == nil {
			t.Error("the connection is still good")
		}
		if _, err := d.Find(t.Context(), web1); err != nil {
			t.Errorf("the second request: %v", err)
		}
	})
}

func Example() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "metadata:\n  hostname: host-of%s\n", strings.ReplaceAll(r.URL.Path, "/", "-"))
	}))
	defer server.Close()
	driver, err := New(Config{URL: server.URL + "/{{.Name}}"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer driver.Close()
	instance, err := driver.Find(context.Background(), metadata.VM{Name: "web1"})
	fmt.Println(instance.MetaData["hostname"], err)
	// Output: host-of-web1 <nil>
}
