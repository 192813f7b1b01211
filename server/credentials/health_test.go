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

	"github.com/google/go-cmp/cmp"

	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

// TestIllness holds the lines about an account to what its requests end with, one letter each: w(ell), (i)ll, n(othing).
func TestIllness(t *testing.T) {
	ends := map[rune]error{
		'w': nil,
		'i': &zendeskapi.Error{Op: "search", Kind: zendeskapi.Unavailable, Cause: "the connection was refused"},
		'n': &zendeskapi.Error{Op: "search", Kind: zendeskapi.Canceled},
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
		s := newCourses(slog.New(slog.NewTextHandler(&log, nil)), time.Now)
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
		zendeskapi.AccessDenied:   signIll,
		zendeskapi.InvalidRequest: signWell, zendeskapi.Conflict: signWell,
		zendeskapi.Canceled: signNone, zendeskapi.CredentialsRejected: signNone,
	} {
		if got := signOf(&zendeskapi.Error{Kind: kind}); got != want {
			t.Errorf("%s is sign %d, want %d", kind, got, want)
		}
	}
	for code, want := range map[string]sign{
		"RecordNotFound": signWell, "InvalidEndpoint": signWell,
		"No help desk at acme.zendesk.com": signIll, "": signIll,
	} {
		if got := signOf(&zendeskapi.Error{Kind: zendeskapi.NotFound, StatusCode: 404, Code: code}); got != want {
			t.Errorf("404 with code %q is sign %d, want %d", code, got, want)
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

// TestCourse holds what is known of an account to how its requests ended, a second apart, one letter each: w(ell),
// n(ot found), f(ails), t(hrottled), r(efused credential), d(enied), c(ancelled).
func TestCourse(t *testing.T) {
	of := func(kind zendeskapi.Kind) error { return &zendeskapi.Error{Op: "search", Kind: kind} }
	ends := map[rune]error{
		'w': nil, 'n': &zendeskapi.Error{Kind: zendeskapi.NotFound, StatusCode: 404, Code: "RecordNotFound"},
		'f': of(zendeskapi.Unavailable), 't': &zendeskapi.Error{Op: "search", Kind: zendeskapi.RateLimited, Pause: 10 * time.Second}, 'r': of(zendeskapi.CredentialsRejected),
		'd': of(zendeskapi.AccessDenied), 'c': of(zendeskapi.Canceled),
	}
	const never = -1
	for _, test := range []struct {
		requests                 string
		answers, ill, throttled  bool
		lastSuccess, lastFailure int // which of the requests
		why                      store.FailureReason
	}{
		{"", false, false, false, never, never, ""},
		{"c", false, false, false, never, never, ""},
		{"w", true, false, false, 0, never, ""},
		{"wn", true, false, false, 1, never, ""},
		{"fff", false, true, false, never, 2, store.ReasonUnavailable},
		{"wff", true, false, false, 0, 2, store.ReasonUnavailable},
		{"wffff", true, true, false, 0, 4, store.ReasonUnavailable},
		{"ffffw", true, false, false, 4, 3, store.ReasonUnavailable},
		{"ffnf", true, false, false, 2, 3, store.ReasonUnavailable},
		{"ttt", false, false, true, never, 2, store.ReasonRateLimited},
		{"wtttttt", true, false, true, 0, 6, store.ReasonRateLimited},
		{"ftt", false, true, false, never, 2, store.ReasonRateLimited},
		{"fttt", false, false, true, never, 3, store.ReasonRateLimited},
		{"tttf", false, true, false, never, 3, store.ReasonUnavailable},
		{"tttw", true, false, false, 3, 2, store.ReasonRateLimited},
		{"ttrt", false, false, true, never, 3, store.ReasonRateLimited},
		{"rrrr", false, false, false, never, 3, store.ReasonCredentialsRejected},
		{"ddc", false, false, false, never, 1, store.ReasonAccessDenied},
		{"dwdd", true, false, false, 1, 3, store.ReasonAccessDenied},
		{"dddc", false, true, false, never, 2, store.ReasonAccessDenied},
		{"wffd", true, true, false, 0, 3, store.ReasonAccessDenied},
	} {
		start := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
		now := start
		s := newCourses(slog.New(slog.DiscardHandler), func() time.Time { return now })
		for _, letter := range test.requests {
			s.note("default", store.Account{ID: "acme", Incarnation: "1"}, ends[letter])
			s.note("another", store.Account{ID: "acme", Incarnation: "1"}, nil)
			now = now.Add(time.Second)
		}
		at := func(request int) time.Time {
			if request == never {
				return time.Time{}
			}
			return start.Add(time.Duration(request) * time.Second)
		}
		want := Health{
			Answers: test.answers, Ill: test.ill, Throttled: test.throttled, LastSuccess: at(test.lastSuccess), LastFailureTime: at(test.lastFailure),
		}
		health := func() Health {
			known, _ := s.accounts.Get(Key{"default", "1"})
			return known.health(now)
		}
		got := health()
		if why := got.LastFailure; (why == nil) != (test.why == "") || why != nil && why.Reason != test.why {
			t.Errorf("%s: the last failure is %v, want %s", test.requests, why, test.why)
		}
		got.LastFailure = nil
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.requests, diff)
		}
		now = now.Add(throttledFor)
		if later := health(); later.Throttled || later.Ill != test.ill {
			t.Errorf("%s, a while later: %+v", test.requests, later)
		}
		now = now.Add(useMemory)
		if diff := cmp.Diff(Health{}, health()); diff != "" {
			t.Errorf("%s, a day later (-want +got):\n%s", test.requests, diff)
		}
	}
}
