package store

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scenarioblocks/zendeskblocks/store/keyfile"
)

func TestTakeOver(t *testing.T) {
	of := func(primary uint32, keys ...uint32) member {
		return member{Name: "other", Keys: keys, Primary: primary}
	}
	for name, test := range map[string]struct {
		has     []uint32
		primary uint32
		others  []member
		want    []uint32 // nil: nothing changes
		refused bool
	}{
		"is it already":                      {[]uint32{1}, 1, nil, nil, false},
		"alone":                              {[]uint32{1}, 2, nil, []uint32{1, 2}, false},
		"alone, back to one before":          {[]uint32{1, 2}, 1, nil, []uint32{2, 1}, false},
		"another lacks it":                   {[]uint32{1}, 2, []member{of(1, 1)}, nil, true},
		"one of two lacks it":                {[]uint32{1}, 2, []member{of(1, 1, 2), of(1, 1)}, nil, true},
		"all others have it":                 {[]uint32{1}, 2, []member{of(1, 1, 2), of(1, 2, 1)}, []uint32{1, 2}, false},
		"behind: another was promoted first": {[]uint32{1, 2}, 1, []member{of(2, 1, 2)}, nil, false},
		"the last one that comes after":      {[]uint32{1, 2}, 2, []member{of(2, 1, 2)}, nil, false},
		"back, after all others":             {[]uint32{1, 2}, 1, []member{of(1, 1, 2)}, []uint32{2, 1}, false},
		"behind, when all is sealed again":   {[]uint32{2}, 1, []member{of(2, 1, 2)}, []uint32{2, 1}, false},
	} {
		t.Run(name, func(t *testing.T) {
			use, others := keyUse{IDs: test.has, Cursor: []byte("x")}, make(members)
			for i, m := range test.others {
				others[string(rune('a'+i))] = m
			}
			changed, err := use.takeOver(test.primary, others)
			if (err != nil) != test.refused || changed != (test.want != nil) {
				t.Errorf("changed %v, %v", changed, err)
			}
			if diff := cmp.Diff(test.want, use.IDs); changed && (diff != "" || use.Cursor != nil) {
				t.Errorf("keys (-want +got):\n%s", diff)
			}
		})
	}
}

// TestKeysOfReplicas are added to all, then promoted one after the other, and what an older one has sealed is sealed again when
// no replica uses it.
func TestKeysOfReplicas(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	if err := keyfile.Make(file); err != nil {
		t.Fatal(err)
	}
	read := func() *keyfile.Keys {
		t.Helper()
		keys, err := keyfile.Read(file)
		if err != nil {
			t.Fatal(err)
		}
		return keys
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	first := read().Primary()
	synctest.Test(t, func(t *testing.T) {
		s := replicasOf(t, string(text), 2)
		populate(t, s[0])
		second, err := keyfile.Add(file)
		if err != nil {
			t.Fatal(err)
		}
		added := read()
		if err := keyfile.Promote(file, second); err != nil {
			t.Fatal(err)
		}
		promoted := read()
		if added.Primary() != first || promoted.Primary() != second {
			t.Fatalf("primary keys are %d and %d", added.Primary(), promoted.Primary())
		}
		adopt := func(s *Store, keys *keyfile.Keys) {
			t.Helper()
			if err := s.adopt(t.Context(), keys); err != nil {
				t.Fatal(err)
			}
		}
		adopt(s[0], added)
		if err := s[0].adopt(t.Context(), promoted); err == nil || !strings.Contains(err.Error(), `"b" does not have it`) {
			t.Errorf("promoted although a replica lacks it: %v", err)
		}
		adopt(s[1], added)
		adopt(s[0], promoted)
		adopt(s[0], promoted)
		if diff := cmp.Diff(dump(t, s[0]), dump(t, s[1]), compareSecrets); diff != "" {
			t.Errorf("what one reads and the other does (-first +second):\n%s", diff)
		}

		done := make(chan error)
		go func() { done <- s[0].Reencrypt(t.Context()) }()
		time.Sleep(time.Minute)
		select {
		case err := <-done:
			t.Fatalf("it is over while a replica seals with the first key: %v", err)
		default:
		}
		if err := s[0].unused(t.Context(), first); !errors.Is(err, errKeyStillInUse) {
			t.Errorf("the first key: %v", err)
		}
		adopt(s[1], promoted)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if err := s[0].unused(t.Context(), first); err != nil {
			t.Errorf("the first key: %v", err)
		}
		adopt(s[1], added) // it was promoted in vain
		if err := s[0].unused(t.Context(), first); err == nil {
			t.Error("the first key is not used, although a replica seals with it again")
		}
	})
}
