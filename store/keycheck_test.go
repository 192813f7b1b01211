package store

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

func TestCheckKeys(t *testing.T) {
	s, err := Open(t.Context(), Config{Path: filepath.Join(t.TempDir(), "data.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	primary := s.vault.keys.Load().Primary()
	for name, test := range map[string]struct {
		ids  []uint32
		want error
	}{
		"ours":             {[]uint32{primary}, nil},
		"another, too":     {[]uint32{primary + 1, primary}, errKeyInUse},
		"only another":     {[]uint32{primary + 1}, errWrongKey},
		"ours, once again": {[]uint32{primary}, nil},
	} {
		err := s.engine.Update(t.Context(), func(tx kv.Txn) error { return (&keyUse{IDs: test.ids}).save(tx) })
		if err != nil {
			t.Fatal(err)
		}
		if err := s.CheckKeys(t.Context()); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
}
