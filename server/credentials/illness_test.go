package credentials

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

// TestIllnesses holds the lines about an account to what its requests end with, one letter each: w(ell), (i)ll, n(othing).
func TestIllnesses(t *testing.T) {
	ends := map[rune]error{
		'w': nil,
		'i': &zendeskapi.Error{Op: "search", Kind: zendeskapi.Unavailable, Cause: "the connection was refused"},
		'n': &zendeskapi.Error{Op: "search", Kind: zendeskapi.AccessDenied, StatusCode: 403},
	}
	for _, test := range []struct {
		requests string
		want     []string
	}{
		{"www", nil},
		{"ii", nil},
		{"iiw", nil},
		{"iiwii", nil},
		{"iii", []string{"ill"}},
		{"iiiiiiii", []string{"ill"}},
		{"inini", []string{"ill"}},
		{"iiinnn", []string{"ill"}},
		{"iiiwww", []string{"ill", "well"}},
		{"iiiiwiiw", []string{"ill", "well"}},
		{"iiiwiiiw", []string{"ill", "well", "ill", "well"}},
	} {
		var log bytes.Buffer
		s := newIllnesses(slog.New(slog.NewTextHandler(&log, nil)), time.Now)
		for _, letter := range test.requests {
			s.note("default", store.Account{ID: "acme", Incarnation: "1"}, ends[letter])
			s.note("default", store.Account{ID: "other", Incarnation: "2"}, nil)
		}
		var got []string
		for line := range strings.Lines(log.String()) {
			switch {
			case !strings.Contains(line, "account_id=acme"):
				t.Errorf("%s: another account is told of: %s", test.requests, line)
			case strings.Contains(line, "level=WARN") && strings.Contains(line, "reason=UNAVAILABLE") && strings.Contains(line, "the connection was refused"):
				got = append(got, "ill")
			case strings.Contains(line, "level=INFO") && strings.Contains(line, "well again"):
				got = append(got, "well")
			default:
				t.Errorf("%s: unexpected line %s", test.requests, line)
			}
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: the log tells %q, want %q", test.requests, got, test.want)
		}
	}
}

func TestSignOf(t *testing.T) {
	for kind, want := range map[zendeskapi.Kind]sign{
		zendeskapi.Timeout: signIll, zendeskapi.Unavailable: signIll, zendeskapi.RateLimited: signIll, zendeskapi.BadResponse: signIll,
		zendeskapi.NotFound: signWell, zendeskapi.InvalidRequest: signWell, zendeskapi.Conflict: signWell,
		zendeskapi.Canceled: signNone, zendeskapi.AccessDenied: signNone, zendeskapi.CredentialsRejected: signNone,
	} {
		if got := signOf(&zendeskapi.Error{Kind: kind}); got != want {
			t.Errorf("%s is sign %d, want %d", kind, got, want)
		}
	}
	for _, err := range []error{errors.New("of the store"), context.Canceled} {
		if signOf(err) != signNone {
			t.Errorf("%v says something about Zendesk", err)
		}
	}
	if signOf(nil) != signWell {
		t.Error("success says nothing")
	}
}
