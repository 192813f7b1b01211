package store_test

import (
	"path/filepath"
	"testing"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/boltkv"
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
