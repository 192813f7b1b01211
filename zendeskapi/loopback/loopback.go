// Package loopback says which hosts are this machine. What goes there leaves it by no network, and may be plain http.
package loopback

import (
	"net/netip"
	"strings"
)

// Host says whether a host is this machine by its name alone: localhost (RFC 6761), in any case, or an address of 127.0.0.0/8 or ::1,
// also one mapped into IPv6, without brackets.
func Host(host string) bool {
	address, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && address.Zone() == "" && address.Unmap().IsLoopback()
}
