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

func TestSealElsewhere(t *testing.T) {
	s, err := Open(t.Context(), Config{Path: filepath.Join(t.TempDir(), "data.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	sealed, err := s.Seal("session", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if text, err := s.Unseal("session", sealed); err != nil || string(text) != "secret" {
		t.Errorf("opened: %q, %v", text, err)
	}
	sealed[len(sealed)-1]++
	if _, err := s.Unseal("session", sealed); !errors.Is(err, ErrNotSealed) {
		t.Errorf("what was altered: %v", err)
	}
	sealed[len(sealed)-1]--
	for purpose, text := range map[string][]byte{"flow": sealed, "session": nil} {
		if _, err := s.Unseal(purpose, text); !errors.Is(err, ErrNotSealed) {
			t.Errorf("%s of %d bytes: %v", purpose, len(text), err)
		}
	}
}
