package tlspair_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vmw-cloudinit-metadata/internal/tlspair"
)

func create(t *testing.T, dir string, kind tlspair.KeyType, names ...string) (cert, key string) {
	t.Helper()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err := tlspair.Create(cert, key, names, kind, time.Hour); err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// shake makes a handshake in memory, and returns the certificate that the client saw.
func shake(t *testing.T, server, client *tls.Config) (*x509.Certificate, error) {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	result := make(chan error, 1)
	go func() {
		conn := tls.Server(b, server)
		err := conn.Handshake()
		if err == nil {
			_, err = conn.Write([]byte("x"))
		}
		b.Close()
		result <- err
	}()
	conn := tls.Client(a, client)
	_, err := io.ReadFull(conn, make([]byte, 1))
	a.Close()
	if serverErr := <-result; err == nil {
		err = serverErr
	}
	if err != nil {
		return nil, err
	}
	return conn.ConnectionState().PeerCertificates[0], nil
}

func TestPair(t *testing.T) {
	for _, kind := range []tlspair.KeyType{tlspair.ECDSA, tlspair.RSA} {
		t.Run(string(kind), func(t *testing.T) {
			cert, key := create(t, t.TempDir(), kind, "vspc.example.com", "192.0.2.1")
			if info, err := os.Stat(key); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("key: %v, %v", info.Mode(), err)
			}
			p, err := tlspair.Load(cert, key, nil)
			if err != nil {
				t.Fatal(err)
			}
			roots, err := tlspair.LoadCAs(cert)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"vspc.example.com", "192.0.2.1"} {
				for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
					leaf, err := shake(t, p.Config(nil), &tls.Config{RootCAs: roots, ServerName: name, MaxVersion: version})
					if err != nil {
						t.Fatalf("%s, %s: %v", name, tls.VersionName(version), err)
					}
					if got := tlspair.Thumbprint(leaf.Raw); got != p.Thumbprint() || len(got) != 59 || strings.ToUpper(got) != got {
						t.Errorf("thumbprint %s, the pair says %s", got, p.Thumbprint())
					}
				}
			}
			if _, err := shake(t, p.Config(nil), &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11}); err == nil {
				t.Error("TLS 1.1 is taken")
			}
			if p.Name() != "vspc.example.com" || time.Until(p.Expires()) > time.Hour {
				t.Errorf("%s until %v", p.Name(), p.Expires())
			}
			if err := tlspair.Create(cert, key, []string{"x"}, kind, time.Hour); err == nil || !strings.Contains(err.Error(), "is there already") {
				t.Errorf("a second pair at the same place: %v", err)
			}
		})
	}
}

func TestPairIsReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, other := t.TempDir(), t.TempDir()
		cert, key := create(t, dir, tlspair.ECDSA, "one")
		var changes []error
		p, err := tlspair.Load(cert, key, func(err error) { changes = append(changes, err) })
		if err != nil {
			t.Fatal(err)
		}
		first := p.Thumbprint()
		newCert, newKey := create(t, other, tlspair.RSA, "two")

		rename := func(from, to string) {
			t.Helper()
			if err := os.Rename(from, to); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Second)
		}
		rename(newCert, cert) // for a moment the two do not fit
		if p.Thumbprint() != first || len(changes) != 1 || changes[0] == nil {
			t.Errorf("with half a new pair: %s, changes %v", p.Name(), changes)
		}
		rename(newKey, key)
		if p.Name() != "two" || len(changes) != 2 || changes[1] != nil {
			t.Errorf("with a new pair: %s, changes %v", p.Name(), changes)
		}
		if err := os.Remove(key); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if p.Name() != "two" || len(changes) != 3 || !errors.Is(changes[2], os.ErrNotExist) {
			t.Errorf("with the key gone: %s, changes %v", p.Name(), changes)
		}
	})
}

// TestAPairComesAndGoes has files that vanish and are back, as with a mount: each time is told, and the handshakes are
// as quick as ever.
func TestAPairComesAndGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cert, key := create(t, t.TempDir(), tlspair.ECDSA, "one")
		newCert, newKey := create(t, t.TempDir(), tlspair.ECDSA, "another")
		var changes []bool
		p, err := tlspair.Load(cert, key, func(err error) { changes = append(changes, err == nil) })
		if err != nil {
			t.Fatal(err)
		}
		step := func(name string, told ...bool) {
			t.Helper()
			time.Sleep(2 * time.Second)
			start := time.Now()
			if p.Name() != name || time.Since(start) != 0 || !slices.Equal(changes, told) {
				t.Errorf("%s after %s, told %v; want %s at once, told %v", p.Name(), time.Since(start), changes, name, told)
			}
			changes = nil
		}
		rename := func(from, to string) {
			t.Helper()
			if err := os.Rename(from, to); err != nil {
				t.Fatal(err)
			}
		}
		step("one")
		for range 2 {
			rename(key, key+".away")
			step("one", false)
			step("one")
			rename(key+".away", key)
			step("one")
		}
		rename(key, key+".away")
		step("one", false)
		rename(newCert, cert)
		rename(newKey, key)
		step("another", true)
		rename(key, key+".away")
		step("another", false)
	})
}

// TestFilesAreLookedAtOnceASecond has a storm of handshakes, and new files in its midst.
func TestFilesAreLookedAtOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cert, key := create(t, t.TempDir(), tlspair.ECDSA, "one")
		p, err := tlspair.Load(cert, key, nil)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		p.Name() // looks
		if err := errors.Join(os.Remove(cert), os.Remove(key)); err != nil {
			t.Fatal(err)
		}
		create(t, filepath.Dir(cert), tlspair.ECDSA, "another")
		time.Sleep(time.Second - time.Nanosecond)
		if p.Name() != "one" {
			t.Error("they are looked at within the second")
		}
		time.Sleep(time.Nanosecond)
		if p.Name() != "another" {
			t.Error("they are not looked at after a second")
		}
	})
}

// TestANewPairMayBecomeReadableLater has a key that the server may read only a while after it came: who hands it over
// changes its owner or mode last, which shows in neither its size nor its time.
func TestANewPairMayBecomeReadableLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cert, key := create(t, t.TempDir(), tlspair.ECDSA, "one")
		var changes []error
		p, err := tlspair.Load(cert, key, func(err error) { changes = append(changes, err) })
		if err != nil {
			t.Fatal(err)
		}
		newCert, newKey := create(t, t.TempDir(), tlspair.ECDSA, "two")
		hidden := newKey + ".hidden"
		for _, step := range [][2]string{{newKey, hidden}, {newCert, cert}} {
			if err := os.Rename(step[0], step[1]); err != nil {
				t.Fatal(err)
			}
		}
		// A file of the same size and time stands in for one without permission, which root could read.
		info, err := os.Stat(hidden)
		if err != nil {
			t.Fatal(err)
		}
		stand := make([]byte, info.Size())
		if err := errors.Join(os.WriteFile(key, stand, 0o600), os.Chtimes(key, info.ModTime(), info.ModTime())); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			time.Sleep(2 * time.Second)
			if p.Name() != "one" || len(changes) != 1 || changes[0] == nil {
				t.Errorf("while the key can't be read: %s, changes %v", p.Name(), changes)
			}
		}
		if err := os.Rename(hidden, key); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if p.Name() != "two" || len(changes) != 2 || changes[1] != nil {
			t.Errorf("when it can: %s, changes %v", p.Name(), changes)
		}
	})
}

func TestName(t *testing.T) {
	for want, names := range map[string][]string{"a.example": {"192.0.2.1", "a.example", "b.example"}, "192.0.2.1": {"192.0.2.1", "2001:db8::1"}} {
		cert, key := create(t, t.TempDir(), tlspair.ECDSA, names...)
		p, err := tlspair.Load(cert, key, nil)
		if err != nil {
			t.Fatal(err)
		}
		if p.Name() != want {
			t.Errorf("a certificate for %q: %q, want %q", names, p.Name(), want)
		}
	}
}

func TestClientsCanBeAskedForACertificate(t *testing.T) {
	cert, key := create(t, t.TempDir(), tlspair.ECDSA, "vspc.example.com")
	p, err := tlspair.Load(cert, key, nil)
	if err != nil {
		t.Fatal(err)
	}
	roots, err := tlspair.LoadCAs(cert)
	if err != nil {
		t.Fatal(err)
	}
	client := &tls.Config{RootCAs: roots, ServerName: "vspc.example.com"}
	if _, err := shake(t, p.Config(x509.NewCertPool()), client); err == nil {
		t.Error("a client without a certificate is taken")
	}
}

func TestErrorsSayWhere(t *testing.T) {
	dir := t.TempDir()
	cert, key := create(t, dir, tlspair.ECDSA, "a")
	for name, load := range map[string]func() error{
		filepath.Join(dir, "none"): func() error { _, err := tlspair.Load(filepath.Join(dir, "none"), key, nil); return err },
		cert:                       func() error { _, err := tlspair.Load(cert, cert, nil); return err },
		key:                        func() error { _, err := tlspair.LoadCAs(key); return err },
		filepath.Join(dir, "cas"):  func() error { _, err := tlspair.LoadCAs(filepath.Join(dir, "cas")); return err },
		cert + " is there already": func() error {
			return tlspair.Create(cert, filepath.Join(dir, "k"), []string{"a"}, tlspair.ECDSA, 1)
		},
		key + " is there already": func() error {
			return tlspair.Create(filepath.Join(dir, "k"), key, []string{"a"}, tlspair.ECDSA, 1)
		},
		filepath.Join(dir, "no", "key"): func() error {
			return tlspair.Create(filepath.Join(dir, "k"), filepath.Join(dir, "no", "key"), []string{"a"}, tlspair.ECDSA, 1)
		},
		"needs a name": func() error {
			return tlspair.Create(filepath.Join(dir, "c"), filepath.Join(dir, "k"), nil, tlspair.ECDSA, 1)
		},
		"dsa": func() error {
			return tlspair.Create(filepath.Join(dir, "c"), filepath.Join(dir, "k"), []string{"a"}, "dsa", 1)
		},
	} {
		if err := load(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v, want something about %s", err, name)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "k")); err == nil {
		t.Error("half a pair is left over")
	}
}
