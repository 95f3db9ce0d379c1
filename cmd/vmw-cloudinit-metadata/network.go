package main

import (
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"vmw-cloudinit-metadata/internal/server"
	"vmw-cloudinit-metadata/internal/tlspair"
)

// networkFlags say who may connect, how many, and how they are encrypted.
type networkFlags struct {
	allow                       []string
	maxConnections, maxPerPeer  int
	identifyTimeout             time.Duration
	tls                         *choice
	certFile, keyFile, clientCA string
}

// expirySoon is how long before its end a certificate is warned of at the start.
const expirySoon = 30 * 24 * time.Hour

func (f *networkFlags) register(flags *pflag.FlagSet) {
	f.tls = newChoice("off", "offer", "require")
	flags.StringSliceVar(&f.allow, "allow", nil, "network that may connect, as 192.0.2.0/24: the ESXi hosts' management network; may be repeated")
	flags.IntVar(&f.maxConnections, "max-connections", 0, "connections in all; 0: as many as the limit on open files leaves room for")
	flags.IntVar(&f.maxPerPeer, "max-connections-per-address", server.DefaultMaxPerAddress, "connections from one address; 0: no limit")
	flags.DurationVar(&f.identifyTimeout, "identify-timeout", 0, "how long a connection may take to say which VM it is (default 30s)")
	flags.Var(f.tls, "tls", `encryption: "offer" takes telnet:// and telnets://, "require" encrypted connections alone`)
	flags.StringVar(&f.certFile, "tls-cert", "", "the server's certificate, PEM, with those of its CAs behind it; read again when it changes")
	flags.StringVar(&f.keyFile, "tls-key", "", "the certificate's key, PEM; read again when it changes")
	flags.StringVar(&f.clientCA, "client-ca", "", "take only clients with a certificate of these CAs, PEM; ESXi has none: for a TLS proxy in front")
}

// apply sets what the flags say in cfg. The pair is nil without TLS.
func (f *networkFlags) apply(cfg *server.Config, log *slog.Logger) (*tlspair.Pair, error) {
	for _, text := range f.allow {
		network, err := parseNetwork(text)
		if err != nil {
			return nil, err
		}
		cfg.Allow = append(cfg.Allow, network)
	}
	if f.maxConnections < 0 || f.maxPerPeer < 0 {
		return nil, usageErrorf("--max-connections and --max-connections-per-address can't be negative")
	}
	cfg.MaxConnections, cfg.MaxPerAddress, cfg.IdentifyTimeout = f.maxConnections, f.maxPerPeer, f.identifyTimeout
	if limit, err := openFilesLimit(); err == nil && f.maxConnections == 0 {
		cfg.MaxConnections = max(1, limit-filesForOurselves)
	}
	if f.maxPerPeer == 0 {
		cfg.MaxPerAddress = -1
	}
	if f.tls.value == "off" {
		if f.certFile != "" || f.keyFile != "" || f.clientCA != "" {
			return nil, usageErrorf("--tls-cert, --tls-key and --client-ca do nothing without --tls offer or --tls require")
		}
		return nil, nil
	}
	if f.certFile == "" || f.keyFile == "" {
		return nil, usageErrorf("--tls %s needs --tls-cert and --tls-key; 'vmw-cloudinit-metadata tls-init' makes a pair", f.tls.value)
	}
	pair, err := tlspair.Load(f.certFile, f.keyFile, func(err error) {
		if err != nil {
			log.Error("the certificate has changed, and can't be used; the former one stays", "error", err)
			return
		}
		log.Info("the certificate has changed, and is in use; a thumbprint in vSphere has to change with it", "cert", f.certFile)
	})
	if err != nil {
		return nil, usageError{err}
	}
	var clientCAs *x509.CertPool
	if f.clientCA != "" {
		if f.tls.value != "require" {
			return nil, usageErrorf("--client-ca needs --tls require: without, a client just leaves TLS out")
		}
		if clientCAs, err = tlspair.LoadCAs(f.clientCA); err != nil {
			return nil, usageError{err}
		}
	}
	cfg.TLS, cfg.RequireTLS = pair.Config(clientCAs), f.tls.value == "require"
	return pair, nil
}

func parseNetwork(text string) (netip.Prefix, error) {
	if address, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(address, address.BitLen()), nil
	}
	network, err := netip.ParsePrefix(text)
	if err != nil {
		return network, usageErrorf("--allow %q: it must be a network as 192.0.2.0/24 or 2001:db8::/64, or an address", text)
	}
	if network != network.Masked() {
		return network, usageErrorf("--allow %q: it has bits set behind the first %d: do you mean %s?", text, network.Bits(), network.Masked())
	}
	return network, nil
}

// announce logs what an administrator has to know of a server that is about to take connections.
func (f *networkFlags) announce(listeners []net.Listener, pair *tlspair.Pair, log *slog.Logger) {
	for _, l := range listeners {
		log.Info("the proxy (vSPC) URI for the VMs' serial ports in vSphere", "uri", proxyURI(l.Addr(), pair))
	}
	if len(f.allow) == 0 {
		log.Warn("anyone who reaches this port can claim to be any VM, and get its data: name the ESXi hosts' management network with --allow")
	}
	if pair != nil {
		if left := time.Until(pair.Expires()); left < expirySoon {
			log.Warn("the certificate ends soon, or has ended", "cert", f.certFile, "ends", pair.Expires())
		}
	}
	if limit, err := openFilesLimit(); err == nil {
		log.Info("the limit on open files", "files", limit, "vms", max(1, limit-filesForOurselves))
	}
}

// filesForOurselves is what a server has open beside the VMs' connections: listeners, logs, the drivers' files and
// connections, and the second connections of VMs that are being migrated.
const filesForOurselves = 512

// proxyURI is what is pasted into vSphere. For a listener on all addresses, the host is the certificate's name or this
// machine's.
func proxyURI(address net.Addr, pair *tlspair.Pair) string {
	host, port, err := net.SplitHostPort(address.String())
	if err != nil {
		return address.String()
	}
	if ip, err := netip.ParseAddr(host); err != nil || ip.IsUnspecified() {
		if host, err = os.Hostname(); err != nil {
			host = "SERVER"
		}
	}
	if pair == nil {
		return "telnet://" + net.JoinHostPort(host, port)
	}
	if name := pair.Name(); name != "" && !strings.ContainsAny(name, "* ") {
		host = name
	}
	return fmt.Sprintf("telnets://%s#thumbprint=%s", net.JoinHostPort(host, port), pair.Thumbprint())
}
