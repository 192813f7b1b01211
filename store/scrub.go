package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// Scrubbed is what a scrub looked at.
type Scrubbed struct {
	Values  int // that were opened
	Damaged int // findings, each of which the log has told
}

const (
	// scrubEntries is what Scrub looks at in one snapshot, so that it holds none for long.
	scrubEntries = 64
	// scrubShare is the part of the time, one in so many, that Scrub works; else it waits.
	scrubShare = 10
	// scrubLines is how many findings are told one by one.
	scrubLines = 1000
)

// Scrub opens every value there is, once, and compares what belongs together: what heads say of the parts of an interaction,
// indexes and what they are of, counts. It works slowly, beside what else is done. Each finding is a line in the log, with a
// summary at the end: what is damaged comes back from a backup only. An error is the engine's or the context's.
func (s *Store) Scrub(ctx context.Context) (Scrubbed, error) {
	began := time.Now()
	run := scrub{store: s, share: scrubShare, counts: true}
	run.tell = func(key []byte, err error) {
		if run.Damaged <= scrubLines {
			s.log.ErrorContext(ctx, "found damage", "key", fmt.Sprintf("%q", key), "error", err)
		}
	}
	defer s.counter.abandon()
	if err := run.all(ctx); err != nil {
		return run.Scrubbed, err
	}
	if run.Damaged > 0 {
		s.log.ErrorContext(ctx, "the data is damaged in part; restore a backup", "findings", run.Damaged, "values", run.Values)
	} else {
		s.log.InfoContext(ctx, "looked at all data, and found it whole", "values", run.Values, "duration", time.Since(began).Round(time.Millisecond).String())
	}
	return run.Scrubbed, nil
}

// scrub is one pass over the data.
type scrub struct {
	store  *Store
	share  time.Duration // the part of the time, one in so many, that it works
	tell   func(key []byte, err error)
	counts bool // what tenants have, and stores it
	// counted is the tenant whose data it is at, and counts; empty: none.
	counted string
	Scrubbed
}

// all looks at all data.
func (c *scrub) all(ctx context.Context) error {
	for at := []byte(nil); ; {
		start := time.Now()
		next, err := c.step(ctx, at)
		if err != nil {
			return err
		}
		if at = next; at == nil {
			return c.enter(ctx, "")
		}
		if err := wait(ctx, (c.share-1)*time.Since(start)); err != nil {
			return err
		}
	}
}

// enter goes on to another tenant; empty: to none. What the one before has is known then.
func (c *scrub) enter(ctx context.Context, tenant string) error {
	if was := c.counted; was != "" && c.counts {
		if err := c.store.setUsage(ctx, was); err != nil {
			if !errors.Is(err, ErrUnavailable) {
				return err
			}
			c.store.log.WarnContext(ctx, "what a tenant has is counted, and cannot be stored", "tenant", was, "error", err)
		}
	}
	if c.counted = tenant; tenant != "" && c.counts {
		c.store.counter.begin(tenant)
	}
	return nil
}

// countEntry is what an entry that is not of an interaction adds to what its tenant has.
func countEntry(e kv.Entry, path []string) Usage {
	if path[1] == "u" {
		return Usage{}
	}
	u := Usage{StoredBytes: int64(entrySize(e))}
	if path[1] == "b" && len(path) > 3 && path[2] == "state" {
		switch path[3] {
		case strconv.Itoa(int(ActivityPending)):
			u.PendingActivities = 1
		case strconv.Itoa(int(ActivityDead)):
			u.DeadActivities = 1
		}
	}
	return u
}

// found tells a finding.
func (c *scrub) found(key []byte, err error) {
	if c.store.observer.Damaged != nil {
		c.store.observer.Damaged()
	}
	c.Damaged++
	c.tell(key, err)
}

// step looks at some entries from a key on, or at one interaction, and returns where to go on; nil: nothing is left.
func (c *scrub) step(ctx context.Context, at []byte) (next []byte, err error) {
	var tenant, hashed string
	var seen Usage
	err = c.store.engine.View(ctx, func(r kv.Reader) error {
		entries, more, err := r.Scan(kv.Range{Start: at, Limit: scrubEntries})
		if err != nil {
			return err
		}
		for _, entry := range entries {
			path, err := kv.Split(entry.Key)
			ofTenant := err == nil && len(path) > 1 && checkTenant(path[0]) == nil
			if ofTenant && path[0] != c.counted {
				tenant, next = path[0], kv.Key(path[0]) // others may come to stand before the entry
				return nil
			}
			if ofTenant && len(path) > 3 && path[1] == "h" {
				hashed, next = path[2], entry.Key
				return nil
			}
			if ofTenant {
				seen = seen.plus(countEntry(entry, path))
			}
			c.Values++
			if err := c.store.checkEntry(r, entry); errors.Is(err, ErrDamaged) && !errors.Is(err, ErrFailed) {
				c.found(entry.Key, err)
			} else if err != nil {
				return err
			}
			next = kv.After(entry.Key)
		}
		if !more {
			next = nil
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if c.counted != "" {
		cursor := next
		if cursor == nil {
			cursor = kv.PrefixEnd(kv.Key(c.counted))
		}
		c.store.counter.walked(c.counted, seen, cursor)
	}
	switch {
	case tenant != "":
		return next, c.enter(ctx, tenant)
	case hashed != "":
		return c.interaction(ctx, c.counted, hashed)
	}
	return next, nil
}

var errUnknownKey = fmt.Errorf("nothing is kept under such a key: %w", ErrDamaged)

// checkEntry holds an entry that is not of an interaction to what stands elsewhere in the same snapshot.
func (s *Store) checkEntry(r kv.Reader, e kv.Entry) error {
	path, err := kv.Split(e.Key)
	if err != nil || len(path) < 2 {
		return errUnknownKey
	}
	if path[0] == "!" {
		return s.checkReserved(r, e, path)
	}
	if checkTenant(path[0]) != nil {
		return errUnknownKey
	}
	in := &reading{vault: s.vault, tenant: path[0], kv: r}
	switch {
	case path[1] == "a":
		return in.checkAccountEntry(r, e, path)
	case path[1] == "b" && len(path) > 4:
		return in.checkRow(e, path[len(path)-2])
	case path[1] == "c" && len(path) == 3:
		return in.checkActivity(e, path[2])
	case path[1] == "d" && (len(path) == 3 || len(path) == 4 && path[3] == "older"):
		return in.decodes(e, new([]Delivered))
	case path[1] == "p" && len(path) == 3:
		return in.decodes(e, new(NotedPerson))
	case path[1] == "t" && len(path) == 3:
		return in.decodes(e, new(lastPlace))
	case bytes.Equal(e.Key, usageKey(in.tenant)):
		return in.decodes(e, new(storedUsage))
	}
	return errUnknownKey
}

// checkReserved checks what belongs to no tenant.
func (s *Store) checkReserved(r kv.Reader, e kv.Entry, path []string) error {
	switch {
	case plain(e) && len(e.Value) > 0:
		return nil // read at the start
	case bytes.Equal(e.Key, indexKey), bytes.Equal(e.Key, instanceKey), bytes.Equal(e.Key, probeKey), bytes.Equal(e.Key, sweptKey), path[1] == "note" && len(path) == 4:
		_, err := s.vault.open(e.Key, e.Value)
		return err
	case path[1] == "notice" && len(path) == 3:
		return (&reading{vault: s.vault, kv: r}).decodes(e, new(storedNotices))
	case path[1] == "hold":
		if _, _, err := parseHold(e.Key); err != nil {
			return err
		}
		_, err := s.vault.openHold(e)
		return err
	case path[1] == "due":
		due, err := parseDue(e.Key)
		if err != nil {
			return err
		}
		key := map[dueKind][]byte{
			dueInteraction: headKey(due.tenant, due.hashed), dueAgent: latestKey(due.tenant, due.hashed), dueTicket: kv.Key(due.tenant, "t", due.hashed),
			duePerson: personKey(due.tenant, due.hashed),
		}[due.kind]
		values, err := r.Get(key)
		if err == nil && values[0] == nil {
			err = missingPart("what is due to be looked at")
		}
		return err
	case path[1] == "pending":
		p, err := parsePending(e.Key)
		if err != nil {
			return err
		}
		in := &reading{vault: s.vault, tenant: p.Tenant, kv: r}
		return in.checkRow(e, p.ID)
	}
	return errUnknownKey
}

// decodes opens a value of JSON.
func (r *reading) decodes(e kv.Entry, into any) error {
	value, err := r.vault.open(e.Key, e.Value)
	if err != nil {
		return err
	}
	return decode(value, into)
}

// checkRow finds the activity that an index has a row of.
func (r *reading) checkRow(e kv.Entry, id string) error {
	a, err := r.activity(id)
	switch {
	case errors.Is(err, ErrNotFound):
		return missingPart(fmt.Sprintf("activity %q, which is indexed,", id))
	case err != nil:
		return nil // it is found where it stands
	case !containsKey(a.rows(r.tenant), e.Key) || len(e.Value) > 0:
		return fmt.Errorf("activity %q is not what the index says: %w", id, ErrDamaged)
	}
	return nil
}

// checkActivity finds the rows of an activity, and its interaction.
func (r *reading) checkActivity(e kv.Entry, id string) error {
	a, err := r.vault.openActivity(e.Key, e.Value)
	if err != nil {
		return err
	}
	rows := a.rows(r.tenant)
	values, err := r.kv.Get(rows...)
	if err != nil {
		return err
	}
	if i := slices.IndexFunc(values, func(value []byte) bool { return value == nil }); i >= 0 {
		return missingPart(fmt.Sprintf("row %q of the activity", rows[i]))
	}
	t := InteractionTxn{reading: *r, hashed: r.vault.hashInteraction(r.tenant, a.InteractionID)}
	if err := t.loadHead(); err != nil {
		return nil //nolint:nilerr // it is found where it stands
	}
	if !t.exists || t.head.ActivityID != id || t.head.ActivityGone || a.ID != id {
		return missingPart("the interaction of the activity")
	}
	return nil
}

// checkAccountEntry checks what is kept of accounts.
func (r *reading) checkAccountEntry(scanner kv.Reader, e kv.Entry, path []string) error {
	value, err := r.vault.open(e.Key, e.Value)
	if err != nil {
		return err
	}
	switch {
	case bytes.Equal(e.Key, accountCountKey(r.tenant)):
		return r.checkAccountCount(scanner, value)
	case bytes.Equal(e.Key, defaultKey(r.tenant)):
		return r.checkAccountThere(string(value), nil)
	case path[2] == "name" && len(path) == 4:
		return r.checkAccountThere(string(value), e.Key)
	case path[2] != "record" || len(path) != 4:
		return errUnknownKey
	}
	record, err := readAccount(value, false)
	if err != nil {
		return err
	}
	if record.Account.ID != path[3] {
		return fmt.Errorf("account %q stands where %q should: %w", record.Account.ID, path[3], ErrDamaged)
	}
	values, err := r.kv.Get(accountCountKey(r.tenant), defaultKey(r.tenant), r.vault.accountNameKey(r.tenant, record.Account.Name))
	if err != nil {
		return err
	}
	for i, what := range []string{"the count of accounts", "the default mark", "the name of the account in the index"} {
		if values[i] == nil {
			return missingPart(what)
		}
	}
	return nil
}

// checkAccountThere finds the account that something refers to, by its name if nameKey is given.
func (r *reading) checkAccountThere(id string, nameKey []byte) error {
	key := accountKey(r.tenant, id)
	values, err := r.kv.Get(key)
	if err != nil {
		return err
	}
	if values[0] == nil {
		return missingPart(fmt.Sprintf("account %q", id))
	}
	var record accountRecord
	if r.decodes(kv.Entry{Key: key, Value: values[0]}, &record) != nil {
		return nil // it is found where it stands
	}
	if nameKey != nil && !bytes.Equal(nameKey, r.vault.accountNameKey(r.tenant, record.Account.Name)) {
		return fmt.Errorf("account %q has another name than the index says: %w", id, ErrDamaged)
	}
	return nil
}

func (r *reading) checkAccountCount(scanner kv.Reader, value []byte) error {
	want, err := strconv.Atoi(string(value))
	if err != nil {
		return fmt.Errorf("the count of accounts: %w: %w", err, ErrDamaged)
	}
	n := 0
	accounts := kv.Prefix(accountsKey(r.tenant))
	accounts.KeysOnly = true
	for more := true; more; {
		var entries []kv.Entry
		if entries, more, err = scanner.Scan(accounts); err != nil {
			return err
		}
		if n += len(entries); len(entries) > 0 {
			accounts.Start = kv.After(entries[len(entries)-1].Key)
		}
	}
	if n != want {
		return fmt.Errorf("there are %d accounts, not the %d that are counted: %w", n, want, ErrDamaged)
	}
	return nil
}

// scrubTries is how often an interaction is looked at that changes meanwhile.
const scrubTries = 3

// interaction looks at all of an interaction, and returns where to go on behind it. What it is counts only if it did not
// change meanwhile, which its head tells: each change writes it.
func (c *scrub) interaction(ctx context.Context, tenant, hashed string) (next []byte, err error) {
	all := interactionKey(tenant, hashed)
	end := kv.PrefixEnd(all)
	for try := range scrubTries {
		seen := seenParts{vault: c.store.vault, tenant: tenant, hashed: hashed}
		before, err := c.headOf(ctx, tenant, hashed)
		if err != nil {
			return nil, err
		}
		for at, more := all, true; more; {
			start := time.Now()
			var entries []kv.Entry
			if entries, more, err = c.store.scan(ctx, kv.Range{Start: at, End: end, Limit: scrubEntries}); err != nil {
				return nil, err
			}
			for _, entry := range entries {
				seen.add(entry)
				at = kv.After(entry.Key)
			}
			if more {
				if err := wait(ctx, (c.share-1)*time.Since(start)); err != nil {
					return nil, err
				}
			}
		}
		after, err := c.headOf(ctx, tenant, hashed)
		if err != nil {
			return nil, err
		}
		if same := bytes.Equal(before, after); same || try == scrubTries-1 {
			c.Values += seen.values
			c.store.counter.walked(tenant, seen.usage(), end)
			if same {
				err := seen.compare(func(id string) error { return c.activityThere(ctx, tenant, id) })
				if errors.Is(err, ErrFailed) || ctx.Err() != nil {
					return nil, err
				}
				if err != nil {
					seen.damage(headKey(tenant, hashed), err)
				}
			}
			for _, found := range seen.found {
				c.found(found.key, found.err)
			}
			break
		}
	}
	return end, nil
}

func wait(ctx context.Context, pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// headOf returns a head as it is sealed.
func (c *scrub) headOf(ctx context.Context, tenant, hashed string) (sealed []byte, err error) {
	err = c.store.engine.View(ctx, func(r kv.Reader) error {
		values, err := r.Get(headKey(tenant, hashed))
		if err == nil {
			sealed = values[0]
		}
		return err
	})
	return sealed, err
}

func (c *scrub) activityThere(ctx context.Context, tenant, id string) error {
	_, err := c.store.Activity(ctx, tenant, id)
	if errors.Is(err, ErrNotFound) {
		return missingPart(fmt.Sprintf("activity %q of the interaction", id))
	}
	if errors.Is(err, ErrDamaged) && !errors.Is(err, ErrFailed) {
		return nil // it is found where it stands
	}
	return err
}

// seenParts is what was seen of an interaction.
type seenParts struct {
	vault          *vault
	tenant, hashed string
	values         int
	bytes          int64
	found          []finding

	head    *interactionHead
	others  bool // there are parts, and not only records, which may stand there before the head does
	parts   parts
	sets    map[string]storedRecordset // by the hash of the name
	blocks  map[string][]int           // how many records each has, by generation
	last    map[string]string          // number of the last one, as it stands in its key
	answers map[int64]bool
	replies []storedReply
}

type finding struct {
	key []byte
	err error
}

func (p *seenParts) damage(key []byte, err error) { p.found = append(p.found, finding{key, err}) }

// usage is what the interaction adds to what its tenant has.
func (p *seenParts) usage() Usage {
	u := Usage{StoredBytes: p.bytes}
	if p.head != nil && p.head.State == InteractionActive {
		u.LiveInteractions = 1
	}
	return u
}

// add looks at one entry.
func (p *seenParts) add(e kv.Entry) {
	p.values++
	p.bytes += int64(entrySize(e))
	if err := p.look(e); err != nil {
		p.damage(e.Key, err)
	}
}

func (p *seenParts) look(e kv.Entry) error {
	path, err := kv.Split(e.Key)
	if err != nil || len(path) < 4 {
		return errUnknownKey
	}
	value, err := p.vault.open(e.Key, e.Value)
	if err != nil {
		return err
	}
	part, rest := path[3], path[4:]
	p.others = p.others || part != "record"
	switch {
	case part == "head" && len(rest) == 0:
		head := new(interactionHead)
		if err = decode(value, head); err == nil {
			p.head = head
		}
	case part == "data" && len(rest) == 0:
		var data attachedData
		err = decode(value, &data)
		p.parts.Data = present(len(data))
	case part == "past" && len(rest) == 0:
		var past pastData
		err = decode(value, &past)
		p.parts.Past = present(len(past.Changes))
	case part == "pops" && len(rest) == 0:
		var pops []ScreenPop
		err = decode(value, &pops)
		p.parts.Pops = present(len(pops))
	case part == "deliveries" && len(rest) == 0:
		var d Deliveries
		err = decode(value, &d)
		p.parts.Deliveries = present(len(d.Items))
	case part == "recordset" && len(rest) == 1:
		var set storedRecordset
		err = decode(value, &set)
		if p.sets == nil {
			p.sets = make(map[string]storedRecordset)
		}
		p.sets[rest[0]] = set
	case part == "record" && len(rest) == 2:
		if p.blocks == nil {
			p.blocks, p.last = make(map[string][]int), make(map[string]string)
		}
		var block []json.RawMessage
		block, err = unpackRecords(value)
		p.blocks[rest[0]] = append(p.blocks[rest[0]], len(block))
		p.last[rest[0]] = rest[1]
	case part == "reply" && len(rest) == 2:
		var reply storedReply
		err = decode(value, &reply)
		p.replies = append(p.replies, reply)
		p.parts.Replies++
	case part == "answer" && len(rest) == 1:
		var offset uint64
		if offset, err = strconv.ParseUint(rest[0], 16, 63); err != nil {
			return errUnknownKey
		}
		if p.answers == nil {
			p.answers = make(map[int64]bool)
		}
		p.answers[int64(offset)] = true
		_, err = unpack(value)
	default:
		return errUnknownKey
	}
	return err
}

// compare holds what was seen to what the head says.
func (p *seenParts) compare(activityThere func(id string) error) error {
	if p.head == nil {
		if p.others && !slices.ContainsFunc(p.found, func(f finding) bool { return bytes.Equal(f.key, headKey(p.tenant, p.hashed)) }) {
			return missingPart("the head of the interaction")
		}
		return nil
	}
	if p.head.ID != "" && p.vault.hashInteraction(p.tenant, p.head.ID) != p.hashed {
		return fmt.Errorf("the head is of another interaction: %w", ErrDamaged)
	}
	if want := p.head.Parts; want != nil {
		got := p.parts
		if want.Replies == uncounted {
			got.Replies = uncounted
		}
		if got != *want {
			return fmt.Errorf("of the interaction there is %+v, not %+v: %w", got, *want, ErrDamaged)
		}
	}
	if err := p.compareRecordsets(); err != nil {
		return err
	}
	for _, reply := range p.replies {
		if reply.Offset > max(0, p.head.Answers-KeptAnswers) && !p.answers[reply.Offset] {
			return missingPart("the answer to a request")
		}
	}
	if p.head.ActivityID != "" && !p.head.ActivityGone {
		return activityThere(p.head.ActivityID)
	}
	return nil
}

func (p *seenParts) compareRecordsets() error {
	for _, name := range p.head.Recordsets {
		key := p.vault.recordsetName(p.tenant, p.head.ID, name)
		set, found := p.sets[key]
		if !found {
			return missingPart(fmt.Sprintf("recordset %q", name))
		}
		if set.Recordset.Name != name {
			return fmt.Errorf("recordset %q stands where %q should: %w", set.Recordset.Name, name, ErrDamaged)
		}
		delete(p.sets, key)
		left := set.Recordset.Count
		blocks, last := p.blocks[set.Generation], p.last[set.Generation]
		for _, n := range blocks {
			if n != min(set.perBlock(), left) {
				return fmt.Errorf("the blocks of recordset %q have %d records, not %d each: %w", name, blocks, set.perBlock(), ErrDamaged)
			}
			left -= n
		}
		if left != 0 || len(blocks) > 0 && last != kv.Number(uint64(len(blocks))) {
			return fmt.Errorf("of recordset %q there are %d blocks, up to %q, for %d records: %w", name, len(blocks), last, set.Recordset.Count, ErrDamaged)
		}
	}
	for _, set := range p.sets {
		return fmt.Errorf("recordset %q is not listed: %w", set.Recordset.Name, ErrDamaged)
	}
	return nil
}
