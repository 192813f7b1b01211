package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// ErrNotNoted is for a [Note] that cannot be taken: who cannot note a change does not make it.
var ErrNotNoted = errors.New("the change cannot be noted")

// Note makes a line for the audit, which is stored in the transaction of what it tells of, in the outbox: either both are
// there or none is. It is called after the change, in the transaction, and may be called several times: what it made last
// counts. Its error undoes the change, and comes back as it is. The id tells the line from all others. nil notes nothing.
type Note func(id string, at time.Time) (line []byte, err error)

// OutboxLine is a line of the outbox.
type OutboxLine struct {
	ID   string
	Time time.Time // when the change was made
	Text []byte    // nil: it cannot be read
	key  []byte
}

// noted returns what stores the notes of a transaction.
func (s *Store) noted(notes []Note) func(*writing) error {
	now := s.time()
	ids := make([]string, len(notes))
	for i := range ids {
		ids[i] = newID()
	}
	return func(w *writing) error {
		for i, note := range notes {
			if note == nil {
				continue
			}
			line, err := note(ids[i], now)
			if err != nil {
				return err
			}
			if err := w.put(noteKey(now, ids[i]), line); err != nil {
				return err
			}
		}
		return nil
	}
}

// Outbox returns the lines of the outbox, of any tenant, oldest first: limit of them, 1 to 256, or fewer. more tells that
// others follow.
func (s *Store) Outbox(ctx context.Context, limit int) (lines []OutboxLine, more bool, err error) {
	outbox := kv.Prefix(notesKey)
	outbox.Limit = limit
	entries, more, err := s.scan(ctx, outbox)
	if err != nil {
		return nil, false, err
	}
	for _, entry := range entries {
		line := OutboxLine{key: entry.Key}
		segments, err := kv.Split(entry.Key)
		if err == nil && len(segments) == 4 {
			line.ID = segments[3]
			if line.Time, err = kv.ParseTime(segments[2]); err == nil {
				line.Text, err = s.vault.open(entry.Key, entry.Value)
			}
		}
		if err != nil || len(segments) != 4 {
			s.log.ErrorContext(ctx, "a line for the audit is damaged, and is lost", "id", line.ID, "error", err)
			line.Text = nil
		}
		lines = append(lines, line)
	}
	return lines, more, nil
}

// OutboxBacklog counts the lines of the outbox, up to most of them, and tells since when the oldest waits; zero: there is
// none.
func (s *Store) OutboxBacklog(ctx context.Context, most int) (lines int, oldest time.Time, err error) {
	outbox := kv.Prefix(notesKey)
	outbox.KeysOnly = true
	for more := true; more && lines < most; {
		var entries []kv.Entry
		if entries, more, err = s.scan(ctx, outbox); err != nil {
			return 0, time.Time{}, err
		}
		for _, entry := range entries {
			if segments, err := kv.Split(entry.Key); err == nil && len(segments) == 4 && oldest.IsZero() {
				oldest, _ = kv.ParseTime(segments[2]) // of one that is damaged nothing is known
			}
			outbox.Start = kv.After(entry.Key)
		}
		lines += len(entries)
	}
	return lines, oldest, nil
}

// ClearOutbox removes lines, which have been written where they are to stay.
func (s *Store) ClearOutbox(ctx context.Context, lines []OutboxLine) error {
	for len(lines) > 0 {
		some := lines[:min(len(lines), kv.MaxTxnKeys)]
		err := s.commit(ctx, func(tx kv.Txn) error {
			for _, line := range some {
				tx.Delete(line.key)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("clearing the outbox: %w", err)
		}
		lines = lines[len(some):]
	}
	return nil
}

// WatchOutbox sends a token after lines have come into the outbox; see [Store.WatchDelivered].
func (s *Store) WatchOutbox(ctx context.Context) (<-chan struct{}, error) {
	return s.engine.Watch(ctx, notesKey)
}
