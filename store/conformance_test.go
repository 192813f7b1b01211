package store_test

import (
	"path/filepath"
	"testing"

	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/store/kv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/boltkv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/pgkv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/pgkv/pgtest"
	"github.com/scenarioblocks/zendeskblocks/store/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) kv.Engine {
		engine, err := boltkv.Open(filepath.Join(t.TempDir(), "data.db"))
		if err != nil {
			t.Fatal(err)
		}
		return engine
	})
}

// TestStoreOnPostgreSQL empties one database for each test: to make one takes longer than most of them.
func TestStoreOnPostgreSQL(t *testing.T) {
	url := pgtest.Start(t, "fsync = off").URL(t, "store")
	if _, _, err := store.Migrate(t.Context(), store.Config{URL: url}); err != nil {
		t.Fatal(err)
	}
	storetest.RunBriefly(t, func(t *testing.T) kv.Engine {
		engine, err := pgkv.Open(t.Context(), pgkv.Config{URL: url})
		if err != nil {
			t.Fatal(err)
		}
		err = engine.Update(t.Context(), func(tx kv.Txn) error {
			tx.DeleteRange(nil, nil)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return engine
	})
}
