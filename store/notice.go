package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// What replicas tell each other in passing stands under one key for each of them, so that it costs a commit and is overwritten by
// what is told next. Messages are numbered, and those of late are told again with what follows, so that no other replica misses
// one between two looks.

const (
	// noticeLife is how long a message is told again; maxNotices and maxNoticeBytes bound what is.
	noticeLife     = 5 * time.Second
	maxNotices     = 1024
	maxNoticeBytes = 256 << 10
	// lookAgainAfter is how often it is looked when a look has failed.
	lookAgainAfter = time.Second
)

// notices is what this replica has told the others of late.
type notices struct {
	mu   sync.Mutex
	told toldNotices
}

type toldNotices struct {
	last   uint64 // number of the last message
	latest []notice
}

type notice struct {
	at      time.Time
	message []byte
}

// with returns what is told with messages that follow.
func (t toldNotices) with(now time.Time, messages [][]byte) toldNotices {
	t.last += uint64(len(messages))
	t.latest = slices.DeleteFunc(slices.Clone(t.latest), func(n notice) bool { return now.Sub(n.at) > noticeLife })
	for _, message := range messages {
		t.latest = append(t.latest, notice{now, message})
	}
	bytes, from := 0, len(t.latest)
	for from > max(0, len(t.latest)-maxNotices) && bytes+len(t.latest[from-1].message) <= maxNoticeBytes {
		from--
		bytes += len(t.latest[from].message)
	}
	t.latest = t.latest[from:]
	return t
}

// storedNotices is their stored form.
type storedNotices struct {
	Last     uint64   `json:"last"`
	Messages [][]byte `json:"messages"`
}

func (t toldNotices) stored() storedNotices {
	stored := storedNotices{Last: t.last}
	for _, n := range t.latest {
		stored.Messages = append(stored.Messages, n.message)
	}
	return stored
}

// since returns the messages after one of a number.
func (n *storedNotices) since(seen uint64) [][]byte {
	if seen >= n.Last {
		return nil
	}
	unseen := min(n.Last-seen, uint64(len(n.Messages)))
	return n.Messages[uint64(len(n.Messages))-unseen:]
}

// Notify tells the other replicas something that is of use for some seconds: they hear it by [Store.Notices] within about 100 ms,
// if they do at all. Where no other process works on the data it does nothing. Errors: the engine's; it may not have been told
// then.
func (s *Store) Notify(ctx context.Context, messages ...[]byte) error {
	if !s.Shared() || len(messages) == 0 {
		return nil
	}
	s.notices.mu.Lock()
	defer s.notices.mu.Unlock()
	told := s.notices.told.with(time.Now(), messages)
	value, err := encode(told.stored())
	if err != nil {
		return err
	}
	key := noticeKey(s.claims.self)
	err = s.commit(ctx, func(tx kv.Txn) error {
		sealed, err := s.vault.seal(key, value)
		if err == nil {
			tx.Put(key, sealed)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("telling other replicas: %w", err)
	}
	s.notices.told = told
	return nil
}

// Notices hands over what other replicas tell by [Store.Notify] from now on, each in the order told, until ctx ends. Where no other
// process works on the data it returns at once.
func (s *Store) Notices(ctx context.Context, heard func(message []byte)) {
	if !s.Shared() {
		return
	}
	var seen map[string]uint64 // by replica; nil: not looked yet
	for ctx.Err() == nil {
		watching, stop := context.WithCancel(ctx)
		tokens, err := s.engine.Watch(watching, noticeKey())
		for err == nil {
			var all map[string]storedNotices
			if all, err = s.loadNotices(ctx); err != nil {
				break
			}
			before := seen
			seen = make(map[string]uint64, len(all))
			for replica, told := range all {
				seen[replica] = told.Last
				if before == nil {
					continue // it may have been told long ago
				}
				for _, message := range told.since(before[replica]) {
					heard(message)
				}
			}
			s.dropNotices(ctx, all)
			if _, open := <-tokens; !open {
				break
			}
		}
		stop()
		select {
		case <-time.After(lookAgainAfter):
		case <-ctx.Done():
		}
	}
}

// loadNotices reads what the other replicas have told. What does not open is not heard: the key that it is sealed with may be
// about to be added here.
func (s *Store) loadNotices(ctx context.Context) (all map[string]storedNotices, err error) {
	err = s.engine.View(ctx, func(r kv.Reader) error {
		all = make(map[string]storedNotices)
		for from := kv.Prefix(noticeKey()); ; {
			entries, more, err := r.Scan(from)
			if err != nil {
				return err
			}
			for _, entry := range entries {
				path, err := kv.Split(entry.Key)
				if err != nil {
					return err
				}
				var told storedNotices
				if value, err := s.vault.open(entry.Key, entry.Value); err != nil || decode(value, &told) != nil {
					continue
				}
				if replica := path[len(path)-1]; replica != s.claims.self {
					all[replica] = told
				}
			}
			if !more {
				return nil
			}
			from.Start = kv.After(entries[len(entries)-1].Key)
		}
	})
	return all, err
}

// dropNotices removes what replicas have told that do not live any more.
func (s *Store) dropNotices(ctx context.Context, all map[string]storedNotices) {
	for _, replica := range s.Replicas() {
		delete(all, replica.ID)
	}
	if len(all) == 0 {
		return
	}
	err := s.commit(ctx, func(tx kv.Txn) error {
		living, err := loadMembers(tx)
		left := kv.MaxTxnKeys / 2
		for replica := range all {
			if _, lives := living[replica]; !lives && left > 0 {
				tx.Delete(noticeKey(replica))
				left--
			}
		}
		return err
	})
	if err != nil && ctx.Err() == nil && !errors.Is(err, ErrUnavailable) {
		s.log.Warn("what dead replicas have told was not removed; it is tried again", "error", err)
	}
}
