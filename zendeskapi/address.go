package zendeskapi

import (
	"errors"
	"net/netip"

	"code.dny.dev/ssrf"
)

var errOwnNetwork = errors.New("the host has an address of the own network")

// permitted says which addresses a host may have. One that an operator allowed may be in the own network, yet nowhere that
// its name alone does not tell: who serves the name must not lead the service to itself or to the metadata of its machine.
func permitted(host string, allowed bool) func(netip.Addr) bool {
	literal, err := netip.ParseAddr(host)
	switch {
	case !allowed:
		return public
	case err == nil:
		return func(addr netip.Addr) bool { return addr.Unmap() == literal.Unmap() }
	case host == "localhost":
		return func(addr netip.Addr) bool { return addr.Unmap().IsLoopback() }
	}
	return func(addr netip.Addr) bool { return public(addr) || private(addr) }
}

// The registries of special-purpose addresses (https://www.iana.org/assignments/iana-ipv4-special-registry and
// https://www.iana.org/assignments/iana-ipv6-special-registry), and of IPv6 nothing outside global unicast. Among what they
// refuse are 6to4, Teredo, IPv4-compatible addresses and NAT64 with a local prefix.
var registries = ssrf.New(ssrf.WithAnyPort(), ssrf.WithAnyNetwork())

// public tells whether an address is on the internet, and so is every one that it leads to.
func public(addr netip.Addr) bool {
	addr = unwrap(addr)
	if inner, ok := isatap(addr); ok && !public(inner) {
		return false
	}
	return addr.IsValid() && addr.Zone() == "" && registries.SafeAddr(addr) == nil
}

var shared = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598

// private tells whether an address is one of a private network.
func private(addr netip.Addr) bool {
	addr = unwrap(addr)
	return addr.Zone() == "" && (addr.IsPrivate() || shared.Contains(addr))
}

var nat64 = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052: the last four bytes are an IPv4 address

// unwrap returns the IPv4 address that an IPv6 address stands for: as such (RFC 4291, 2.5.5.2) or behind the translator that
// networks without IPv4 reach the internet by.
func unwrap(addr netip.Addr) netip.Addr {
	if addr = addr.Unmap(); nat64.Contains(addr) {
		return lastFour(addr)
	}
	return addr
}

// isatap returns the IPv4 address of the host behind an interface identifier of RFC 5214, 6.1.
func isatap(addr netip.Addr) (netip.Addr, bool) {
	b := addr.As16()
	if !addr.Is6() || b[8]&^2 != 0 || b[9] != 0 || b[10] != 0x5e || b[11] != 0xfe {
		return netip.Addr{}, false
	}
	return lastFour(addr), true
}

func lastFour(addr netip.Addr) netip.Addr {
	b := addr.As16()
	return netip.AddrFrom4([4]byte(b[12:]))
}
