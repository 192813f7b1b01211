package store

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/boltkv"
)

// openFormat2 opens a copy of the data of format 2, after some of it was changed.
func openFormat2(t testing.TB, change func(engine *boltkv.DB, v *vault)) *Store {
	t.Helper()
	engine, c := openTestdata(t, format2.name)
	c.Now = func() time.Time { return format2.time }
	if change != nil {
		change(engine, vaultOf(t, engine, c))
	}
	s, err := New(t.Context(), engine, c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestReplyOfFormat2(t *testing.T) {
	bodies := [][]byte{nil, []byte("x"), bytes.Repeat([]byte("x"), shortAnswer), bytes.Repeat([]byte("x"), shortAnswer+1), make([]byte, 100_000), noise(1, shortAnswer+1), noise(1, 200_000)}
	for size := 300; size < shortAnswer; size++ {
		bodies = append(bodies, fmt.Appendf(nil, "%x", noise(uint64(size), size)), fmt.Appendf(nil, "%d", noise(uint64(size), size/2)))
	}
	worse := 0
	for _, body := range bodies {
		deflated, err := deflate(body)
		if err != nil {
			t.Fatal(err)
		}
		if len(deflated) <= shortAnswer && len(pack(body)) > shortAnswer {
			worse++
		}
		old, err := encode(replyOfFormat2{storedReply{RequestID: "1", Fingerprint: []byte("sum"), DataVersion: new(uint64(3))}, deflated})
		if err != nil {
			t.Fatal(err)
		}
		value, err := convertReplyOfFormat2(old)
		var got storedReply
		if err == nil {
			err = decode(value, &got)
		}
		if err != nil {
			t.Fatal(err)
		}
		was := got.Body
		if len(got.Packed) > 0 {
			if was, err = unpack(got.Packed); err != nil {
				t.Error(err)
			}
		}
		if !bytes.Equal(was, body) || len(got.Body)+len(got.Packed) == 0 || got.RequestID != "1" || string(got.Fingerprint) != "sum" || *got.DataVersion != 3 || got.Offset != 0 {
			t.Errorf("of %d bytes: %d are left, %+v", len(body), len(was), got)
		}
		if again, err := convertReplyOfFormat2(value); again != nil || err != nil {
			t.Errorf("of %d bytes: converted again, %v", len(body), err)
		}

		answer, err := answerOfFormat2(deflated)
		if err != nil {
			t.Fatal(err)
		}
		if was, err := unpack(answer); err != nil || !bytes.Equal(was, body) {
			t.Errorf("an answer of %d bytes: %d are left, %v", len(body), len(was), err)
		}
		if again, err := answerOfFormat2(answer); again != nil || err != nil {
			t.Errorf("an answer of %d bytes: converted again, %v", len(body), err)
		}
	}
	if worse == 0 {
		t.Error("none is packed to more than it was: this test looks at too few")
	}
}

// TestFormat2Largest takes on what was as large as can be, and what can be no larger.
func TestFormat2Largest(t *testing.T) {
	const call = "+15135557611"
	record := noise(5, kv.MaxTxnBytes)
	var large storedRecordset
	s := openFormat2(t, func(engine *boltkv.DB, v *vault) {
		hashed := v.hashInteraction("acme", call)
		setKey, reply := v.recordsetKey("acme", call, "tickets"), v.replyKey("acme", call, "Search", call+" short")
		var values [][]byte
		err := engine.View(t.Context(), func(r kv.Reader) (err error) { values, err = r.Get(setKey); return err })
		if err == nil {
			values[0], err = v.open(setKey, values[0])
		}
		if err == nil {
			err = decode(values[0], &large)
		}
		if err != nil {
			t.Fatal(err)
		}
		key := recordKey("acme", hashed, large.Generation, 2)
		record = record[:kv.MaxTxnBytes-len(key)-5-24-16] // prefix, nonce and tag
		body := noise(1, (kv.MaxTxnBytes-len(reply)-5-24-16)*3/4-150)
		deflated, err := deflate(body)
		if err != nil {
			t.Fatal(err)
		}
		old := replyOfFormat2{storedReply{RequestID: call + " short", Fingerprint: []byte("sum of short")}, deflated}
		for {
			value, err := encode(old)
			if err != nil {
				t.Fatal(err)
			}
			if left := kv.MaxTxnBytes - len(reply) - 5 - 24 - 16 - len(value); left > 0 {
				old.RequestID += string(bytes.Repeat([]byte("x"), left)) // until nothing fits
				continue
			}
			putSealedValue(t, engine, v, reply, value)
			break
		}
		putSealedValue(t, engine, v, key, record)
	})
	err := s.ViewInteraction(t.Context(), "acme", call, func(tx *InteractionTxn) error {
		got, err := tx.Record("tickets", 2)
		if err != nil || !bytes.Equal(got, record) {
			t.Errorf("record: %d bytes, %v", len(got), err)
		}
		reply, found, err := tx.Reply("Search", call+" short")
		if err != nil || !found || string(reply.Fingerprint) != "sum of short" {
			t.Errorf("reply: %v, %v", found, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func putSealedValue(t testing.TB, engine kv.Engine, v *vault, key, value []byte) {
	t.Helper()
	sealed, err := v.seal(key, value)
	if err == nil {
		err = engine.Update(t.Context(), func(tx kv.Txn) error { tx.Put(key, sealed); return nil })
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestFormat2Damage keeps damage what it is, and all around it.
func TestFormat2Damage(t *testing.T) {
	const call = "+15135557611"
	var record []byte
	s := openFormat2(t, func(engine *boltkv.DB, v *vault) {
		hashed := v.hashInteraction("acme", call)
		set := new(storedRecordset)
		key := v.recordsetKey("acme", call, "tickets")
		err := engine.View(t.Context(), func(r kv.Reader) error {
			values, err := r.Get(key)
			if err == nil {
				values[0], err = v.open(key, values[0])
			}
			if err == nil {
				err = decode(values[0], set)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		record = recordKey("acme", hashed, set.Generation, 2)
		for _, key := range [][]byte{record, v.replyKey("acme", call, "Search", call+" short"), v.recordsetKey("acme", call, "many"), headKey("acme", v.hashInteraction("acme", "written"))} {
			if err := engine.Update(t.Context(), func(tx kv.Txn) error { tx.Put(key, []byte("spoilt")); return nil }); err != nil {
				t.Fatal(err)
			}
		}
		putSealedValue(t, engine, v, v.replyKey("acme", call, "Search", call+" empty"), []byte("no JSON"))
		putSealedValue(t, engine, v, answerKey("acme", hashed, 1), []byte("not compressed"))
	})
	err := s.ViewInteraction(t.Context(), "acme", call, func(tx *InteractionTxn) error {
		for _, position := range []int{1, 3, 25} {
			if _, err := tx.Record("tickets", position); err != nil {
				t.Errorf("record %d: %v", position, err)
			}
		}
		_, err := tx.Record("tickets", 2)
		_, many := tx.Recordset("many")
		_, _, short := tx.Reply("Search", call+" short")
		_, _, empty := tx.Reply("Search", call+" empty")
		_, _, long := tx.Reply("Search", call+" long")
		for name, err := range map[string]error{"record": err, "recordset": many, "reply": short, "reply that is no JSON": empty, "answer": long} {
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("%s: got %v, want ErrDamaged", name, err)
			}
		}
		if _, found, err := tx.Reply("GetNextRecord", call+" next"); !found || err != nil {
			t.Errorf("a whole reply: %v, %v", found, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if err := s.ViewInteraction(t.Context(), "acme", "written", func(*InteractionTxn) error { return nil }); !errors.Is(err, errSealed) {
		t.Errorf("damaged interaction: got %v, want errSealed", err)
	}
}

// TestUsageOfFormat2 drops what was counted before it was packed: no more goes than there is.
func TestUsageOfFormat2(t *testing.T) {
	s := openFormat2(t, nil)
	if _, err := s.Scrub(t.Context()); err != nil {
		t.Fatal(err)
	}
	check := func(what string) {
		t.Helper()
		stored := int64(0)
		for _, key := range keysOfData(t, s.engine) {
			if segments, err := kv.Split([]byte(key)); err == nil && segments[0] == "acme" && segments[1] != "u" {
				stored += int64(len(key) + len(valueOf(t, s, []byte(key))))
			}
		}
		used, _, err := s.Usage(t.Context(), "acme")
		if err != nil || used.StoredBytes < stored {
			t.Errorf("%s: %d bytes are counted of %d, %v", what, used.StoredBytes, stored, err)
		}
	}
	check("migrated")
	staged, err := s.StageRecords(t.Context(), "acme", "+15135557611", ticketsOf(100))
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range []struct {
		name string
		make func(*InteractionTxn)
	}{
		{"published", func(tx *InteractionTxn) { tx.PublishRecordset(Recordset{Name: "new"}, staged) }},
		{"replaced", func(tx *InteractionTxn) { tx.PublishRecordset(Recordset{Name: "tickets"}, new(StagedRecords)) }},
		{"removed", func(tx *InteractionTxn) { tx.RemoveRecordset("many") }},
	} {
		if err := s.UpdateInteraction(t.Context(), "acme", "+15135557611", func(tx *InteractionTxn) error { change.make(tx); return nil }); err != nil {
			t.Fatal(err)
		}
		check(change.name)
	}
}
