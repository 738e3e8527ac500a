package policy

import (
	"fmt"
	"net/netip"
	"slices"
)

// Class is what kind of place an address is. Only Public is ever dialled by name.
type Class string

// The classes of addresses.
const (
	Public      Class = "public"
	Loopback    Class = "loopback"
	Private     Class = "private"
	LinkLocal   Class = "link-local"
	CGNAT       Class = "carrier-grade NAT"
	Multicast   Class = "multicast"
	Reserved    Class = "reserved"
	Unspecified Class = "unspecified"
	Metadata    Class = "cloud metadata"
)

type block struct {
	prefix netip.Prefix
	class  Class
}

func blocks(class Class, prefixes ...string) []block {
	out := make([]block, len(prefixes))
	for i, prefix := range prefixes {
		out[i] = block{netip.MustParsePrefix(prefix), class}
	}
	return out
}

func concat(lists ...[]block) []block {
	var out []block
	for _, list := range lists {
		out = append(out, list...)
	}
	return out
}

// The first block that holds an address decides, so the narrow ones stand first.
var blocks4 = concat(
	blocks(Metadata, "169.254.169.254/32", "169.254.170.2/32", "169.254.170.23/32", "100.100.100.200/32", "168.63.129.16/32"),
	blocks(Unspecified, "0.0.0.0/8"),
	blocks(Loopback, "127.0.0.0/8"),
	blocks(Private, "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),
	blocks(LinkLocal, "169.254.0.0/16"),
	blocks(CGNAT, "100.64.0.0/10"),
	blocks(Multicast, "224.0.0.0/4"),
	blocks(Reserved, "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24",
		"192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4"),
)

// Global unicast is 2000::/3 alone; everything outside it that is not named here is reserved.
var blocks6 = concat(
	blocks(Metadata, "fd00:ec2::/32", "fd20:ce::254/128"),
	blocks(Unspecified, "::/128"),
	blocks(Loopback, "::1/128"),
	blocks(Private, "fc00::/7", "fec0::/10"),
	blocks(LinkLocal, "fe80::/10"),
	blocks(Multicast, "ff00::/8"),
	blocks(Reserved, "2001::/23", "2001:db8::/32", "2620:4f:8000::/48", "3fff::/20", "3ffe::/16"),
	blocks(Public, "2000::/3"),
)

type embedding struct {
	prefix netip.Prefix
	offset int
	flip   byte // Teredo stores the address inverted
}

// Prefixes whose addresses carry an IPv4 address, and where its four bytes begin.
var embeddings = []embedding{
	{netip.MustParsePrefix("::/96"), 12, 0},
	{netip.MustParsePrefix("64:ff9b::/96"), 12, 0},
	{netip.MustParsePrefix("64:ff9b:1::/48"), 12, 0},
	{netip.MustParsePrefix("2002::/16"), 2, 0},
	{netip.MustParsePrefix("2001::/32"), 12, 0xff},
}

// ClassifyAddr says what kind of place addr is. An IPv6 address that carries an IPv4 one is of that one's class when
// that is not public, and Reserved when it is: where translation leads is not for this machine to know. Only the
// IPv4-mapped form (::ffff:a.b.c.d) is the IPv4 address itself. The zero Addr is Reserved.
func ClassifyAddr(addr netip.Addr) Class {
	addr = addr.WithZone("").Unmap()
	if !addr.IsValid() {
		return Reserved
	}
	if addr.Is4() {
		return classIn(blocks4, addr, Public)
	}
	if addr == netip.IPv6Unspecified() || addr == netip.IPv6Loopback() {
		return classIn(blocks6, addr, Reserved)
	}
	for _, e := range embeddings {
		if e.prefix.Contains(addr) {
			return embeddedClass(addr, e.offset, e.flip)
		}
	}
	return classIn(blocks6, addr, Reserved)
}

func embeddedClass(addr netip.Addr, offset int, flip byte) Class {
	if class := classIn(blocks4, carried(addr, offset, flip), Public); class != Public {
		return class
	}
	return Reserved
}

func carried(addr netip.Addr, offset int, flip byte) netip.Addr {
	bytes := addr.As16()
	var four [4]byte
	for i := range four {
		four[i] = bytes[offset+i] ^ flip
	}
	return netip.AddrFrom4(four)
}

// embedded gives the IPv4 address that an IPv6 one carries.
func embedded(addr netip.Addr) (netip.Addr, bool) {
	if addr == netip.IPv6Unspecified() || addr == netip.IPv6Loopback() || !addr.Is6() {
		return netip.Addr{}, false
	}
	for _, e := range embeddings {
		if e.prefix.Contains(addr) {
			return carried(addr, e.offset, e.flip), true
		}
	}
	return netip.Addr{}, false
}

// Permits reports whether a name may lead to addr: to what is public, and to what is not only where one of the prefixes
// holds it. An address that carries an IPv4 one needs to be held itself and to carry what is permitted. Nothing permits
// metadata, multicast and unspecified addresses.
func Permits(prefixes []netip.Prefix, addr netip.Addr) bool {
	addr = addr.WithZone("").Unmap()
	switch ClassifyAddr(addr) {
	case Public:
		return true
	case Metadata, Multicast, Unspecified:
		return false
	}
	if !slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(addr) }) {
		return false
	}
	if four, ok := embedded(addr); ok {
		return Permits(prefixes, four)
	}
	return true
}

func classIn(list []block, addr netip.Addr, otherwise Class) Class {
	for _, b := range list {
		if b.prefix.Contains(addr) {
			return b.class
		}
	}
	return otherwise
}

// CheckPrivate says why a block of addresses is none that a rule can let its hosts lead to: only what is not public can
// be, and nothing that Permits never permits. A larger block may hold some of that; it stays forbidden.
func CheckPrivate(p netip.Prefix) error {
	p = p.Masked()
	inside := func(b block) bool { return b.prefix.Bits() <= p.Bits() && b.prefix.Overlaps(p) }
	list := slices.Concat(blocks4, blocks6)
	if i := slices.IndexFunc(list, inside); i >= 0 {
		switch class := list[i].class; class {
		case Metadata, Multicast, Unspecified:
			return fmt.Errorf("%s is of a kind (%s) that nothing can reach", p, class)
		case Public:
		default:
			return nil
		}
	}
	if slices.ContainsFunc(embeddings, func(e embedding) bool { return e.prefix.Bits() <= p.Bits() && e.prefix.Overlaps(p) }) {
		return nil
	}
	if p.Addr().Is4() || p.Overlaps(globalUnicast) {
		return fmt.Errorf("%s holds public addresses, which need nobody's leave", p)
	}
	return nil
}

var globalUnicast = netip.MustParsePrefix("2000::/3")
