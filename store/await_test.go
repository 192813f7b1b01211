package store

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

// Of those in one process who wait for a claim one has it at a time, as soon as it is given back.
func TestAwaitClaimAlone(t *testing.T) {
	s, err := Open(t.Context(), Config{Path: filepath.Join(t.TempDir(), "data.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		first, err := s.AwaitClaim(t.Context(), "a", "b")
		if err != nil {
			t.Fatal(err)
		}
		other, err := s.AwaitClaim(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		other.GiveBack()
		if _, err := s.Claim(t.Context(), "a", "b"); !errors.Is(err, ErrClaimed) {
			t.Errorf("claimed twice: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := s.AwaitClaim(ctx, "a", "b"); !errors.Is(err, ErrClaimed) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("waiting in vain: %v", err)
		}
		running, done := 0, 0 // of one at a time
		for range 5 {
			go func() {
				claim, err := s.AwaitClaim(t.Context(), "a", "b")
				if err != nil {
					t.Error(err)
					return
				}
				if running++; running > 1 {
					t.Error("two have it")
				}
				time.Sleep(time.Second) // of the test's own clock
				running--
				done++
				claim.Release()
			}()
		}
		synctest.Wait()
		if running != 0 {
			t.Error("one has it beside the first")
		}
		first.GiveBack()
		time.Sleep(5*time.Second + time.Millisecond)
		synctest.Wait()
		if done != 5 || s.Claimed() != 0 {
			t.Errorf("%d of 5 had it, and %d claims are left", done, s.Claimed())
		}
	})
}

// What is fenced by several claims needs all of them, and by none what is not to be stopped.
func TestFencesStandInOneAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := replicas(t, 1)[0]
		var claims []*Claim
		for _, name := range []string{"a", "b"} {
			c, err := s.Claim(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			claims = append(claims, c)
		}
		ctx := Fenced(Fenced(t.Context(), claims[0]), claims[1])
		note := func(ctx context.Context) error {
			return s.NotePerson(ctx, "acme", "z", []string{"x"}, NotedPerson{})
		}
		if err := note(ctx); err != nil {
			t.Error(err)
		}
		claims[0].GiveBack()
		if err := note(ctx); !errors.Is(err, ErrClaimLost) {
			t.Errorf("without one of the claims: %v", err)
		}
		if err := note(Fenced(ctx, nil)); err != nil {
			t.Error(err)
		}
	})
}
