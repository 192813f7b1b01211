// Package audit notes who changed what, when: an append-only stream of its own, for those who have to answer for it. It
// hides how a line gets there. Nothing secret is in it, and of what an update changed only the names of the fields.
//
// What is in it happened, and what happened is in it: a line is stored in the transaction of the change, in the store's
// outbox, and written to the stream and made durable there by [Log.Run]; then it leaves the outbox. After a crash the rest is
// written; a line that was being written may be there twice, with one id, if the stream does not know its own end. While
// lines wait that cannot be written, changes go on: until there are more than 10,000 of them, or one is older than 10
// minutes. Then changes are refused with [store.ErrNotNoted].
//
// Calls that were refused are in it as well, counted: those of known callers by method, all others together.
//
// Where several processes share the data each has a stream. One at a time, whose turn has the name [Turn], writes what was
// changed, whoever has changed it: when the turn passes on, a line may be in both streams, with one id. Refused calls are in
// the stream of the process that has refused them. Whoever reads them needs all streams.
//
//	_, err := st.CreateAccount(ctx, tenant, account, log.Note(caller, "account created", slog.String("account_id", id)))
package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/scenarioblocks/zendeskblocks/server/auth"
	"github.com/scenarioblocks/zendeskblocks/store"
)

// Turn is the name of the claim of the one process that runs [Log.Run].
const Turn = "audit"

// What may wait in the outbox before changes are refused.
const (
	maxWaiting    = 10_000
	maxWaitingFor = 10 * time.Minute
)

const (
	// atOnce is how many lines are written together.
	atOnce = 256
	// retryEvery is how often writing is tried again after it failed.
	retryEvery = time.Second
	// refusedEvery is how often refused calls are written.
	refusedEvery = time.Second
	// followEvery is how often it is looked at what waits for another process to write it.
	followEvery = 10 * time.Second
)

// Service is the caller of what this service does for a tenant by itself.
func Service(tenant string) auth.Caller {
	return auth.Caller{Tenant: tenant, Name: "zendeskblocks", Credential: "none"}
}

// Sink keeps the stream.
type Sink interface {
	// Append adds whole lines, and returns when they are kept for good. After an error some or all of them may be there, and
	// they are added again.
	Append(lines []byte) error
	// Tail returns what the stream ends with: all that is there of the last lines that were added together, if it can tell.
	Tail() ([]byte, error)
}

// Config is what a Log depends on.
type Config struct {
	Store *store.Store
	Sink  Sink // nil: nobody keeps the stream, and nothing is noted
	Log   *slog.Logger
	Now   func() time.Time
}

// Log is the stream. It is safe for concurrent use.
type Log struct {
	store *store.Store
	sink  Sink
	log   *slog.Logger
	now   func() time.Time

	writing sync.Mutex // of one who writes at a time
	failing bool       // the last write has failed
	lookAt  time.Time  // when to look at what waits for another process
	sure    bool       // that of what waits nothing is in the stream: it is so after a write that has succeeded
	waiting atomic.Pointer[backlog]
	running atomic.Bool // Run is
	refused refused
}

// backlog is what waited in the outbox when writing failed.
type backlog struct {
	lines  int
	oldest time.Time
}

// New returns the stream.
func New(c Config) *Log {
	l := &Log{store: c.Store, sink: c.Sink, log: c.Log, now: c.Now}
	l.waiting.Store(new(backlog))
	return l
}

// Note makes the note of a caller's change, for the method of the store that makes it.
func (l *Log) Note(caller auth.Caller, event string, attrs ...slog.Attr) store.Note {
	note := l.NoteAnyway(caller, event, attrs...)
	if note == nil {
		return nil
	}
	return func(id string, at time.Time) ([]byte, error) {
		if err := l.Ready(); err != nil {
			return nil, err
		}
		return note(id, at)
	}
}

// NoteAnyway is Note for a change that must not be refused: what it stores cannot be had again. Who begins such a change asks
// Ready first.
func (l *Log) NoteAnyway(caller auth.Caller, event string, attrs ...slog.Attr) store.Note {
	if l.sink == nil {
		return nil
	}
	return func(id string, at time.Time) ([]byte, error) {
		return Line(at, event, append([]slog.Attr{slog.String("id", id), slog.String("tenant", caller.Tenant),
			slog.String("caller", caller.Name), slog.String("credential", caller.Credential)}, attrs...)...)
	}
}

// Late is an attribute's text that the change sets which is noted, in its transaction.
func Late(text *string) slog.LogValuer { return late{text} }

type late struct{ text *string }

// LogValue implements slog.LogValuer.
func (l late) LogValue() slog.Value { return slog.StringValue(*l.text) }

// Line encodes a line: one JSON object.
func Line(at time.Time, event string, attrs ...slog.Attr) ([]byte, error) {
	var text bytes.Buffer
	record := slog.NewRecord(at, slog.LevelInfo, event, 0)
	record.AddAttrs(attrs...)
	handler := slog.NewJSONHandler(&text, &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		switch {
		case len(groups) == 0 && a.Key == slog.LevelKey:
			return slog.Attr{} // all are alike
		case len(groups) == 0 && a.Key == slog.MessageKey:
			a.Key = "event"
		}
		return a
	}})
	err := handler.Handle(context.Background(), record)
	return text.Bytes(), err
}

// Ready is nil while changes can be noted, else an [store.ErrNotNoted].
func (l *Log) Ready() error {
	if l.sink == nil {
		return nil
	}
	return l.waiting.Load().check(l.now())
}

func (b *backlog) check(now time.Time) error {
	switch {
	case b.lines > maxWaiting:
		return fmt.Errorf("more than %d lines wait to be written to the audit: %w", maxWaiting, store.ErrNotNoted)
	case !b.oldest.IsZero() && now.Sub(b.oldest) > maxWaitingFor:
		return fmt.Errorf("lines wait to be written to the audit since %s: %w", b.oldest.Format(time.RFC3339), store.ErrNotNoted)
	}
	return nil
}

// Pending is how many lines wait that could not be written, up to a little more than 10,000, as of the last try; or that wait for
// another process, as of the last look.
func (l *Log) Pending() int { return l.waiting.Load().lines }

// Run writes the stream until ctx is done.
func (l *Log) Run(ctx context.Context) {
	if l.sink == nil {
		return
	}
	tokens, err := l.store.WatchOutbox(ctx)
	if err != nil {
		if ctx.Err() == nil {
			l.log.ErrorContext(ctx, "the audit is not written", "error", err)
		}
		return
	}
	l.running.Store(true)
	defer l.running.Store(false)
	ticker := time.NewTicker(refusedEvery)
	defer ticker.Stop()
	for {
		if err := l.write(ctx, true, false); err != nil {
			select {
			case <-time.After(retryEvery):
				continue
			case <-ctx.Done():
				return
			}
		}
		select {
		case _, ok := <-tokens:
			if !ok {
				return
			}
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// Follow is for the time in which another process runs Run, until ctx is done: it writes the calls that this one has refused, and
// sees how much of what was changed waits.
func (l *Log) Follow(ctx context.Context) {
	if l.sink == nil {
		return
	}
	ticker := time.NewTicker(refusedEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		if !l.running.Load() {
			_ = l.write(ctx, false, false) // it is tried again
		}
	}
}

// Flush writes all that waits: when Run and Follow have ended, what came last. While it is another process's turn, that one
// writes what was changed.
func (l *Log) Flush(ctx context.Context) error {
	if l.sink == nil {
		return nil
	}
	turn, err := l.store.Claim(ctx, Turn)
	if errors.Is(err, store.ErrClaimed) {
		return l.write(ctx, false, true)
	}
	if err != nil {
		return err
	}
	defer turn.GiveBack()
	return l.write(store.Fenced(ctx, turn), true, true)
}

// write writes the calls that were refused and, when it is this process's turn, what was changed.
func (l *Log) write(ctx context.Context, changes, last bool) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	var err error
	if changes {
		err = l.flush(ctx)
		l.sure = err == nil
	}
	if err == nil {
		err = l.refused.write(l.now(), last, l.sink)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, store.ErrClaimLost) {
		return err // another one writes
	}
	switch {
	case err != nil && !l.failing:
		l.log.ErrorContext(ctx, "the audit cannot be written; when much of it waits, changes are refused", "error", err)
	case err == nil && l.failing:
		l.log.InfoContext(ctx, "the audit is written again")
	}
	l.failing = err != nil
	if err := l.follow(ctx, changes); err != nil {
		return err
	}
	if l.failing {
		return errNotWritten
	}
	return nil
}

// follow sees how much waits: what has just been written does not.
func (l *Log) follow(ctx context.Context, changes bool) (err error) {
	waiting := new(backlog)
	switch {
	case l.failing:
	case changes:
		l.waiting.Store(waiting)
		return nil
	case l.now().Before(l.lookAt):
		return nil
	}
	if waiting.lines, waiting.oldest, err = l.store.OutboxBacklog(ctx, maxWaiting+1); err != nil {
		return err
	}
	l.waiting.Store(waiting)
	l.lookAt = l.now().Add(followEvery)
	return nil
}

func (l *Log) flush(ctx context.Context) error {
	written, err := l.written()
	if err != nil {
		return err
	}
	for more := true; more; {
		var lines []store.OutboxLine
		var err error
		if lines, more, err = l.store.Outbox(ctx, atOnce); err != nil {
			return err
		}
		var text []byte
		for _, waiting := range lines {
			if written[waiting.ID] {
				continue
			}
			if waiting.Text == nil {
				if waiting.Text, err = Line(waiting.Time, "damaged", slog.String("id", waiting.ID)); err != nil {
					return err
				}
			}
			text = append(text, waiting.Text...)
		}
		if len(lines) == 0 {
			break
		}
		if len(text) > 0 {
			if err := l.sink.Append(text); err != nil {
				return err
			}
		}
		if err := l.store.ClearOutbox(ctx, lines); err != nil {
			return err
		}
	}
	return nil
}

// written returns the ids of the lines that the stream may have of those that wait: it was not seen whether the last write, of
// this process or of the one before, succeeded.
func (l *Log) written() (ids map[string]bool, err error) {
	if l.sure {
		return nil, nil
	}
	tail, err := l.sink.Tail()
	if err != nil {
		return nil, err
	}
	ids = make(map[string]bool)
	for text := range bytes.Lines(tail) {
		var line struct {
			ID string `json:"id"`
		}
		if json.Unmarshal(text, &line) == nil { // else it is cut, and no line
			ids[line.ID] = true
		}
	}
	return ids, nil
}
