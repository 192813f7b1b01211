package store

import (
	"bytes"
	"fmt"
	"testing"
)

// BenchmarkCursor moves a recordset's cursor and reads the record there, as GetNextRecord does: the same cost whatever
// the number of records.
func BenchmarkCursor(b *testing.B) {
	for _, n := range []int{10, 1000} {
		b.Run(fmt.Sprintf("records=%d", n), func(b *testing.B) {
			s := openStore(b, b.TempDir())
			staged := stage(b, s, "i", recordsOf(n, 4<<10, "x"))
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
		})
	}
}

// BenchmarkSearch stages and publishes the records of a usual search: one commit.
func BenchmarkSearch(b *testing.B) {
	s := openStore(b, b.TempDir())
	records := recordsOf(25, 4<<10, "x")
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
