package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"syscall"

	"github.com/spf13/pflag"

	"vmw-cloudinit-metadata/internal/simulator"
	"vmw-cloudinit-metadata/internal/tlspair"
)

// What the network says when nobody listens, and of who takes a connection and closes it at once.
const (
	errConnectionRefused = syscall.ECONNREFUSED
	errConnectionReset   = syscall.ECONNRESET
	errBrokenPipe        = syscall.EPIPE
)

// serverFlags say where the server is, and how it is encrypted.
type serverFlags struct {
	connect    string
	tls        bool
	offer      bool
	ca         string
	thumbprint string
}

func (f *serverFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.connect, "connect", "localhost:13370", "the `SERVER`, as host:port, or as the proxy URI in vSphere: telnets://host:port#thumbprint=…")
	flags.BoolVar(&f.tls, "tls", false, "encrypt from the first byte, as with telnets://")
	flags.BoolVar(&f.offer, "tls-offer", false, "offer encryption inside telnet, as hosts do with telnet://")
	flags.StringVar(&f.ca, "ca", "", "check the server's certificate against the CA certificates in this `FILE`")
	flags.StringVar(&f.thumbprint, "thumbprint", "", "check that the server's certificate has this SHA-1 or SHA-256, in `HEX` digits")
}

// dialer returns what opens connections, and the TLS configuration for encryption inside telnet, nil if there is none.
func (f *serverFlags) dialer() (simulator.Dialer, *tls.Config, error) {
	if err := f.parseURI(); err != nil {
		return nil, nil, err
	}
	host, _, err := net.SplitHostPort(f.connect)
	if err != nil {
		return nil, nil, usageErrorf("--connect %q: it must be host:port", f.connect)
	}
	if f.tls && f.offer {
		return nil, nil, usageErrorf("--tls and --tls-offer: encrypt from the first byte, or offer it later; take one of them")
	}
	if !f.tls && !f.offer && (f.ca != "" || f.thumbprint != "") {
		return nil, nil, usageErrorf("--ca and --thumbprint are for --tls or --tls-offer")
	}
	conf, err := f.tlsConfig(host)
	if err != nil {
		return nil, nil, err
	}
	dial := func(ctx context.Context) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", f.connect)
		if err != nil || !f.tls {
			return conn, err
		}
		secure := tls.Client(conn, conf)
		if err := secure.HandshakeContext(ctx); err != nil {
			conn.Close()
			return nil, fmt.Errorf("starting TLS: %w", err)
		}
		return secure, nil
	}
	if f.offer {
		return dial, conf, nil
	}
	return dial, nil, nil
}

// parseURI takes --connect apart if it is a URI, as an administrator has it at hand.
func (f *serverFlags) parseURI() error {
	if !strings.Contains(f.connect, "://") {
		return nil
	}
	uri, err := url.Parse(f.connect)
	if err != nil {
		return usageErrorf("--connect: %w", err)
	}
	switch uri.Scheme {
	case "telnet":
	case "telnets":
		f.tls = true
	default:
		return usageErrorf("--connect %q: a proxy URI begins with telnet:// or telnets://", f.connect)
	}
	for parameter := range strings.SplitSeq(uri.Fragment, "&") {
		if key, value, _ := strings.Cut(parameter, "="); key == "thumbprint" && f.thumbprint == "" {
			f.thumbprint = value
		}
	}
	f.connect = uri.Host
	return nil
}

// tlsConfig checks the server as far as it was told how. Without --ca and --thumbprint it checks nothing, as ESXi does.
func (f *serverFlags) tlsConfig(host string) (*tls.Config, error) {
	conf := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	if f.ca != "" {
		pem, err := os.ReadFile(f.ca)
		if err != nil {
			return nil, usageErrorf("--ca: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, usageErrorf("--ca %s: there is no certificate in PEM form in it", f.ca)
		}
	}
	conf.InsecureSkipVerify = f.ca == ""
	if f.thumbprint == "" {
		return conf, nil
	}
	want := strings.ToUpper(strings.NewReplacer(":", "", " ", "").Replace(f.thumbprint))
	if _, err := hex.DecodeString(want); err != nil || len(want) != 40 && len(want) != 64 {
		return nil, usageErrorf("--thumbprint: it must be 40 (SHA-1) or 64 (SHA-256) hexadecimal digits, with colons between them or not")
	}
	conf.VerifyConnection = func(state tls.ConnectionState) error {
		der := state.PeerCertificates[0].Raw // a TLS server always shows one
		short, long := strings.ReplaceAll(tlspair.Thumbprint(der), ":", ""), fmt.Sprintf("%X", sha256.Sum256(der))
		if want == short || want == long {
			return nil
		}
		return fmt.Errorf("the server's certificate has the thumbprint %s (SHA-1), %s (SHA-256), and not the one given", short, long)
	}
	return conf, nil
}
