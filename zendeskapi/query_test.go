package zendeskapi

import (
	"net/url"
	"regexp"
	"testing"
)

func TestEncodeQuery(t *testing.T) {
	for value, want := range map[string]string{
		"":                           "q=",
		"plain-1_2.3~":               "q=plain-1_2.3~",
		"a b":                        "q=a%20b",
		"joe+vip@acme.com":           "q=joe%2Bvip%40acme.com",
		"type:user phone:*5135":      "q=type%3Auser%20phone%3A%2A5135",
		`subject:"x y" created>2026`: "q=subject%3A%22x%20y%22%20created%3E2026",
		"100% & more=#1?/;,":         "q=100%25%20%26%20more%3D%231%3F%2F%3B%2C",
		"Zoë 🦉":                      "q=Zo%C3%AB%20%F0%9F%A6%89",
		"\x00\n\xff":                 "q=%00%0A%FF",
	} {
		if got := encodeQuery(url.Values{"q": {value}}); got != want {
			t.Errorf("%q is encoded as %q, want %q", value, got, want)
		}
	}
	if got := encodeQuery(url.Values{"sort": {"-a"}, "page[size]": {"100"}}); got != "page%5Bsize%5D=100&sort=-a" {
		t.Errorf("got %q", got)
	}
}

func FuzzEncodeQuery(f *testing.F) {
	f.Add("q", "joe+vip@acme.com x")
	f.Add("page[size]", "\x00&=+%zz")
	safe := regexp.MustCompile(`^[A-Za-z0-9._~=%-]*$`)
	f.Fuzz(func(t *testing.T, name, value string) {
		encoded := encodeQuery(url.Values{name: {value}})
		if !safe.MatchString(encoded) {
			t.Errorf("encoded as %q", encoded)
		}
		back, err := url.ParseQuery(encoded)
		if err != nil || len(back) != 1 || len(back[name]) != 1 || back.Get(name) != value {
			t.Errorf("%q=%q is read back from %q as %v, %v", name, value, encoded, back, err)
		}
	})
}

func TestAgentPages(t *testing.T) {
	const origin = "https://acme.zendesk.com"
	for got, want := range map[string]string{
		TicketPage(origin, "35436"):                                     origin + "/agent/tickets/35436",
		NewTicketPage(origin, NewTicket{RequesterID: "46000000000001"}): origin + "/agent/tickets/new/1?requester_id=46000000000001",
		NewTicketPage(origin, NewTicket{Subject: "a&b #1", Tags: []string{"vip", "é"}}): origin +
			"/agent/tickets/new/1?requester_id=&ticket%5Bsubject%5D=a%26b%20%231&ticket%5Btags%5D=vip%20%C3%A9",
		UserPage(origin, "46000000000001"):        origin + "/agent/users/46000000000001/requested_tickets",
		OrganizationPage(origin, "1"):             origin + "/agent/organizations/1/tickets",
		SearchPage(origin, `phone:*513 "a+b" &c`): origin + "/agent/search/1?q=phone%3A%2A513%20%22a%2Bb%22%20%26c",
		TicketPage(origin, "../x?y#z"):            origin + "/agent/tickets/..%2Fx%3Fy%23z",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
