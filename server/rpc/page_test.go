package rpc

import (
	"strings"
	"testing"
)

func TestPageToken(t *testing.T) {
	good := PageToken("acme-1")
	for token, want := range map[string]string{
		"": "", good: "acme-1", good[:len(good)-1]: "", good + "A": "", "acme-1": "", "!": "", strings.Repeat("A", 4096): "", PageToken(""): "",
	} {
		var v Violations
		after := v.PageToken(token)
		if valid := token == "" || token == good; after != want || (len(v) == 0) != valid {
			t.Errorf("page token %q names %q with %d violations", token, after, len(v))
		}
	}
}

// A page token that is accepted is one that was given out.
func FuzzPageToken(f *testing.F) {
	f.Add(PageToken("acme"))
	f.Add("YWNtZQ")
	f.Fuzz(func(t *testing.T, token string) {
		var v Violations
		if after := v.PageToken(token); after != "" && PageToken(after) != token {
			t.Errorf("page token %q names %q", token, after)
		}
	})
}

func TestPageSize(t *testing.T) {
	for size, want := range map[int32]int{0: 50, 1: 1, 50: 50, 199: 199, 200: 200, 201: 200, 1 << 30: 200} {
		var v Violations
		if got := v.PageSize(size); got != want || len(v) > 0 {
			t.Errorf("page size %d is %d with %v, want %d", size, got, v, want)
		}
	}
	var v Violations
	v.PageSize(-1)
	if len(v) != 1 || v[0].GetField() != "page_size" {
		t.Errorf("page size -1 violates %v", v)
	}
}
