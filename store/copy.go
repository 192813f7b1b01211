package store

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/boltkv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/pgkv"
)

// Copied is what a copy has.
type Copied struct {
	Entries int
	Bytes   int64 // of keys and values
}

// Why data are not copied.
var (
	errInUse     = errors.New("there are data in it already: a copy goes to an empty one")
	errOld       = errors.New("the data are not of this program's format yet (start it once with the data file, and stop it)")
	errUnlike    = errors.New("the copy is not like the data file")
	errCopying   = errors.New("it is a copy that is not finished (repeat copy)")
	formatOfCopy = []byte("copying") // until all is there
)

// Copy copies a data file, from.Path, which no process has open, to an empty database whose schema [Migrate] has made: to.URL,
// with to.PasswordFile. Values stay sealed as they are: no key is needed, and the database is opened with the key file of the data
// file. Then it compares the two. Until it is done [Open] refuses the database; one that was interrupted is repeated, and goes on
// with what is there. The data file is not changed: let nothing write to it from then on. Progress goes to to.Log.
func Copy(ctx context.Context, from, to Config) (copied Copied, err error) {
	if err := refuseBackup(from.Path); err != nil {
		return Copied{}, err
	}
	source, err := boltkv.OpenReadOnly(from.Path)
	if err != nil {
		return Copied{}, err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	target, err := pgkv.Open(ctx, pgkv.Config{URL: to.URL, PasswordFile: to.PasswordFile})
	if err != nil {
		return Copied{}, err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	return copyAll(ctx, source, target, cmp.Or(to.Log, slog.New(slog.DiscardHandler)))
}

func copyAll(ctx context.Context, from, to kv.Engine, log *slog.Logger) (Copied, error) {
	stored, err := formatToCopy(ctx, from)
	if err != nil {
		return Copied{}, fmt.Errorf("data file: %w", err)
	}
	if err := beginCopy(ctx, to); err != nil {
		return Copied{}, fmt.Errorf("database: %w", err)
	}
	c := copier{to: to, log: log}
	if err := c.compare(ctx, from, c.add); err != nil {
		return Copied{}, err
	}
	if err := c.flush(ctx); err != nil {
		return Copied{}, err
	}
	log.Info("comparing the copy with the data file", "entries", c.Entries)
	if err := c.compare(ctx, from, func(context.Context, kv.Op) error { return errUnlike }); err != nil {
		return Copied{}, err
	}
	return c.Copied, c.update(ctx, []kv.Op{{Key: formatKey, Value: stored}})
}

// formatToCopy returns how the data say their format.
func formatToCopy(ctx context.Context, from kv.Engine) (stored []byte, err error) {
	err = from.View(ctx, func(r kv.Reader) error {
		values, err := r.Get(formatKey)
		if err != nil {
			return err
		}
		p, err := readProgress(r)
		if err == nil && (p.format != format || p.stored != nil) {
			err = errOld
		}
		stored = values[0]
		return err
	})
	return stored, err
}

// beginCopy marks an empty database as one that is being copied to, so that nothing else is begun with it.
func beginCopy(ctx context.Context, to kv.Engine) error {
	var empty bool
	err := to.View(ctx, func(r kv.Reader) error {
		entries, _, err := r.Scan(kv.Range{Limit: 1, KeysOnly: true})
		empty = len(entries) == 0
		return err
	})
	if err != nil {
		return err
	}
	return to.Update(ctx, func(tx kv.Txn) error {
		values, err := tx.Get(formatKey)
		switch {
		case err != nil:
			return err
		case bytes.Equal(values[0], formatOfCopy):
			return nil
		case values[0] != nil || !empty:
			return errInUse
		}
		tx.Put(formatKey, formatOfCopy)
		return nil
	})
}

// copier makes a database like a data file.
type copier struct {
	Copied
	to  kv.Engine
	log *slog.Logger

	waiting []kv.Op // changes that go together
	bytes   int     // in them
}

// compare walks over both in order of their keys, and hands each difference to change: the value that a key of the copy is to
// have, nil if it is to go.
func (c *copier) compare(ctx context.Context, from kv.Engine, change func(context.Context, kv.Op) error) error {
	c.Copied = Copied{}
	there, here := walk{engine: from}, walk{engine: c.to}
	for {
		a, err := there.peek(ctx)
		if err != nil {
			return fmt.Errorf("data file: %w", err)
		}
		b, err := here.peek(ctx)
		switch {
		case err != nil:
			return fmt.Errorf("database: %w", err)
		case a == nil && b == nil:
			return nil
		case a == nil || b != nil && bytes.Compare(b.Key, a.Key) < 0:
			err = change(ctx, kv.Op{Key: b.Key})
			here.take()
		default:
			if same := b != nil && bytes.Equal(a.Key, b.Key); !same || !bytes.Equal(a.Value, b.Value) {
				err = change(ctx, kv.Op{Key: a.Key, Value: append([]byte{}, a.Value...)}) // never nil, even where it is empty
				if same {
					here.take()
				}
			} else {
				here.take()
			}
			there.take()
			c.Entries, c.Bytes = c.Entries+1, c.Bytes+int64(entrySize(*a))
			if c.Entries%stepReport == 0 {
				c.log.Info("still copying or comparing", "entries", c.Entries)
			}
		}
		if err != nil {
			return err
		}
	}
}

// add has a change made, with others.
func (c *copier) add(ctx context.Context, op kv.Op) error {
	size := len(op.Key) + len(op.Value)
	if len(c.waiting) == stepKeys || len(c.waiting) > 0 && c.bytes+size > stepBytes {
		if err := c.flush(ctx); err != nil {
			return err
		}
	}
	c.waiting, c.bytes = append(c.waiting, op), c.bytes+size
	return nil
}

func (c *copier) flush(ctx context.Context) error {
	err := c.update(ctx, c.waiting)
	c.waiting, c.bytes = nil, 0
	return err
}

// update makes changes of the copy, as long as it is one.
func (c *copier) update(ctx context.Context, ops []kv.Op) error {
	err := c.to.Update(ctx, func(tx kv.Txn) error {
		values, err := tx.Get(formatKey)
		if err != nil {
			return err
		}
		if !bytes.Equal(values[0], formatOfCopy) {
			return errInUse
		}
		for _, op := range ops {
			if op.Value == nil {
				tx.Delete(op.Key)
			} else {
				tx.Put(op.Key, op.Value)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("database: %w", err)
	}
	return nil
}

// walk goes over the entries of an engine that are copied, in order of their keys.
type walk struct {
	engine  kv.Engine
	entries []kv.Entry // read, and not taken yet
	next    []byte     // where to read on
	done    bool
}

// peek returns the next entry; nil: there is none.
func (w *walk) peek(ctx context.Context) (*kv.Entry, error) {
	for len(w.entries) == 0 && !w.done {
		err := w.engine.View(ctx, func(r kv.Reader) error {
			entries, more, err := r.Scan(kv.Range{Start: w.next})
			w.entries, w.done = entries, !more
			return err
		})
		if err != nil {
			return nil, err
		}
		if len(w.entries) > 0 {
			w.next = kv.After(w.entries[len(w.entries)-1].Key)
		}
		w.entries = slices.DeleteFunc(w.entries, func(e kv.Entry) bool { return !copies(e.Key) })
	}
	if len(w.entries) == 0 {
		return nil, nil
	}
	return &w.entries[0], nil
}

func (w *walk) take() { w.entries = w.entries[1:] }

// copies says whether a key is copied by itself: the format comes last, and which processes work on the data does not.
func copies(key []byte) bool {
	return !bytes.Equal(key, formatKey) && !bytes.Equal(key, replicasKey) && !bytes.HasPrefix(key, claimKey())
}
