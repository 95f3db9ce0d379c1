package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"vmw-cloudinit-metadata/internal/tlspair"
)

// tlsFlags say how the server encrypts.
type tlsFlags struct {
	mode                      *choice
	certFile, keyFile, caFile string
}

// The values of --tls. The first is the default: offer with a certificate, off without.
const (
	tlsAuto    = "auto"
	tlsOff     = "off"
	tlsOffer   = "offer"
	tlsRequire = "require"
)

func newTLSFlags() tlsFlags { return tlsFlags{mode: newChoice(tlsAuto, tlsOff, tlsOffer, tlsRequire)} }

func (f *tlsFlags) register(flags *pflag.FlagSet) {
	flags.Var(f.mode, "tls", "off: telnet:// alone; offer: telnets:// too, and encryption inside telnet:// for hosts that take it; require: nothing unencrypted; auto: offer with a certificate, else off")
	flags.StringVar(&f.certFile, "tls-cert", "", "the `FILE` of the server's certificate, and those between it and its CA, in PEM; read again when it changes")
	flags.StringVar(&f.keyFile, "tls-key", "", "the `FILE` of the certificate's key, in PEM")
	flags.StringVar(&f.caFile, "client-ca", "", "demand a certificate of one of the CAs in this `FILE` (PEM) from whoever connects; ESXi hosts have none, a TLS proxy of yours may; read at the start")
}

// load returns nil if there is no TLS.
func (f *tlsFlags) load(log *slog.Logger) (*tlspair.Pair, *tls.Config, error) {
	given := f.certFile != "" || f.keyFile != "" || f.caFile != ""
	switch {
	case f.mode.value == tlsOff && given:
		return nil, nil, usageError{valueErrorf("tls", 0, "off", "and yet there is a certificate: leave one of them out")}
	case !given && (f.mode.value == tlsOff || f.mode.value == tlsAuto):
		return nil, nil, nil
	case f.certFile == "" || f.keyFile == "":
		return nil, nil, usageError{valueErrorf(f.first(), 0, "", "TLS needs --tls-cert and --tls-key; 'vmw-cloudinit-metadata tls-init' makes a pair")}
	}
	pair, err := tlspair.Load(f.certFile, f.keyFile, func(err error) {
		if err != nil {
			log.Error("the certificate has changed, and can't be used; the former one stays in use", "error", err)
			return
		}
		log.Info("the certificate has changed; new connections get the new one")
	})
	if err != nil {
		flag := "tls-cert"
		if file, ok := errors.AsType[*fs.PathError](err); ok && file.Path == f.keyFile && f.keyFile != f.certFile {
			flag = "tls-key"
		}
		return nil, nil, usageError{valueErrorf(flag, 0, "", "%w", err)}
	}
	var clientCAs *x509.CertPool
	if f.caFile != "" && f.mode.value != tlsRequire {
		return nil, nil, usageError{valueErrorf("client-ca", 0, "", "it needs --tls require: otherwise whoever has no certificate just leaves TLS out")}
	}
	if f.caFile != "" {
		if clientCAs, err = tlspair.LoadCAs(f.caFile); err != nil {
			return nil, nil, usageError{valueErrorf("client-ca", 0, "", "%w", err)}
		}
	}
	if left := time.Until(pair.Expires()); left < expiryWarning {
		log.Warn("the certificate ends soon, or has ended", "file", f.certFile, "end", pair.Expires())
	}
	return pair, pair.Config(clientCAs), nil
}

// first returns the first flag that asks for TLS.
func (f *tlsFlags) first() string {
	switch {
	case f.mode.value != tlsAuto:
		return "tls"
	case f.certFile != "":
		return "tls-cert"
	case f.keyFile != "":
		return "tls-key"
	}
	return "client-ca"
}

// expiryWarning is how long before a certificate's end the start says so.
const expiryWarning = 30 * 24 * time.Hour

// proxyURI is what to put into vSphere for a server that listens at address.
func proxyURI(address net.Addr, pair *tlspair.Pair) string {
	host, port, err := net.SplitHostPort(address.String())
	if err != nil {
		return ""
	}
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		if host, err = os.Hostname(); err != nil {
			host = "this-server"
		}
	}
	if pair == nil {
		return "telnet://" + net.JoinHostPort(host, port)
	}
	if name := pair.Name(); name != "" {
		host = name
	}
	return fmt.Sprintf("telnets://%s#thumbprint=%s", net.JoinHostPort(host, port), pair.Thumbprint())
}

const tlsInitHelp = `tls-init makes a key and a certificate that signs itself, for those who have no CA: ESXi hosts recognise the
certificate by its thumbprint, which goes into the port's proxy URI in vSphere. It never overwrites a file.`

const tlsInitExample = `  vmw-cloudinit-metadata tls-init --name metadata.example.com --tls-cert server.crt --tls-key server.key
  vmw-cloudinit-metadata run --tls-cert server.crt --tls-key server.key --uri my-metadata …`

// maxDays is a hundred years. A time.Duration holds no three hundred.
const maxDays = 36500

// isDNSName reports whether name can stand in a URI, and be looked up.
func isDNSName(name string) bool {
	const allowed = "abcdefghijklmnopqrstuvwxyz0123456789-_.*"
	return name != "" && strings.Trim(strings.ToLower(name), allowed) == ""
}

type tlsInitFlags struct {
	names             []string
	certFile, keyFile string
	kind              *choice
	valid             int
}

func newTLSInitCommand() *cobra.Command {
	f := tlsInitFlags{kind: newChoice(string(tlspair.ECDSA), string(tlspair.RSA))}
	cmd := &cobra.Command{
		Use:     "tls-init",
		Short:   "Make a certificate for the server",
		Long:    tlsInitHelp,
		Example: tlsInitExample,
		Args:    noArguments,
		RunE:    func(cmd *cobra.Command, _ []string) error { return f.run(cmd.OutOrStdout()) },
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&f.names, "name", nil, "DNS `NAME` or IP address of the server; may be repeated (default: this machine's name)")
	flags.StringVar(&f.certFile, "tls-cert", "server.crt", "the certificate's `FILE`")
	flags.StringVar(&f.keyFile, "tls-key", "server.key", "the key's `FILE`; only its owner can read it")
	flags.Var(f.kind, "key-type", "the kind of key; rsa is for hosts that do not take ecdsa")
	flags.IntVar(&f.valid, "days", 3650, "how long it is valid, `N` days")
	return cmd
}

func (f *tlsInitFlags) run(stdout io.Writer) error {
	if len(f.names) == 0 {
		name, err := os.Hostname()
		if err != nil {
			return usageErrorf("--name is missing, and this machine has no name: %w", err)
		}
		f.names = []string{name}
	}
	for _, name := range f.names {
		if net.ParseIP(name) == nil && !isDNSName(name) {
			return usageErrorf("--name %q: not a host's name or address, as in metadata.example.com", name)
		}
	}
	if f.valid < 1 || f.valid > maxDays {
		return usageErrorf("--days must be from 1 to %d", maxDays)
	}
	err := tlspair.Create(f.certFile, f.keyFile, f.names, tlspair.KeyType(f.kind.value), time.Duration(f.valid)*24*time.Hour)
	if err != nil {
		return err
	}
	pair, err := tlspair.Load(f.certFile, f.keyFile, nil)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, `certificate  %s
key          %s
thumbprint   %s

The port's proxy URI in vSphere, if the server listens on its default port:

    %s

Start the server with --tls-cert %s --tls-key %s.
`, f.certFile, f.keyFile, pair.Thumbprint(), proxyURI(&net.TCPAddr{Port: defaultPort}, pair), f.certFile, f.keyFile)
	return err
}
