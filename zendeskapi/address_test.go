package zendeskapi

import (
	"net/netip"
	"testing"
)

func TestPublicAddresses(t *testing.T) {
	for address, want := range map[string]bool{
		// IPv4
		"8.8.8.8": true, "104.16.51.111": true, "100.63.0.1": true, "100.128.0.1": true, "172.32.0.1": true, "11.0.0.1": true,
		"127.0.0.1": false, "127.255.0.9": false, "10.1.2.3": false, "172.16.0.1": false, "172.31.255.255": false,
		"192.168.0.1": false, "169.254.169.254": false, "100.64.0.1": false, "100.127.255.255": false, "0.0.0.0": false,
		"0.1.2.3": false, "224.0.0.1": false, "239.255.255.250": false, "255.255.255.255": false, "198.18.0.1": false,
		"198.19.255.255": false, "192.0.0.1": false, "192.0.0.170": false, "192.0.2.1": false, "198.51.100.7": false,
		"203.0.113.9": false, "192.88.99.1": false, "240.0.0.1": false,
		// IPv6
		"2606:4700::6810:336f": true, "2a00:1450:4001::200e": true,
		"::": false, "::1": false, "fe80::1": false, "fe80::1%eth0": false, "2606:4700::1%eth0": false, "fc00::1": false,
		"fd00:ec2::254": false, "ff02::1": false, "fec0::1": false, "2001:db8::1": false, "3fff::1": false, "100::1": false,
		"2001::1": false, "2001:10::1": false, "2001:20::1": false, "5f00::1": false, "4000::1": false,
		// IPv4-mapped, also in hexadecimal
		"::ffff:104.16.51.111": true, "::ffff:127.0.0.1": false, "::ffff:7f00:1": false, "::ffff:169.254.169.254": false,
		"::ffff:10.0.0.1": false, "::ffff:0:127.0.0.1": false,
		// IPv4-compatible
		"::127.0.0.1": false, "::8.8.8.8": false,
		// NAT64: behind the well-known prefix the IPv4 address counts
		"64:ff9b::104.16.51.111": true, "64:ff9b::808:808": true, "64:ff9b::10.0.0.1": false, "64:ff9b::127.0.0.1": false,
		"64:ff9b::169.254.169.254": false, "64:ff9b::100.64.0.1": false, "64:ff9b:1::8.8.8.8": false, "64:ff9b:1::10.0.0.1": false,
		// 6to4, Teredo
		"2002:7f00:1::": false, "2002:808:808::1": false, "2002:a9fe:a9fe::": false, "2001:0:7f00:1::": false,
		"2001:0:4136:e378:8000:63bf:f5ff:fffe": false,
		// ISATAP
		"2606:4700::5efe:10.0.0.1": false, "2606:4700::200:5efe:127.0.0.1": false, "2606:4700::5efe:8.8.8.8": true,
		"2606:4700::200:5efe:169.254.169.254": false, "2606:4700::5eff:10.0.0.1": true,
	} {
		if got := public(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s is public: %t", address, got)
		}
	}
	if public(netip.Addr{}) || private(netip.Addr{}) {
		t.Error("no address is taken for one")
	}
}

// Who serves a name that was allowed leads the service into a private network at most.
func TestPermittedAddresses(t *testing.T) {
	for _, tt := range []struct {
		host    string
		allowed bool
		address string
		want    bool
	}{
		{"acme.zendesk.com", false, "104.16.51.111", true},
		{"acme.zendesk.com", false, "10.0.0.5", false},
		{"gateway.example", true, "104.16.51.111", true},
		{"gateway.example", true, "10.0.0.5", true},
		{"gateway.example", true, "100.64.0.5", true},
		{"gateway.example", true, "fd00::5", true},
		{"gateway.example", true, "::ffff:10.0.0.5", true},
		{"gateway.example", true, "64:ff9b::10.0.0.5", true},
		{"gateway.example", true, "127.0.0.1", false},
		{"gateway.example", true, "::1", false},
		{"gateway.example", true, "169.254.169.254", false},
		{"gateway.example", true, "64:ff9b::169.254.169.254", false},
		{"gateway.example", true, "fe80::1", false},
		{"gateway.example", true, "0.0.0.0", false},
		{"gateway.example", true, "2002:a00:5::", false},
		{"localhost", true, "127.0.0.1", true},
		{"localhost", true, "::1", true},
		{"localhost", true, "10.0.0.5", false},
		{"localhost", true, "104.16.51.111", false},
		{"localhost", false, "127.0.0.1", false},
		{"127.0.0.1", true, "127.0.0.1", true},
		{"127.0.0.1", true, "127.0.0.2", false},
		{"169.254.169.254", true, "169.254.169.254", true},
		{"10.0.0.5", true, "10.0.0.5", true},
		{"10.0.0.5", false, "10.0.0.5", false},
	} {
		if got := permitted(tt.host, tt.allowed)(netip.MustParseAddr(tt.address)); got != tt.want {
			t.Errorf("%q (allowed: %t) at %s: %t", tt.host, tt.allowed, tt.address, got)
		}
	}
}

func FuzzPublic(f *testing.F) {
	for _, seed := range []string{"::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "2606:4700::5efe:a00:1", "fe80::1%lo", "1.2.3.4"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return
		}
		if public(addr) && private(addr) {
			t.Errorf("%s is both public and private", addr)
		}
		if plain := addr.Unmap(); public(addr) && (!plain.IsGlobalUnicast() && !nat64.Contains(plain) || plain.IsPrivate()) {
			t.Errorf("%s is public", addr)
		}
	})
}
