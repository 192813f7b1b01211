package store

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// BenchmarkCursor moves a recordset's cursor and reads the record there, as GetNextRecord does: the same cost whatever
// the number of records. It reports how much of that is sealing and opening.
func BenchmarkCursor(b *testing.B) {
	for _, n := range []int{10, 1000} {
		b.Run(fmt.Sprintf("records=%d", n), func(b *testing.B) {
			s := openStore(b, b.TempDir())
			staged := stage(b, s, "i", ticketsOf(n))
			update(b, s, "i", func(tx *InteractionTxn) { tx.PublishRecordset(Recordset{Name: "rs"}, staged) })
			position := 0
			for b.Loop() {
				position = position%n + 1
				err := s.UpdateInteraction(b.Context(), tenant, "i", func(tx *InteractionTxn) error {
					rs, err := tx.Recordset("rs")
					if err != nil {
						return err
					}
					rs.Position = position
					tx.UpdateRecordset(rs)
					_, err = tx.Record("rs", position)
					return err
				})
				if err != nil {
					b.Fatal(err)
				}
			}
			transaction := b.Elapsed() / time.Duration(b.N)
			sealing := sealingOfCursor(b, s)
			b.ReportMetric(float64(sealing.Nanoseconds()), "sealing-ns/op")
			b.ReportMetric(100*float64(sealing)/float64(transaction), "%sealing")
		})
	}
}

// sealingOfCursor is how long it takes to open what a move of the cursor reads, and to seal what it writes.
func sealingOfCursor(b *testing.B, s *Store) time.Duration {
	b.Helper()
	var sealed []kv.Entry // head, recordset, record
	all := sealedValues(b, s)
	for _, key := range []string{string(headKey(tenant, s.vault.hashInteraction(tenant, "i"))), string(s.vault.recordsetKey(tenant, "i", "rs"))} {
		sealed = append(sealed, kv.Entry{Key: []byte(key), Value: all[key]})
	}
	for key, value := range all {
		if len(sealed) < 3 && strings.HasPrefix(key, string(interactionKey(tenant, s.vault.hashInteraction(tenant, "i"), "record"))) {
			sealed = append(sealed, kv.Entry{Key: []byte(key), Value: value})
		}
	}
	const rounds = 1000
	start := time.Now()
	for range rounds {
		for i, entry := range sealed {
			value, err := s.vault.open(entry.Key, entry.Value)
			if err == nil && i < 2 {
				_, err = s.vault.seal(entry.Key, value)
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	return time.Since(start) / rounds
}

// BenchmarkDeliver notes a delivery to an agent who has had so many within the last hour, which are written again with it.
func BenchmarkDeliver(b *testing.B) {
	for _, n := range []int{1, 20, 60, 200} {
		b.Run(fmt.Sprintf("kept=%d", n), func(b *testing.B) {
			s := openStore(b, b.TempDir())
			item := func(at time.Time) Delivered {
				pop := ScreenPop{ID: newID(), Account: AccountUse{AccountID: "main", Incarnation: newID(), Name: "Main", URL: "https://acme.zendesk.com"},
					RecordType: RecordTicket, RecordID: "46000000000001", URL: "https://acme.zendesk.com/agent/tickets/46000000000001", CreateTime: at}
				return Delivered{InteractionID: newID(), Pop: pop, Delivery: Delivery{
					ID: newID(), PopID: pop.ID, Agent: Agent{Email: "agent@acme.example"}, Outcome: DeliveryLink, Time: at,
				}}
			}
			at := someTime
			for b.Loop() {
				at = at.Add(RecentDeliveries / time.Duration(n))
				update(b, s, "i", func(tx *InteractionTxn) { tx.NoteDelivered("a", item(at)) })
			}
		})
	}
}

// BenchmarkReencrypt seals the values of 1,000 interactions again, with the pauses that leave others room.
func BenchmarkReencrypt(b *testing.B) {
	s := openStore(b, b.TempDir())
	for i := range 1000 {
		update(b, s, fmt.Sprint(i), func(tx *InteractionTxn) { tx.SetAttachedData(map[string]string{"k": "v"}) })
	}
	values := len(sealedValues(b, s))
	for b.Loop() {
		rotate(b, s)
		reencrypt(b, s)
	}
	b.ReportMetric(float64(values*b.N)/b.Elapsed().Seconds(), "values/s")
}

// BenchmarkSearch stages and publishes the records of a usual search: one commit.
func BenchmarkSearch(b *testing.B) {
	s := openStore(b, b.TempDir())
	records := ticketsOf(25)
	for b.Loop() {
		staged := stage(b, s, "i", records)
		update(b, s, "i", func(tx *InteractionTxn) { tx.PublishRecordset(Recordset{Name: "rs"}, staged) })
	}
}

func BenchmarkSeal(b *testing.B) {
	s := openStore(b, b.TempDir())
	key, value := recordKey(tenant, "i", newID(), 1), bytes.Repeat([]byte("x"), 4<<10)
	b.SetBytes(int64(len(value)))
	for b.Loop() {
		sealed, err := s.vault.seal(key, value)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.vault.open(key, sealed); err != nil {
			b.Fatal(err)
		}
	}
}
