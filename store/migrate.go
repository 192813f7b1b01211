package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// format is the version of the layout in key.go and of the stored forms, which the data tells of itself. There is no other
// version number: who changes what is stored adds one to it, and a step to the table. Data may say, as in 5/4, which format the
// oldest programs are of that can go on with it beside newer ones: so replicas are upgraded one after the other.
const format = 4

// firstFormat is the oldest that there is.
const firstFormat = 1

// steps takes data from each older format to the next one, in this order.
var steps = []step{
	{from: 1, to: 2, name: "ids of interactions and requests are hashed in keys; activities and deliveries are typed and indexed", convert: (*vault).convertFormat1},
	{from: 2, to: 3, name: "records and answers are packed, records in blocks", convert: (*vault).convertFormat2},
	{from: 3, to: 4, name: "activities to be written are indexed in shards", convert: (*vault).convertFormat3},
}

// step goes over all entries once, in order of their keys.
type step struct {
	from, to int
	name     string
	// convert says what is to become of an entry. It decides by the entry alone, so that the work can stop and go on
	// between any two, and an entry that it has written is left as it is. A value that cannot be read is kept as it is
	// where it belongs, damage that it is; of one that can in part, that part. New keys sort before the one that they are
	// made of: the step does not come to them again.
	convert func(*vault, kv.Entry) (conversion, error)
}

// conversion is what becomes of an entry. The zero value leaves it as it is.
type conversion struct {
	puts       []kv.Entry
	delete     bool // the entry
	unreadable bool // it, or a part of it
}

// progress is how far the data has come.
type progress struct {
	format  int
	stored  []byte // value of the migration key; nil: no step has begun that is not done
	running migration
}

// migration is the stored form of a step that has begun. The format is the step's new one from the moment it begins: no
// older program opens what it has begun to change.
type migration struct {
	From   int    `json:"from"`
	Cursor []byte `json:"cursor,omitempty"` // entries before it are done
}

// readProgress returns how far the data has come, or why this program cannot read it.
func readProgress(r kv.Getter) (progress, error) {
	values, err := r.Get(formatKey, migrationKey)
	if err != nil {
		return progress{}, err
	}
	if bytes.Equal(values[0], formatOfCopy) {
		return progress{}, errCopying
	}
	p := progress{stored: values[1]}
	text, reader, _ := strings.Cut(string(values[0]), "/")
	if p.format, err = strconv.Atoi(text); err != nil || p.format < firstFormat {
		return progress{}, fmt.Errorf("format %.20q: %w", values[0], errNoFormat)
	}
	if least, err := strconv.Atoi(reader); err == nil && p.format > format && least <= format {
		return progress{format: format}, nil // what is new in it may be left out of account until the next release
	}
	if p.format > format {
		return progress{}, fmt.Errorf("format %d, this program knows %d: %w", p.format, format, errNewer)
	}
	if p.stored == nil {
		return p, nil
	}
	if err := decode(p.stored, &p.running); err != nil || p.running.From != p.format-1 || p.running.From < firstFormat {
		return progress{}, fmt.Errorf("the migration to format %d: %w", p.format, errNoFormat)
	}
	return p, nil
}

// errOvertaken says that another process has taken the migration on.
var errOvertaken = errors.New("another process is migrating")

var errMigrate = errors.New("data that replicas share is migrated by a command of its own, while they serve (run migrate)")

// migrate takes the data to this program's format; unless it may, that is refused of data that others may be serving.
func (s *Store) migrate(ctx context.Context, may bool) error {
	for {
		var p progress
		err := s.engine.View(ctx, func(r kv.Reader) (err error) {
			p, err = readProgress(r)
			return err
		})
		if err != nil || p.format == format && p.stored == nil {
			return err
		}
		if !may {
			return fmt.Errorf("format %d, this program has %d: %w", p.format, format, errMigrate)
		}
		if p.stored == nil {
			err = s.beginStep(ctx, p.format)
		} else {
			err = s.runStep(ctx, steps[p.running.From-firstFormat], p)
		}
		if err != nil && !errors.Is(err, errOvertaken) {
			return fmt.Errorf("migrating the data, which the next start goes on with: %w", err)
		}
	}
}

// beginStep makes the data one of the next format, which a step is at work on.
func (s *Store) beginStep(ctx context.Context, from int) error {
	value, err := encode(migration{From: from})
	if err != nil {
		return err
	}
	return s.commit(ctx, func(tx kv.Txn) error {
		p, err := readProgress(tx)
		if err != nil || p.format != from {
			return err
		}
		tx.Put(formatKey, []byte(strconv.Itoa(from+1)))
		tx.Put(migrationKey, value)
		return nil
	})
}

const (
	// What one transaction of a step has room for, beside how far it has come, which is read and written.
	stepKeys  = kv.MaxTxnKeys - 2
	stepBytes = kv.MaxTxnBytes - 8<<10
	// stepEntries is how many entries are read at a time, each of which may be large.
	stepEntries = stepKeys
	// stepReport is how many entries lie between two reports of progress.
	stepReport = 100_000
)

// part is what one transaction of a step changes.
type part struct {
	puts       []kv.Entry
	deletes    []kv.Range // entries that follow each other go together
	bytes      int        // in both
	looked     int        // at entries
	unreadable int        // of these, to any extent
	next       []byte     // first key behind the part; nil: nothing is
}

// add takes a conversion in, unless there is no room for it. There always is for the first one.
func (p *part) add(e kv.Entry, c conversion) bool {
	size := 0
	for _, put := range c.puts {
		size += entrySize(put)
	}
	if c.delete {
		size += len(e.Key)
	}
	// One key more, for what is deleted, if it does not follow what is already.
	if size > 0 && p.bytes > 0 && (p.bytes+size > stepBytes || len(p.puts)+len(p.deletes)+len(c.puts)+1 > stepKeys) {
		return false
	}
	p.puts, p.bytes = append(p.puts, c.puts...), p.bytes+size
	if last := len(p.deletes) - 1; c.delete && last >= 0 && bytes.Equal(p.deletes[last].End, p.next) {
		p.deletes[last].End = kv.After(e.Key)
	} else if c.delete {
		p.deletes = append(p.deletes, kv.Range{Start: e.Key, End: kv.After(e.Key)})
	}
	if p.looked++; c.unreadable {
		p.unreadable++
	}
	p.next = kv.After(e.Key)
	return true
}

// runStep goes on with a step from where it is.
func (s *Store) runStep(ctx context.Context, step step, p progress) error {
	s.log.Info("migrating the data", "from", step.from, "to", step.to, "change", step.name, "resumed", len(p.running.Cursor) > 0)
	looked, unreadable := 0, 0
	for at := p.running.Cursor; ; {
		part, err := s.convertPart(ctx, step, at)
		if err != nil {
			return err
		}
		if part.bytes > 0 || part.next == nil {
			if p.stored, err = s.commitPart(ctx, step, p.stored, part); err != nil {
				return err
			}
		}
		if (looked+part.looked)/stepReport > looked/stepReport {
			s.log.Info("still migrating the data", "looked_at", looked+part.looked)
		}
		looked, unreadable = looked+part.looked, unreadable+part.unreadable
		if at = part.next; at == nil {
			break
		}
	}
	if unreadable > 0 {
		s.log.Warn("the data holds values that are damaged in part or in whole", "values", unreadable)
	}
	s.log.Info("migrated the data", "from", step.from, "to", step.to, "looked_at", looked)
	return nil
}

// convertPart converts entries from a key on, as many as one transaction has room for.
func (s *Store) convertPart(ctx context.Context, step step, at []byte) (part part, err error) {
	entries, more, err := s.scan(ctx, kv.Range{Start: at, Limit: stepEntries})
	if err != nil {
		return part, err
	}
	for _, entry := range entries {
		c, err := step.convert(s.vault, entry)
		if err != nil {
			return part, err
		}
		if !part.add(entry, c) {
			return part, nil
		}
	}
	if !more {
		part.next = nil
	}
	return part, nil
}

// commitPart writes a part, and how far the step has come with it, which it returns. What was stored of that before must
// still be.
func (s *Store) commitPart(ctx context.Context, step step, stored []byte, part part) (next []byte, err error) {
	if part.next != nil {
		if next, err = encode(migration{From: step.from, Cursor: part.next}); err != nil {
			return nil, err
		}
	}
	if part.bytes > stepBytes {
		// A single entry, so large that nothing fits beside it: its keys go when what stands in their place is there.
		if err := s.writePart(ctx, stored, stored, part.puts, nil); err != nil {
			return nil, err
		}
		part.puts = nil
	}
	return next, s.writePart(ctx, stored, next, part.puts, part.deletes)
}

func (s *Store) writePart(ctx context.Context, stored, next []byte, puts []kv.Entry, deletes []kv.Range) error {
	return s.commit(ctx, func(tx kv.Txn) error {
		values, err := tx.Get(migrationKey)
		if err != nil {
			return err
		}
		switch same := bytes.Equal(stored, next); {
		case !bytes.Equal(values[0], stored):
			return errOvertaken
		case same:
		case next == nil:
			tx.Delete(migrationKey)
		default:
			tx.Put(migrationKey, next)
		}
		for _, put := range puts {
			tx.Put(put.Key, put.Value)
		}
		for _, keys := range deletes {
			tx.DeleteRange(keys.Start, keys.End)
		}
		return nil
	})
}
