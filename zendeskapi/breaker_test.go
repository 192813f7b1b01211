package zendeskapi

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestEvidence(t *testing.T) {
	for _, test := range []struct {
		kind   Kind
		waited time.Duration
		want   error
	}{
		{"", 0, nil},
		{Unavailable, 0, errFault},
		{BadResponse, 0, errFault},
		{Timeout, patience, errFault},
		{Timeout, patience - 1, errNoEvidence},
		{RateLimited, time.Hour, errNoEvidence},
		{Canceled, time.Hour, errNoEvidence},
		{CredentialsRejected, 0, nil},
		{AccessDenied, 0, nil},
		{InvalidRequest, 0, nil},
		{NotFound, 0, nil},
		{Conflict, 0, nil},
	} {
		var e *Error
		if test.kind != "" {
			e = &Error{Kind: test.kind}
		}
		if got := evidence(e, test.waited); !errors.Is(got, test.want) {
			t.Errorf("%q after %v: got %v, want %v", test.kind, test.waited, got, test.want)
		}
	}
}

// TestBreaker leaves an endpoint alone that fails, asks it one at a time after a rest, and trusts it when it answers.
func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all breakers
		bad, good := breakerKey{"z", "a", "search"}, breakerKey{"z", "a", "ticket"}
		end := func(key breakerKey, with error) bool {
			done, _ := all.allow(key)
			if done != nil {
				done(with)
			}
			return done != nil
		}
		for range tripAfter - 1 {
			end(bad, errFault)
		}
		end(bad, errNoEvidence)
		if !end(bad, nil) {
			t.Fatal("left alone too early")
		}
		for i := range tripAfter {
			if !end(bad, errFault) {
				t.Fatalf("left alone after %d failures in a row", i)
			}
			end(bad, errNoEvidence)
		}
		if end(bad, nil) || !end(good, nil) || !slices.Equal(all.open("z", "a"), []string{"search"}) || all.open("z", "b") != nil {
			t.Errorf("after %d failures: %q are left alone", tripAfter, all.open("z", "a"))
		}
		time.Sleep(restTime + 1)
		for _, ends := range []error{errNoEvidence, errFault} {
			probe, _ := all.allow(bad)
			if second, _ := all.allow(bad); probe == nil || second != nil {
				t.Fatalf("after a rest: not one request at a time")
			}
			probe(ends)
		}
		if again, rest := all.allow(bad); again != nil || rest != restTime {
			t.Error("asked again at once after the probe has failed")
		}
		time.Sleep(restTime + 1)
		if first, second := end(bad, nil), end(bad, nil); !first || !second || all.open("z", "a") != nil {
			t.Error("left alone although it answered")
		}
		for i := range 2 * enoughBreakers {
			end(breakerKey{account: fmt.Sprint(i / 2), endpoint: fmt.Sprint(i % 2)}, nil)
		}
		kept := 0
		for _, endpoints := range all.accounts {
			kept += len(endpoints)
		}
		if kept > enoughBreakers+1 || kept != all.count || len(all.accounts) > kept {
			t.Errorf("%d breakers of %d accounts are kept, and counted as %d", kept, len(all.accounts), all.count)
		}
	})
}
