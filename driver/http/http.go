// Package http is a driver for data on a web server: a document in the file format at a URL made from the VM's
// identity, or the files of a NoCloud seed, so that what serves VMs with a network serves those without one too.
package http

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"vmw-cloudinit-metadata/internal/lru"
	"vmw-cloudinit-metadata/internal/options"
	"vmw-cloudinit-metadata/metadata"
	"vmw-cloudinit-metadata/vmfile"
)

// What a zero Config means.
const (
	DefaultTimeout    = 5 * time.Second
	DefaultCacheBytes = 32 << 20
)

const (
	// maxRedirects is enough for a trailing slash and a move.
	maxRedirects = 3
	// maxConnections bounds what a boot storm opens; requests beyond it wait.
	maxConnections = 64
	// maxTokenSize is far more than any token has, in bytes.
	maxTokenSize = 64 << 10
	// silence is how long nothing may come on a connection of HTTP/2 until a ping asks whether the server is still at
	// the other end, and how long its answer may take. TCP alone takes a quarter of an hour to find out.
	silence = 5 * time.Second
)

// Config says where the data is. One of URL and NoCloud is required. In both, {{.UUID}}, {{.Name}}, {{.BIOSUUID}}
// and {{.LocationUUID}} stand for the VM's identity, escaped.
type Config struct {
	// URL is where a VM's document in the file format is.
	URL string
	// NoCloud is where the files of a VM's NoCloud seed are; its path ends in a slash.
	NoCloud string
	// Socket is the path of a unix socket to connect to in place of the URL's host.
	Socket string
	// CAFile holds the certificates in PEM to trust instead of the system's.
	CAFile string
	// CertFile and KeyFile hold a client certificate and its key in PEM. TokenFile holds a bearer token. They are read
	// again when they have changed.
	CertFile, KeyFile, TokenFile string
	// Timeout bounds one request, DefaultTimeout if 0.
	Timeout time.Duration
	// CacheBytes bounds the memory for documents whose ETag, Last-Modified or Cache-Control allow to keep them, roughly.
	// 0 means DefaultCacheBytes; -1 means that none is kept.
	CacheBytes int
}

// ParseConfig reads a Config from a JSON object. Its keys are url, nocloud, socket, ca-file, cert-file, key-file,
// token-file, timeout and cache-bytes.
func ParseConfig(data json.RawMessage) (Config, error) {
	var o struct {
		URL        string           `json:"url"`
		NoCloud    string           `json:"nocloud"`
		Socket     string           `json:"socket"`
		CAFile     string           `json:"ca-file"`
		CertFile   string           `json:"cert-file"`
		KeyFile    string           `json:"key-file"`
		TokenFile  string           `json:"token-file"`
		Timeout    options.Duration `json:"timeout"`
		CacheBytes int              `json:"cache-bytes"`
	}
	if err := options.Decode(data, &o); err != nil {
		return Config{}, fmt.Errorf("http: %w", err)
	}
	return Config{
		URL: o.URL, NoCloud: o.NoCloud, Socket: o.Socket, CAFile: o.CAFile, CertFile: o.CertFile, KeyFile: o.KeyFile,
		TokenFile: o.TokenFile, Timeout: time.Duration(o.Timeout), CacheBytes: o.CacheBytes,
	}, nil
}

// Driver asks a web server.
type Driver struct {
	config Config
	target *target
	client *http.Client
	cache  *lru.Cache[string, *document]
}

// New returns a Driver. It connects to nothing yet. Close it after use.
func New(config Config) (*Driver, error) {
	d := &Driver{config: config}
	if d.config.Timeout == 0 {
		d.config.Timeout = DefaultTimeout
	}
	if d.config.CacheBytes == 0 {
		d.config.CacheBytes = DefaultCacheBytes
	}
	d.cache = lru.New[string, *document](d.config.CacheBytes)
	var err error
	switch {
	case config.URL == "" && config.NoCloud == "":
		err = &options.Error{Problem: `one of the options "url" and "nocloud" is required`}
	case config.URL != "" && config.NoCloud != "":
		err = &options.Error{Problem: `the options "url" and "nocloud" exclude each other: leave one of them out`}
	case config.URL != "":
		d.target, err = parseTarget("url", config.URL)
	default:
		if d.target, err = parseTarget("nocloud", config.NoCloud); err == nil && !d.target.isFolder() {
			err = &options.Error{Key: "nocloud", Problem: "must end in a slash: the names of the seed's files are added to it"}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("http: %w", err)
	}
	transport, err := d.transport()
	if err != nil {
		return nil, fmt.Errorf("http: %w", err)
	}
	d.client = &http.Client{Transport: transport, CheckRedirect: checkRedirect}
	if _, err := d.token(); err != nil {
		return nil, fmt.Errorf("http: %w", &options.Error{Key: "token-file", Problem: err.Error()})
	}
	return d, nil
}

// Close frees the connections that are not in use.
func (d *Driver) Close() error {
	d.client.CloseIdleConnections()
	return nil
}

// transport is one that reads nothing from the environment: no proxy that nobody meant sees the data.
func (d *Driver) transport() (*http.Transport, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if d.config.CAFile != "" {
		pem, err := os.ReadFile(d.config.CAFile)
		if err != nil {
			return nil, &options.Error{Key: "ca-file", Problem: err.Error()}
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, &options.Error{Key: "ca-file", Problem: d.config.CAFile + " holds no certificate in PEM"}
		}
	}
	if (d.config.CertFile == "") != (d.config.KeyFile == "") {
		return nil, &options.Error{Problem: `the options "cert-file" and "key-file" go together`}
	}
	if d.config.CertFile != "" {
		pair := &keyPair{certFile: d.config.CertFile, keyFile: d.config.KeyFile}
		if _, err := pair.load(); err != nil {
			return nil, &options.Error{Key: "cert-file", Problem: err.Error()}
		}
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair.load() }
	}
	dialer := net.Dialer{Timeout: d.config.Timeout}
	dial := dialer.DialContext
	if socket := d.config.Socket; socket != "" {
		dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socket)
		}
	}
	return &http.Transport{
		DialContext: dial, TLSClientConfig: config, ForceAttemptHTTP2: true, MaxConnsPerHost: maxConnections,
		MaxIdleConnsPerHost: maxConnections, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 64 << 10,
		HTTP2: &http.HTTP2Config{SendPingTimeout: silence, PingTimeout: silence},
	}, nil
}

// keyPair is a client certificate that is read again when its files have changed.
type keyPair struct {
	certFile, keyFile string

	mu          sync.Mutex
	certificate *tls.Certificate
	stamp       string
}

// load returns the certificate as it is now, or the last one: the files may be half written, or about to be replaced.
func (p *keyPair) load() (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.renew()
	if p.certificate != nil {
		return p.certificate, nil
	}
	return nil, err
}

func (p *keyPair) renew() error {
	stamp := ""
	for _, file := range []string{p.certFile, p.keyFile} {
		info, err := os.Stat(file)
		if err != nil {
			return err
		}
		stamp += fmt.Sprintln(info.ModTime().UnixNano(), info.Size())
	}
	if p.certificate != nil && stamp == p.stamp {
		return nil
	}
	certificate, err := tls.LoadX509KeyPair(p.certFile, p.keyFile)
	if err != nil {
		return err
	}
	p.certificate, p.stamp = &certificate, stamp
	return nil
}

// token reads the bearer token. It is small, and read for each request.
func (d *Driver) token() (string, error) {
	if d.config.TokenFile == "" {
		return "", nil
	}
	f, err := os.Open(d.config.TokenFile)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxTokenSize))
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(data))
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return "", fmt.Errorf("%s must hold one word, the token, and nothing else", d.config.TokenFile)
	}
	return token, nil
}

// checkRedirect follows the server to other paths and never to another server: that one was not chosen by whoever
// configured us, and would see who asks.
func checkRedirect(request *http.Request, via []*http.Request) error {
	first := via[0].URL
	if first.Scheme == "http" && request.URL.Scheme == "https" && request.URL.Hostname() == first.Hostname() {
		return errors.New("the server redirects to https, which is not followed: write https:// in the URL")
	}
	if request.URL.Scheme != first.Scheme || request.URL.Host != first.Host {
		return errors.New("the server redirects to another server, which is not followed")
	}
	if len(via) > maxRedirects {
		return fmt.Errorf("the server redirects more than %d times", maxRedirects)
	}
	return nil
}

// Find asks for the VM's document, or for its seed.
func (d *Driver) Find(ctx context.Context, vm metadata.VM) (*metadata.Instance, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	base, err := d.target.expand(vm)
	if err != nil {
		return nil, fmt.Errorf("http: %w", err)
	}
	timed, cancel := context.WithTimeout(ctx, d.config.Timeout)
	defer cancel()
	var instance *metadata.Instance
	if d.config.NoCloud != "" {
		instance, err = d.seed(timed, base)
	} else {
		instance, err = d.file(timed, base)
	}
	if err != nil && errors.Is(timed.Err(), context.DeadlineExceeded) {
		d.client.CloseIdleConnections() // what left one without an answer may have left the others so too
	}
	if ctx.Err() != nil && err != nil {
		return nil, ctx.Err()
	}
	return instance, err
}

func (d *Driver) file(ctx context.Context, url *url.URL) (*metadata.Instance, error) {
	doc, err := d.get(ctx, url, func(name string, body []byte) (any, error) { return vmfile.Parse(name, body) })
	if err != nil {
		return nil, err
	}
	return doc.(*metadata.Instance), nil
}
