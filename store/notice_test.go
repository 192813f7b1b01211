package store

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

func TestToldNotices(t *testing.T) {
	begun := time.Now()
	var told toldNotices
	add := func(after time.Duration, messages ...string) {
		var all [][]byte
		for _, m := range messages {
			all = append(all, []byte(m))
		}
		told = told.with(begun.Add(after), all)
	}
	since := func(seen uint64) (messages []string) {
		stored := told.stored()
		for _, m := range stored.since(seen) {
			messages = append(messages, string(m))
		}
		return messages
	}
	add(0, "a", "b")
	add(time.Second, "c")
	for _, test := range []struct {
		seen uint64
		want []string
	}{{0, []string{"a", "b", "c"}}, {1, []string{"b", "c"}}, {2, []string{"c"}}, {3, nil}, {9, nil}} {
		if diff := cmp.Diff(test.want, since(test.seen)); diff != "" {
			t.Errorf("seen %d (-want +got):\n%s", test.seen, diff)
		}
	}
	add(noticeLife+time.Second/2, "d")
	if diff := cmp.Diff([]string{"c", "d"}, since(0)); diff != "" {
		t.Errorf("what is old (-want +got):\n%s", diff)
	}
	for i := range 2 * maxNotices {
		add(time.Minute, fmt.Sprint(i))
	}
	if got := since(0); len(got) != maxNotices || got[maxNotices-1] != fmt.Sprint(2*maxNotices-1) {
		t.Errorf("of many, %d are told", len(got))
	}
	for range 3 {
		add(time.Minute, string(bytes.Repeat([]byte("x"), maxNoticeBytes/2)))
	}
	if got := since(0); len(got) != 2 {
		t.Errorf("of long ones, %d are told", len(got))
	}
}

// listener keeps what a replica hears.
type listener struct {
	mu    sync.Mutex
	heard []string
}

func (l *listener) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	heard := l.heard
	l.heard = nil
	return heard
}

func listen(ctx context.Context, s *Store, group *sync.WaitGroup) *listener {
	l := new(listener)
	group.Go(func() {
		s.Notices(ctx, func(message []byte) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.heard = append(l.heard, string(message))
		})
	})
	return l
}

func TestNotices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := replicas(t, 3)
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		defer group.Wait()
		defer cancel()
		tell := func(s *Store, message string) {
			t.Helper()
			if err := s.Notify(ctx, []byte(message)); err != nil {
				t.Fatal(err)
			}
		}
		hears := func(l *listener, want ...string) {
			t.Helper()
			synctest.Wait()
			if diff := cmp.Diff(want, l.take()); diff != "" {
				t.Errorf("heard (-want +got):\n%s", diff)
			}
		}
		tell(s[0], "before anybody listens")
		first, second := listen(ctx, s[0], &group), listen(ctx, s[1], &group)
		hears(second)
		for i := range 3 {
			tell(s[0], fmt.Sprint("a", i))
		}
		hears(second, "a0", "a1", "a2")
		tell(s[1], "b")
		hears(second)
		hears(first, "b")
		tell(s[2], "c")
		hears(first, "c")
		hears(second, "c")
		if _, err := s[0].Scrub(ctx); err != nil {
			t.Error(err)
		}

		// What one has told is gone when it ends, or is found dead.
		stands := func(s *Store) bool {
			t.Helper()
			var value []byte
			err := s.engine.View(ctx, func(r kv.Reader) error {
				values, err := r.Get(noticeKey(s.claims.self))
				value = values[0]
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			return value != nil
		}
		ended := noticeKey("nobody")
		if err := s[0].commit(ctx, func(tx kv.Txn) error {
			sealed, err := s[0].vault.seal(ended, []byte(`{}`))
			tx.Put(ended, sealed)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if err := s[0].engine.View(ctx, func(r kv.Reader) error {
			values, err := r.Get(ended)
			if values[0] != nil {
				t.Error("what a dead replica has told stands")
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if !stands(s[1]) {
			t.Error("what a living replica has told is gone")
		}
	})
}

func TestNoticesOfOneProcess(t *testing.T) {
	s := openStore(t, t.TempDir())
	if err := s.Notify(t.Context(), []byte("x")); err != nil {
		t.Error(err)
	}
	s.Notices(t.Context(), func([]byte) { t.Error("heard itself") }) // returns
	if err := s.engine.View(t.Context(), func(r kv.Reader) error {
		entries, _, err := r.Scan(kv.Prefix(noticeKey()))
		if len(entries) > 0 {
			t.Errorf("stored %d notices for nobody", len(entries))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}
