package loopback

import "testing"

func TestHost(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "LocalHost": true, "127.0.0.1": true, "127.255.0.9": true, "::1": true, "::ffff:127.0.0.1": true,
		"": false, "localhost.": false, "localhost.example.com": false, "127.0.0.1.example.com": false, "128.0.0.1": false, "127.1": false, "0.0.0.0": false, "::": false,
		"[::1]": false, "::1%lo": false, "localhost:80": false, "127.0.0.1:80": false, "2130706433": false, "0x7f.0.0.1": false, "127.000.000.001": false,
	} {
		if got := Host(host); got != want {
			t.Errorf("Host(%q) = %v", host, got)
		}
	}
}
