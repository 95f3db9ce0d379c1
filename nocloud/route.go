package nocloud

import (
	"math"
	"net/netip"
	"strconv"
	"strings"
)

// routeWords are the keys that a route has in one of the versions.
type routeWords struct {
	// to are those for where it leads; if several are there, the first counts.
	to []string
	// via is that for its router.
	via string
}

// route checks where a route leads and by way of what. All of cloud-init's renderers give up the whole network for a destination or a
// metric that they can't read, and netplan does for a router.
func (n node) route(words routeWords) {
	key := words.to[0]
	for _, other := range words.to[1:] {
		if n.values[key] == nil && n.values[other] != nil {
			key = other
		}
	}
	n.needs("route", key)
	to, ok := n.destination(key)
	n.length("netmask", to)
	n.length("prefix", to)
	n.number("metric", math.MaxUint32)
	if n.values[words.via] == nil {
		return
	}
	via, problem := n.router(words.via)
	if problem == "" && ok && via.Is4() != to.Is4() {
		problem = "is IPv4 where the destination is IPv6, or the other way round"
	}
	if problem != "" {
		n.add(words.via, "%s", problem)
	}
}

// destination returns the address of a network that a route leads to; false if it is of no kind, or wrong.
func (n node) destination(key string) (addr netip.Addr, ok bool) {
	value := n.values[key]
	if value == nil || value == "default" && key == "to" {
		return addr, false
	}
	text, _ := value.(string)
	host, length, hasLength := strings.Cut(text, "/")
	addr, err := netip.ParseAddr(host)
	ok = err == nil && addr.Zone() == ""
	if ok && hasLength {
		if mask, err := netip.ParseAddr(length); err == nil {
			_, ok = parseNetmask(mask)
			ok = ok && mask.Is4() == addr.Is4()
		} else {
			_, err = netip.ParsePrefix(text)
			ok = err == nil
		}
	}
	if !ok {
		n.add(key, "is no network, such as 192.0.2.0/24")
	}
	return addr, ok
}

// router returns the address at key, which may be unspecified: that is for none.
func (n node) router(key string) (addr netip.Addr, problem string) {
	text, _ := n.values[key].(string)
	addr, err := netip.ParseAddr(text)
	if err == nil && addr.Zone() == "" && addr.IsUnspecified() {
		return addr, ""
	}
	return parseHost(text)
}

// length checks a netmask, or the length of a prefix, of a network with an address of to's kind.
func (n node) length(key string, to netip.Addr) {
	if n.values[key] == nil || !to.IsValid() {
		return
	}
	text := maskText(n.values[key])
	if length, err := strconv.Atoi(text); err == nil && length >= 0 && length <= to.BitLen() {
		return
	}
	mask, err := netip.ParseAddr(text)
	if err == nil && key == "netmask" && mask.Is4() == to.Is4() {
		if _, ok := parseNetmask(mask); ok {
			return
		}
	}
	n.add(key, "is no length of a prefix: a number from 0 to %d", to.BitLen())
}

// number reports what is no number from 0 to most. It may be written as a text.
func (n node) number(key string, most uint64) {
	if n.values[key] == nil {
		return
	}
	if number, err := strconv.ParseUint(maskText(n.values[key]), 10, 64); err != nil || number > most {
		n.add(key, "must be a number from 0 to %d", most)
	}
}
