package store

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"pgregory.net/rapid"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// ticketsOf are tickets as a search finds them, of some 2.5 KB each.
func ticketsOf(n int) (records []json.RawMessage) {
	random := mathrand.New(mathrand.NewPCG(3, 3))
	words := strings.Fields("printer does not start since the update of Monday please call back order refund invoice delivery customer wants another box router modem")
	text := func(n int) string {
		some := make([]string, n)
		for i := range some {
			some[i] = words[random.IntN(len(words))]
		}
		return strings.Join(some, " ")
	}
	for i := range n {
		var fields []string
		for field := range 14 {
			fields = append(fields, fmt.Sprintf(`{"id":459000000021%02d,"value":%q}`, field, words[random.IntN(len(words))]))
		}
		values := strings.Join(fields, ",")
		records = append(records, fmt.Appendf(nil, `{"result_type":"ticket","url":"https://acme.zendesk.com/api/v2/tickets/%[1]d.json","id":%[1]d,"external_id":null,"via":{"channel":"voice","source":{"from":{"phone":"+1513555%04[2]d"},"to":{},"rel":"voicemail"}},"created_at":"2026-03-%02[3]dT12:00:00Z","updated_at":"2026-03-%02[3]dT13:00:00Z","type":"question","subject":%[4]q,"description":%[5]q,"priority":"normal","status":"open","requester_id":%[6]d,"submitter_id":%[6]d,"assignee_id":45900000000102,"organization_id":45900000003101,"group_id":45900000003201,"collaborator_ids":[],"tags":["%[7]s","%[8]s"],"custom_fields":[%[9]s],"fields":[%[9]s],"ticket_form_id":45900000004101,"brand_id":45900000004201,"allow_attachments":true}`,
			45_900_000_001_101+i, random.IntN(10_000), 1+i%28, text(6), text(120), 45_900_000_000_201+random.IntN(500), words[random.IntN(len(words))], words[random.IntN(len(words))], values))
	}
	return records
}

func sameRecords(a, b []json.RawMessage) bool {
	return slices.EqualFunc(a, b, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) })
}

// TestBlocksKeepRecords packs any records, and reads the same.
func TestBlocksKeepRecords(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		short := rapid.SliceOf(rapid.SliceOf(rapid.Byte())).Draw(t, "short")
		sizes := rapid.SliceOfN(rapid.IntRange(0, 300<<10), 0, 5).Draw(t, "sizes")
		var records []json.RawMessage
		for _, record := range short {
			records = append(records, record)
		}
		for i, size := range sizes {
			records = slices.Insert(records, i*7%(len(records)+1), json.RawMessage(noise(uint64(i), size)))
		}
		per := recordsPerBlock(records)
		if per < 1 || per > blockRecords {
			t.Fatalf("%d records in a block", per)
		}
		var got []json.RawMessage
		for some := range slices.Chunk(records, per) {
			block := packRecords(some)
			all := 0
			for _, record := range some {
				all += len(record)
			}
			if len(some) > 1 && all > maxBlockBytes {
				t.Errorf("a block of %d records has %d bytes", len(some), all)
			}
			if len(some) == 1 && all > 0 && len(block) > all && !isPacked(some[0]) {
				t.Errorf("a record of %d bytes takes %d", all, len(block))
			}
			unpacked, err := unpackRecords(block)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, unpacked...)
		}
		if !sameRecords(records, got) {
			t.Errorf("%d records are read, not as the %d that were packed", len(got), len(records))
		}
	})
}

// TestBlockOfOneThatLooksPacked keeps what begins as if it were packed apart from what is.
func TestBlockOfOneThatLooksPacked(t *testing.T) {
	for _, record := range [][]byte{nil, {}, packedMagic, append(bytes.Clone(packedMagic), noise(1, 500)...), pack([]byte("x")), packRecords([]json.RawMessage{[]byte(`{}`), []byte(`{}`)})} {
		got, err := unpackRecords(packRecords([]json.RawMessage{record}))
		if err != nil || !sameRecords(got, []json.RawMessage{record}) {
			t.Errorf("%q: got %q, %v", record, got, err)
		}
	}
}

func TestRecordsPerBlock(t *testing.T) {
	sized := func(sizes ...int) (records []json.RawMessage) {
		for _, size := range sizes {
			records = append(records, bytes.Repeat([]byte("x"), size))
		}
		return records
	}
	for _, test := range []struct {
		name    string
		records []json.RawMessage
		want    int
	}{
		{"none", nil, 1},
		{"a short one", sized(10), blockRecords},
		{"empty ones", sized(slices.Repeat([]int{0}, 1000)...), blockRecords},
		{"few", sized(2500, 2500), 6},
		{"many", sized(slices.Repeat([]int{2500}, 1000)...), 6},
		{"many small ones", sized(slices.Repeat([]int{100}, 1000)...), blockRecords},
		{"as large as a block", sized(slices.Repeat([]int{blockBytes}, 9)...), 1},
		{"all huge", sized(slices.Repeat([]int{1 << 20}, 9)...), 1},
		{"a huge one among small ones", sized(append(slices.Repeat([]int{100}, 1000), 1<<20)...), 1},
		{"a large one among small ones", sized(append(slices.Repeat([]int{100}, 1000), 200<<10)...), blockRecords},
		{"large ones behind small ones", sized(append(slices.Repeat([]int{10}, 2000), slices.Repeat([]int{100 << 10}, 4)...)...), 2},
	} {
		if got := recordsPerBlock(test.records); got != test.want {
			t.Errorf("%s: got %d, want %d", test.name, got, test.want)
		}
	}
}

// TestBlocksAreSmall packs tickets to less than a third.
func TestBlocksAreSmall(t *testing.T) {
	records, all, packed := ticketsOf(100), 0, 0
	for some := range slices.Chunk(records, recordsPerBlock(records)) {
		packed += len(packRecords(some))
		for _, record := range some {
			all += len(record)
		}
	}
	if all < 200_000 || all > 300_000 || packed > all/3 {
		t.Errorf("tickets of %d bytes are packed to %d", all, packed)
	}
}

// streamed is a packed value that does not begin with how long it is.
func streamed(t testing.TB, body []byte) []byte {
	t.Helper()
	var packed bytes.Buffer
	w, err := zstd.NewWriter(&packed)
	if err == nil {
		_, err = w.Write(body[:len(body)/2])
	}
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		_, err = w.Write(body[len(body)/2:])
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return packed.Bytes()
}

// hostileBlocks are what no program writes.
func hostileBlocks(t testing.TB) map[string][]byte {
	zeros := make([]byte, 4*maxBody)
	length := func(n uint64) []byte { return binary.AppendUvarint(nil, n) }
	claim := append(bytes.Clone(packedMagic), 0xe0) // a frame of one segment, its length in eight bytes
	claim = append(binary.LittleEndian.AppendUint64(claim, 1<<40), 0x01, 0, 0)
	return map[string][]byte{
		"the magic alone":            packedMagic,
		"noise":                      append(bytes.Clone(packedMagic), noise(1, 300)...),
		"cut off":                    packRecords(ticketsOf(3))[:200],
		"a claim":                    claim,
		"four times too much":        pack(zeros),
		"as much, of unknown length": streamed(t, zeros),
		"many frames":                slices.Repeat(pack(zeros[:maxBody/2]), 3),
		"many empty records":         pack(zeros[:maxBody-1]),
		"one record too many":        pack(zeros[:blockRecords+1]),
		"longer than it is":          pack(append(length(9), "12345678"...)),
		"as long as can be said":     pack(length(1<<64 - 1)),
		"a length that does not end": pack(bytes.Repeat([]byte{0xff}, 20)),
		"half a length":              pack([]byte{0x80}),
	}
}

// TestHostileBlocks reads them as damage, and takes no more memory than a value may.
func TestHostileBlocks(t *testing.T) {
	for name, block := range hostileBlocks(t) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		records, err := unpackRecords(block)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, ErrDamaged) || records != nil {
			t.Errorf("%s: got %d records, %v; want ErrDamaged", name, len(records), err)
		}
		if took := after.TotalAlloc - before.TotalAlloc; took > 6*maxBody {
			t.Errorf("%s: took %d bytes", name, took)
		}
	}
	for _, value := range [][]byte{nil, {}, []byte("{}"), noise(1, 20)} {
		if _, err := unpack(value); !errors.Is(err, ErrDamaged) {
			t.Errorf("unpacking %q: got %v, want ErrDamaged", value, err)
		}
	}
}

// FuzzUnpackRecords reads any bytes as a block, and any bytes as what is packed in one.
func FuzzUnpackRecords(f *testing.F) {
	f.Add([]byte(nil))
	f.Add([]byte(`{"id":1}`))
	f.Add([]byte("\x08{\"id\":1}\x00\x02{}"))
	f.Add(packRecords(recordsOf(3, 20, "x")))
	for _, block := range hostileBlocks(f) {
		if len(block) < 1000 {
			f.Add(block)
		}
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		for _, block := range [][]byte{value, pack(value), append(bytes.Clone(packedMagic), value...)} {
			records, err := unpackRecords(block)
			if err != nil && (!errors.Is(err, ErrDamaged) || records != nil) {
				t.Errorf("%d records, %v", len(records), err)
			}
			size := 0
			for _, record := range records {
				size += len(record)
			}
			if len(records) > blockRecords || size > max(maxBody, len(block)) {
				t.Errorf("%d records of %d bytes", len(records), size)
			}
		}
	})
}

// TestDamagedBlocks reads records whose block is not what it should be: whoever asks is told, and so is the scrub.
func TestDamagedBlocks(t *testing.T) {
	s := openStore(t, t.TempDir())
	tickets := ticketsOf(25) // in blocks of six
	staged := stage(t, s, "i", tickets)
	update(t, s, "i", func(tx *InteractionTxn) { tx.PublishRecordset(Recordset{Name: "rs", Position: 8}, staged) })
	hashed := s.vault.hashInteraction(tenant, "i")
	key, setKey := recordKey(tenant, hashed, staged.generation, 2), s.vault.recordsetKey(tenant, "i", "rs")
	put := func(key, value []byte) {
		t.Helper()
		err := s.engine.Update(t.Context(), func(tx kv.Txn) error {
			if tx.Delete(key); value != nil {
				tx.Put(key, value)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	sealed := func(key, value []byte) []byte {
		t.Helper()
		sealed, err := s.vault.seal(key, value)
		if err != nil {
			t.Fatal(err)
		}
		return sealed
	}
	check := func(name string, want error) {
		t.Helper()
		err := s.ViewInteraction(t.Context(), tenant, "i", func(tx *InteractionTxn) error {
			record, err := tx.Record("rs", 8)
			if !errors.Is(err, want) || err == nil && !bytes.Equal(record, tickets[7]) {
				t.Errorf("%s: record: got %v, want %v", name, err, want)
			}
			records, err := tx.Records("rs", 5, 9)
			if !errors.Is(err, want) || err == nil && !sameRecords(records, tickets[4:13]) || err != nil && records != nil {
				t.Errorf("%s: records: got %d, %v, want %v", name, len(records), err, want)
			}
			err = tx.CurrentRecords(func(_ Recordset, current json.RawMessage) error {
				if !bytes.Equal(current, tickets[7]) {
					t.Errorf("%s: the current record is another", name)
				}
				return nil
			})
			if !errors.Is(err, want) {
				t.Errorf("%s: current record: got %v, want %v", name, err, want)
			}
			return nil
		})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if found, err := s.Scrub(t.Context()); err != nil || (found.Damaged > 0) != (want != nil) {
			t.Errorf("%s: the scrub found %+v, %v", name, found, err)
		}
	}
	check("whole", nil)

	whole := valueOf(t, s, key)
	wrong := map[string][]byte{
		"missing":           nil,
		"not sealed":        packRecords(tickets[6:12]),
		"of another place":  sealed(recordKey(tenant, hashed, staged.generation, 3), packRecords(tickets[6:12])),
		"one record less":   sealed(key, packRecords(tickets[6:11])),
		"one record more":   sealed(key, packRecords(tickets[6:13])),
		"no records":        sealed(key, packRecords(nil)),
		"one, as it is":     sealed(key, tickets[6]),
		"empty":             sealed(key, nil),
		"another block too": sealed(key, append(packRecords(tickets[6:12]), packRecords(tickets[12:18])...)),
	}
	for name, block := range hostileBlocks(t) {
		wrong["hostile: "+name] = sealed(key, block)
	}
	for name, value := range wrong {
		put(key, value)
		check(name, ErrDamaged)
	}
	put(key, whole)
	check("whole again", nil)

	wholeSet := valueOf(t, s, setKey)
	for _, per := range []int{-1, 0, 1, 5, 7, 1 << 62} {
		var set storedRecordset
		value, err := s.vault.open(setKey, wholeSet)
		if err == nil {
			err = decode(value, &set)
		}
		set.PerBlock = per
		if err == nil {
			value, err = encode(set)
		}
		if err != nil {
			t.Fatal(err)
		}
		put(setKey, sealed(setKey, value))
		check(fmt.Sprintf("%d in a block", per), ErrDamaged)
	}
	put(setKey, wholeSet)
	check("whole in the end", nil)
}

// BenchmarkRecord reads a record of many: its place does not matter.
func BenchmarkRecord(b *testing.B) {
	s := openStore(b, b.TempDir())
	staged := stage(b, s, "i", ticketsOf(1000))
	update(b, s, "i", func(tx *InteractionTxn) { tx.PublishRecordset(Recordset{Name: "rs"}, staged) })
	for _, position := range []int{1, 500, 1000} {
		b.Run(fmt.Sprint("position=", position), func(b *testing.B) {
			err := s.ViewInteraction(b.Context(), tenant, "i", func(tx *InteractionTxn) error {
				for b.Loop() {
					if _, err := tx.Record("rs", position); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				b.Error(err)
			}
		})
	}
}

// TestReplyOfTooManyBytes keeps no answer that could not be read again, however short it is packed.
func TestReplyOfTooManyBytes(t *testing.T) {
	s := openStore(t, t.TempDir())
	for _, size := range []int{maxBody, maxBody + 1} {
		update(t, s, "i", func(tx *InteractionTxn) { tx.KeepReply("Search", fmt.Sprint(size), Reply{Body: noisyZeros(size)}) })
		err := s.ViewInteraction(t.Context(), tenant, "i", func(tx *InteractionTxn) error {
			reply, found, err := tx.Reply("Search", fmt.Sprint(size))
			if !found || reply.Gone != (size > maxBody) || !reply.Gone && !bytes.Equal(reply.Body, noisyZeros(size)) {
				t.Errorf("%d bytes: found %v, gone %v", size, found, reply.Gone)
			}
			return err
		})
		if err != nil {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

// noisyZeros are packed to little, and not to very little.
func noisyZeros(size int) []byte {
	zeros := make([]byte, size)
	copy(zeros, noise(1, 2*shortAnswer))
	return zeros
}
