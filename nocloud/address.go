package nocloud

import (
	"fmt"
	"math"
	"math/bits"
	"net"
	"net/netip"
	"strings"
)

// Limits of an interface's MTU: what IPv4 and IPv6 ask of a link (RFC 791, section 3.2, and RFC 8200, section 5), and
// the most that an IP packet can be.
const (
	minMTU     = 68
	minMTUIPv6 = 1280
	maxMTU     = 65535
)

// maxInterfaceName is Linux's IFNAMSIZ without the final NUL.
const maxInterfaceName = 15

// parseHost returns the address of a host; problem is "" if it can be one.
func parseHost(text string) (addr netip.Addr, problem string) {
	addr, err := netip.ParseAddr(text)
	switch {
	case err != nil && strings.Contains(text, "/"):
		return addr, "must be an address without a /prefix"
	case err != nil:
		return addr, "is not an IP address, such as 192.0.2.1 or 2001:db8::1"
	case addr.Zone() != "":
		return addr, "must not have a zone (%)"
	case addr.Is4In6():
		return addr, fmt.Sprintf("%s is an IPv4 address in IPv6 form: write %s", addr, addr.Unmap())
	case addr.IsUnspecified():
		return addr, fmt.Sprintf("%s is no host's address", addr)
	case addr.IsMulticast():
		return addr, fmt.Sprintf("%s is a multicast address", addr)
	case addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return addr, fmt.Sprintf("%s is the broadcast address", addr)
	}
	return addr, ""
}

// parseInterfaceAddress is parseHost for an address that a network card can have, or the loopback interface.
func parseInterfaceAddress(text string, loopback bool) (addr netip.Addr, problem string) {
	addr, problem = parseHost(text)
	if problem == "" && addr.IsLoopback() && !loopback {
		problem = fmt.Sprintf("%s is a loopback address", addr)
	}
	return addr, problem
}

// parsePrefix returns an interface's address with its prefix, as in 192.0.2.1/24.
func parsePrefix(text string, loopback bool) (netip.Prefix, string) {
	host, length, found := strings.Cut(text, "/")
	addr, problem := parseInterfaceAddress(host, loopback)
	if problem != "" {
		return netip.Prefix{}, problem
	}
	if !found {
		return netip.Prefix{}, "needs the length of its prefix, as in " + exampleWithPrefix(addr)
	}
	return withPrefix(addr, length)
}

// exampleWithPrefix shows an address with the usual prefix of its kind.
func exampleWithPrefix(addr netip.Addr) string {
	if addr.Is4() {
		return addr.String() + "/24"
	}
	return addr.String() + "/64"
}

// withPrefix joins an address and the text of a prefix's length.
func withPrefix(addr netip.Addr, length string) (netip.Prefix, string) {
	prefix, err := netip.ParsePrefix(addr.String() + "/" + length)
	if err != nil || prefix.Bits() == 0 {
		return netip.Prefix{}, fmt.Sprintf("the length of a prefix is a number from 1 to %d here", addr.BitLen())
	}
	return prefix, hostProblem(prefix, addr, "the VM can't have it")
}

// parseNetmask returns the length of a netmask's prefix; false if its ones and zeros are mixed.
func parseNetmask(mask netip.Addr) (length int, ok bool) {
	zeros := false
	for _, b := range mask.AsSlice() {
		ones := bits.LeadingZeros8(^b)
		if zeros && b != 0 || b<<ones != 0 {
			return 0, false
		}
		length, zeros = length+ones, ones < 8
	}
	return length, true
}

// hostProblem says why addr stands for no single host in the subnet; "" if it does. Subnets of two addresses
// (RFC 3021, RFC 6164) and of one have nothing but hosts.
func hostProblem(subnet netip.Prefix, addr netip.Addr, consequence string) string {
	if subnet.Bits() >= addr.BitLen()-1 {
		return ""
	}
	switch network := subnet.Masked(); addr {
	case network.Addr():
		if addr.Is6() { // RFC 4291, section 2.6.1
			return fmt.Sprintf("%s is the address of all routers of %s: %s", addr, network, consequence)
		}
		return fmt.Sprintf("%s is the address of the network %s itself: %s", addr, network, consequence)
	case broadcast(network):
		return fmt.Sprintf("%s is the broadcast address of %s: %s", addr, network, consequence)
	}
	return ""
}

// broadcast returns the last address of an IPv4 network; the zero Addr for IPv6, which has no broadcast.
func broadcast(network netip.Prefix) netip.Addr {
	if !network.Addr().Is4() {
		return netip.Addr{}
	}
	last := network.Addr().As4()
	for i := network.Bits(); i < 32; i++ {
		last[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(last)
}

// gatewayProblem says why gateway can't be reached from an address; "" if it can. From a subnet of one address
// every gateway is outside, and IPv6 routers may go by their link-local address.
func gatewayProblem(address netip.Prefix, gateway netip.Addr) string {
	switch {
	case gateway == address.Addr():
		return fmt.Sprintf("%s is the VM's own address", gateway)
	case gateway.IsLoopback():
		return fmt.Sprintf("%s is a loopback address", gateway)
	case address.Bits() == gateway.BitLen() || gateway.Is6() && gateway.IsLinkLocalUnicast():
		return ""
	case !address.Contains(gateway):
		return fmt.Sprintf("%s is not in the VM's subnet %s", gateway, address.Masked())
	case gateway.Is6(): // the anycast address of the subnet's routers is one
		return ""
	}
	return hostProblem(address, gateway, "no router can have it")
}

// needsRoute says whether gateway is reached from an address through a route to it alone: it is outside of a subnet of one address.
// IPv6 routers' link-local addresses need none.
func needsRoute(address netip.Prefix, gateway netip.Addr) bool {
	return address.Bits() == gateway.BitLen() && address.Addr() != gateway && !(gateway.Is6() && gateway.IsLinkLocalUnicast())
}

// directRoute returns where a route to a gateway alone leads, and by way of what: no router, in the words that all have for it.
func directRoute(gateway netip.Addr) (destination, via string) {
	via = "0.0.0.0"
	if gateway.Is6() {
		via = "::"
	}
	return netip.PrefixFrom(gateway, gateway.BitLen()).String(), via
}

// parseMAC returns a MAC address in lower case with colons; false if text is none that a card can have.
func parseMAC(text string) (string, bool) {
	mac, err := net.ParseMAC(text)
	if err != nil || len(mac) != 6 || mac[0]&1 != 0 { // the lowest bit is for groups
		return "", false
	}
	if mac.String() == "00:00:00:00:00:00" {
		return "", false
	}
	return mac.String(), true
}

// parseLinkAddress is parseMAC for InfiniBand's addresses, too, which are longer.
func parseLinkAddress(text string) (string, bool) {
	if mac, err := net.ParseMAC(text); err == nil && len(mac) == infiniBandLength {
		return mac.String(), true
	}
	return parseMAC(text)
}

// infiniBandLength is that of an address of IP over InfiniBand, in bytes (RFC 4391, section 9.1.1).
const infiniBandLength = 20

// macProblem is the finding for what parseMAC refuses.
const macProblem = "is not a MAC address of a network card, such as 00:50:56:01:02:03"

// isInterfaceName is for what Linux takes for the name of a network interface, without the ":" of aliases.
func isInterfaceName(name string) bool {
	if name == "" || len(name) > maxInterfaceName || name == "." || name == ".." {
		return false
	}
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c >= 0x7f || c == '/' || c == ':' || c == '%' {
			return false
		}
	}
	return true
}

// nameProblem is the finding for what isInterfaceName refuses.
const nameProblem = "is not a name for a network interface: up to 15 characters, without blanks, /, : and %"

// mtuProblem says why value is no MTU; "" if it is one.
func mtuProblem(value any, ipv6 bool) string {
	mtu, ok := integer(value)
	if !ok || mtu < minMTU || mtu > maxMTU {
		return fmt.Sprintf("must be a number from %d to %d", minMTU, maxMTU)
	}
	if ipv6 && mtu < minMTUIPv6 {
		return fmt.Sprintf("must be at least %d with an IPv6 address", minMTUIPv6)
	}
	return ""
}

// integer returns a whole number in any of the types that an Instance may have for it.
func integer(value any) (int64, bool) {
	switch v := value.(type) {
	case int:
		return int64(v), true
	case int64:
		return v, true
	case uint64:
		return int64(v), v <= math.MaxInt64
	case float64:
		return int64(v), v == math.Trunc(v) && math.Abs(v) < 1<<53
	}
	return 0, false
}

// isDomain is for a search domain: a hostname, with underscores and a dot at its end allowed.
func isDomain(name string) bool {
	return isHostname(strings.ReplaceAll(strings.TrimSuffix(name, "."), "_", "a"))
}
