// Package tlspair keeps a server's certificate and key: it reads them from their files, reads them again when those
// change, and makes a pair for those who have none.
package tlspair

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

// checkEvery is how often the files are looked at, at most: a look is two system calls, and a boot storm begins
// thousands of connections a second.
const checkEvery = time.Second

// checkWait is how long who connects waits for such a look. A file system that hangs must not keep VMs from moving.
const checkWait = time.Second / 2

// Pair is a certificate and its key. Its methods may be called at once.
type Pair struct {
	certFile, keyFile string
	onChange          func(error)

	mu        sync.Mutex
	current   *tls.Certificate
	nextCheck time.Time
	checking  chan struct{} // closed when the look under way is over; nil if there is none

	// For who looks.
	stamps [2]stamp // of current's files
	failed string   // why what the files hold now can't be used, as onChange was told
}

// stamp tells one state of a file from another.
type stamp struct {
	modified time.Time
	size     int64
}

// Load reads a pair. When the files have changed, they are read again before the next connection that is begun after a
// second, unless that takes long; the former pair stays in use as long as the new one can't be read, which is tried again and again. onChange, if
// not nil, is told of either, with nil or the error, once as long as that is the same.
func Load(certFile, keyFile string, onChange func(error)) (*Pair, error) {
	p := &Pair{certFile: certFile, keyFile: keyFile, onChange: onChange}
	if p.onChange == nil {
		p.onChange = func(error) {}
	}
	stamps, err := p.stat()
	if err != nil {
		return nil, err
	}
	if p.current, err = p.read(); err != nil {
		return nil, err
	}
	p.stamps, p.nextCheck = stamps, time.Now().Add(checkEvery)
	return p, nil
}

func (p *Pair) stat() (stamps [2]stamp, err error) {
	for i, name := range []string{p.certFile, p.keyFile} {
		info, err := os.Stat(name)
		if err != nil {
			return stamps, fmt.Errorf("TLS: %w", err)
		}
		stamps[i] = stamp{info.ModTime(), info.Size()}
	}
	return stamps, nil
}

func (p *Pair) read() (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(p.certFile, p.keyFile)
	if err != nil {
		return nil, fmt.Errorf("TLS: certificate %s with key %s: %w", p.certFile, p.keyFile, err)
	}
	return &pair, nil
}

// certificate returns the pair as it is now, or as it was if that takes long to tell.
func (p *Pair) certificate() *tls.Certificate {
	if checking := p.look(); checking != nil {
		select {
		case <-checking:
		case <-time.After(checkWait):
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.current
}

// look has the files looked at if it is time, and returns what is closed after it; nil if there is nothing to wait for.
func (p *Pair) look() (checking <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	switch {
	case now.Before(p.nextCheck):
		return p.checking // begun within checkEvery, if it is still under way
	case p.checking != nil: // it hangs
		return nil
	}
	p.nextCheck = now.Add(checkEvery)
	p.checking = make(chan struct{})
	go p.check()
	return p.checking
}

// check looks at the files. One goroutine at a time does.
func (p *Pair) check() {
	fresh := p.changed()
	p.mu.Lock()
	defer p.mu.Unlock()
	if fresh != nil {
		p.current = fresh
	}
	close(p.checking)
	p.checking = nil
}

// changed returns the pair if there is a new one, and tells of it.
func (p *Pair) changed() *tls.Certificate {
	stamps, err := p.stat()
	if err == nil && stamps == p.stamps {
		p.failed = ""
		return nil
	}
	var pair *tls.Certificate
	if err == nil {
		pair, err = p.read()
	}
	switch {
	case err == nil:
		p.stamps, p.failed = stamps, ""
		p.onChange(nil)
	case err.Error() != p.failed:
		p.failed = err.Error()
		p.onChange(err)
	}
	return pair
}

// Config returns a server's configuration with this pair: TLS 1.2 and up. With clientCAs, clients have to show a
// certificate that one of those has signed.
func (p *Pair) Config(clientCAs *x509.CertPool) *tls.Config {
	config := &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return p.certificate(), nil },
	}
	if clientCAs != nil {
		config.ClientCAs, config.ClientAuth = clientCAs, tls.RequireAndVerifyClientCert
	}
	return config
}

// Thumbprint returns the SHA-1 hash of the certificate as vSphere has it in a proxy URI: AA:BB:….
func (p *Pair) Thumbprint() string { return Thumbprint(p.certificate().Certificate[0]) }

// Thumbprint returns the SHA-1 hash of a certificate in DER: AA:BB:…. It identifies, as vSphere wants it; it is no
// measure of strength.
func Thumbprint(der []byte) string {
	sum := sha1.Sum(der)
	return strings.ReplaceAll(fmt.Sprintf("% X", sum[:]), " ", ":")
}

// Name returns the first name that the certificate is for; "" if there is none.
func (p *Pair) Name() string {
	leaf := p.certificate().Leaf
	switch {
	case leaf == nil:
		return ""
	case len(leaf.DNSNames) > 0:
		return leaf.DNSNames[0]
	case len(leaf.IPAddresses) > 0:
		return leaf.IPAddresses[0].String()
	}
	return leaf.Subject.CommonName
}

// Expires returns when the certificate ends.
func (p *Pair) Expires() time.Time {
	if leaf := p.certificate().Leaf; leaf != nil {
		return leaf.NotAfter
	}
	return time.Time{}
}

// LoadCAs reads certificates in PEM.
func LoadCAs(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("TLS: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("TLS: %s: holds no certificate in PEM", file)
	}
	return pool, nil
}

// KeyType is the kind of a new pair's key.
type KeyType string

// The kinds of keys. Handshakes with ECDSA cost a server a tenth; RSA is for hosts that do not take it.
const (
	ECDSA KeyType = "ecdsa"
	RSA   KeyType = "rsa"
)

// Create makes a key and a certificate that signs itself, for the given DNS names or IP addresses, and writes them to
// files that must not exist yet: the key readable by its owner alone.
func Create(certFile, keyFile string, names []string, kind KeyType, valid time.Duration) error {
	if len(names) == 0 {
		return errors.New("TLS: a certificate needs a name or an address that hosts connect to")
	}
	var key crypto.Signer
	var err error
	switch kind {
	case ECDSA:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case RSA:
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	default:
		return fmt.Errorf("TLS: key type %q: there are %s and %s", kind, ECDSA, RSA)
	}
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: names[0]},
		NotBefore:             now.Add(-time.Hour), // hosts' clocks differ
		NotAfter:              now.Add(valid),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	if err := create(keyFile, 0o600, &pem.Block{Type: "PRIVATE KEY", Bytes: private}); err != nil {
		return err
	}
	if err := create(certFile, 0o644, &pem.Block{Type: "CERTIFICATE", Bytes: cert}); err != nil {
		return errors.Join(err, os.Remove(keyFile))
	}
	return nil
}

// create makes a file with block in it, or none.
func create(name string, mode os.FileMode, block *pem.Block) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("TLS: %s is there already: remove it, or choose another name", name)
	}
	if err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	if err = errors.Join(pem.Encode(f, block), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("TLS: writing %s: %w", name, errors.Join(err, os.Remove(name)))
	}
	return nil
}
