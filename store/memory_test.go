package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tink-crypto/tink-go/v2/aead"

	"github.com/scenarioblocks/zendeskblocks/store/keyfile"
	"github.com/scenarioblocks/zendeskblocks/store/kv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/boltkv"
	"github.com/scenarioblocks/zendeskblocks/store/secret"
)

// TestMemoryKnowsItsKeysAndBytes answers for the bytes that it was given under a key, and for no others.
func TestMemoryKnowsItsKeysAndBytes(t *testing.T) {
	var m memory
	key, sealed := []byte("key"), []byte("sealed")
	m.put(key, sealed, 1)
	sealed[0] = 'S' // whose bytes they were goes on with them
	for _, test := range []struct {
		key, sealed string
		want        any
	}{
		{"key", "sealed", 1}, {"key", "Sealed", nil}, {"key", "sealed ", nil}, {"key", "seale", nil}, {"key", "", nil}, {"kez", "sealed", nil}, {"ke", "ysealed", nil},
	} {
		if got := m.get([]byte(test.key), []byte(test.sealed)); got != test.want {
			t.Errorf("%q under %q: got %v, want %v", test.sealed, test.key, got, test.want)
		}
	}
	m.put(key, []byte("newer"), 2)
	if was, is := m.get(key, []byte("sealed")), m.get(key, []byte("newer")); was != nil || is != 2 {
		t.Errorf("after another value: got %v, %v", was, is)
	}
	m.put(key, bytes.Repeat([]byte("x"), maxRemembered+1), 3)
	if m.get(key, bytes.Repeat([]byte("x"), maxRemembered+1)) != nil {
		t.Error("a large value is remembered")
	}
}

// TestMemoryIsBounded fills it many times over: what is used stays, and no more than twice the bound does.
func TestMemoryIsBounded(t *testing.T) {
	var m memory
	used := []byte("used")
	m.put(used, used, 0)
	for i := range 5 * rememberedValues {
		key := fmt.Append(nil, i)
		m.put(key, key, i)
		if n := len(m.young) + len(m.old); n > 2*rememberedValues {
			t.Fatalf("%d are remembered after %d", n, i)
		}
		if i%1000 == 0 && m.get(used, used) != 0 {
			t.Fatalf("after %d, what is used is forgotten", i)
		}
	}
	for i := range rememberedValues {
		if key := fmt.Append(nil, 5*rememberedValues-1-i); m.get(key, key) == nil {
			t.Fatalf("of the newest, %d is forgotten", i)
		}
	}
	if first := []byte("0"); m.get(first, first) != nil {
		t.Error("the oldest is remembered")
	}
}

// TestBlocksAreBounded remembers as many blocks of records as it may, none of them a large one.
func TestBlocksAreBounded(t *testing.T) {
	st := openStore(t, t.TempDir())
	r := reading{vault: st.vault}
	step := func(name string, record []byte) []byte {
		t.Helper()
		set := &storedRecordset{Recordset: Recordset{Count: 2}, PerBlock: 2}
		key := []byte(name)
		sealed, err := st.vault.seal(key, packRecords([]json.RawMessage{[]byte("{}"), record}))
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if got, err := r.recordsKnown(set, 0, key, sealed); err != nil || len(got) != 2 || !bytes.Equal(got[1], record) {
				t.Fatalf("%s: %d records, %v", name, len(got), err)
			}
		}
		if _, err := r.recordsKnown(&storedRecordset{Recordset: Recordset{Count: 3}, PerBlock: 3}, 0, key, sealed); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: with a record more, got %v", name, err)
		}
		return sealed
	}
	large := step("large", bytes.Repeat([]byte(" "), maxRememberedBlock))
	if st.vault.blocks.get([]byte("large"), large) != nil {
		t.Error("a large block is remembered")
	}
	for i := range 3 * rememberedBlocks {
		key := fmt.Sprint(i)
		if sealed := step(key, []byte(key)); st.vault.blocks.get([]byte(key), sealed) == nil {
			t.Errorf("%s is not remembered", key)
		}
	}
	if n := len(st.vault.blocks.young) + len(st.vault.blocks.old); n > 2*rememberedBlocks {
		t.Errorf("%d are remembered", n)
	}
}

// filled sets all that a value has: each pointer, each slice and each map in it leads somewhere.
func filled(t testing.TB, v reflect.Value) {
	t.Helper()
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(someTime))
		return
	case secret.Value:
		v.Set(reflect.ValueOf(secret.New("secret")))
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		filled(t, v.Elem())
	case reflect.Struct:
		for _, field := range v.Fields() {
			filled(t, field)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			filled(t, v.Index(i))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		filled(t, key)
		filled(t, value)
		v.SetMapIndex(key, value)
	case reflect.String:
		v.SetString("text")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	case reflect.Uint64:
		v.SetUint(7)
	case reflect.Uint8:
		v.SetUint(7)
	default:
		t.Fatalf("%v: this test does not know how to fill it", v.Type())
	}
}

// shared names what two values have in common: who changes it in one changes it in the other.
func shared(at string, a, b reflect.Value) (names []string) {
	switch a.Interface().(type) {
	case time.Time, secret.Value: // which nobody can change
		return nil
	}
	switch a.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		if a.IsNil() || b.IsNil() {
			return nil
		}
		if a.Pointer() == b.Pointer() {
			return []string{at}
		}
	}
	switch a.Kind() {
	case reflect.Pointer:
		return shared(at, a.Elem(), b.Elem())
	case reflect.Struct:
		for field, value := range a.Fields() {
			names = append(names, shared(at+"."+field.Name, value, b.FieldByIndex(field.Index))...)
		}
	case reflect.Slice:
		for i := range min(a.Len(), b.Len()) {
			names = append(names, shared(fmt.Sprintf("%s[%d]", at, i), a.Index(i), b.Index(i))...)
		}
	case reflect.Map:
		for _, key := range a.MapKeys() {
			if other := b.MapIndex(key); other.IsValid() {
				names = append(names, shared(fmt.Sprintf("%s[%v]", at, key), a.MapIndex(key), other)...)
			}
		}
	}
	return names
}

func checkCopied[P copied[T], T any](t *testing.T, forgotten ...cmp.Option) {
	t.Helper()
	var value, was T
	filled(t, reflect.ValueOf(&value).Elem())
	P(&value).copyInto(&was)
	if diff := cmp.Diff(value, was, append(forgotten, compareSecrets)...); diff != "" {
		t.Errorf("a copy of %T is not the same (-value +copy):\n%s", value, diff)
	}
	if names := shared(fmt.Sprintf("%T", value), reflect.ValueOf(value), reflect.ValueOf(was)); len(names) > 0 {
		t.Errorf("a copy shares %q", names)
	}
}

// TestRememberedIsCopied looks at each field that there is: one that is added and not copied is found.
func TestRememberedIsCopied(t *testing.T) {
	checkCopied[*interactionHead](t)
	checkCopied[*storedRecordset](t)
	checkCopied[*accountRecord](t, cmp.FilterPath(func(p cmp.Path) bool { return p.String() == "Secrets" }, cmp.Ignore()))

	one := struct{ Names []string }{[]string{"a"}}
	if names := shared("", reflect.ValueOf(one), reflect.ValueOf(one)); !slices.Equal(names, []string{".Names"}) {
		t.Errorf("what is shared is not seen: %q", names)
	}
}

// TestRememberedIsNotTheCallers changes all that was handed out: what is read next is as it was.
func TestRememberedIsNotTheCallers(t *testing.T) {
	s := openStore(t, t.TempDir())
	populate(t, s)
	for range 3 { // read from the store, then remembered
		before := dump(t, s)
		account, err := s.Account(t.Context(), tenant, "acme-eu")
		if err != nil {
			t.Fatal(err)
		}
		account.Name, account.APIToken.Username, account.OAuthToken.Scopes[0], account.OAuthToken.RequestedScopes[0] = "x", "x", "x", "x"
		account.OAuthToken.Renewal.Grant, account.OAuthToken.Renewal.ClientSecret, account.APIToken.Token = "x", secret.New("x"), secret.New("x")
		err = s.ViewInteraction(t.Context(), tenant, "call-1", func(tx *InteractionTxn) error {
			rs, err := tx.Recordset(canary)
			if err != nil {
				return err
			}
			rs.Columns[0], rs.ColumnsSet[0], rs.Account.Name = "x", "x", "x"
			tx.RecordsetNames()[0] = "x"
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		undone := errors.New("undone")
		err = s.UpdateInteraction(t.Context(), tenant, "call-1", func(tx *InteractionTxn) error {
			tx.ClearAccount()
			tx.UpdateRecordset(Recordset{Name: canary, Position: 9})
			tx.RemoveRecordset(canary)
			tx.PublishRecordset(Recordset{Name: "a"}, new(StagedRecords))
			tx.KeepReply("Search", "another", Reply{})
			return undone
		})
		if !errors.Is(err, undone) {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before, dump(t, s), compareSecrets); diff != "" {
			t.Errorf("(-before +after):\n%s", diff)
		}
	}
}

// TestRememberedIsWhatIsStored has another store over the same engine change what this one remembers, then damage it.
func TestRememberedIsWhatIsStored(t *testing.T) {
	engine, err := boltkv.Open(filepath.Join(t.TempDir(), "data.db"))
	if err != nil {
		t.Fatal(err)
	}
	c := Config{Keyset: newKeyset(t, aead.XChaCha20Poly1305KeyTemplate())}
	s, err := New(t.Context(), engine, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	other, err := New(t.Context(), engine, c)
	if err != nil {
		t.Fatal(err)
	}
	populate(t, s)
	same := func(what string) {
		t.Helper()
		if diff := cmp.Diff(dump(t, other), dump(t, s), compareSecrets); diff != "" {
			t.Errorf("%s (-other +this):\n%s", what, diff)
		}
	}
	same("as it was")
	if _, err := other.UpdateAccount(t.Context(), tenant, "acme-eu", "", func(a *Account) error {
		a.Name, a.APIToken.Token = "Renamed", secret.New("another")
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	same("renamed")
	if account, err := s.FindAccount(t.Context(), tenant, "renamed"); err != nil || account.APIToken.Token.Reveal() != "another" {
		t.Errorf("by its new name: %v", err)
	}
	if _, err := other.CreateAccount(t.Context(), tenant, Account{ID: "second", Name: "Second"}, func(string, time.Time) ([]byte, error) { return []byte("{}"), nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := other.UpdateAccount(t.Context(), tenant, "second", "", func(a *Account) error { a.Default = true; return nil }); err != nil {
		t.Fatal(err)
	}
	if account, err := s.DefaultAccount(t.Context(), tenant); err != nil || account.ID != "second" {
		t.Errorf("the default account is %q, %v", account.ID, err)
	}
	same("another is the default")
	update(t, other, "call-1", func(tx *InteractionTxn) {
		tx.ClearAccount()
		tx.UpdateRecordset(Recordset{Name: canary, Position: 0, ColumnsSet: []string{"a", "b"}})
	})
	same("updated")
	update(t, other, "call-1", func(tx *InteractionTxn) { tx.RemoveRecordset(canary) })
	if err := s.ViewInteraction(t.Context(), tenant, "call-1", func(tx *InteractionTxn) error {
		rs, err := tx.Recordset(canary)
		if !rs.Removed {
			t.Errorf("%+v is not removed", rs)
		}
		return err
	}); err != nil {
		t.Error(err)
	}

	read := map[string]func() error{
		string(headKey(tenant, s.vault.hashInteraction(tenant, "call-1"))): func() error {
			return s.ViewInteraction(t.Context(), tenant, "call-1", func(*InteractionTxn) error { return nil })
		},
		string(s.vault.recordsetKey(tenant, "call-1", canary)): func() error {
			return s.ViewInteraction(t.Context(), tenant, "call-1", func(tx *InteractionTxn) error { _, err := tx.Recordset(canary); return err })
		},
		string(accountKey(tenant, "acme-eu")):             func() error { _, err := s.Account(t.Context(), tenant, "acme-eu"); return err },
		string(defaultKey(tenant)):                        func() error { _, err := s.DefaultAccount(t.Context(), tenant); return err },
		string(s.vault.accountNameKey(tenant, "renamed")): func() error { _, err := s.FindAccount(t.Context(), tenant, "renamed"); return err },
		string(accountCountKey(tenant)):                   func() error { _, _, err := s.Usage(t.Context(), tenant); return err },
	}
	stored := sealedValues(t, s)
	put := func(key string, value []byte) {
		t.Helper()
		if err := engine.Update(t.Context(), func(tx kv.Txn) error { tx.Put([]byte(key), value); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	for key, read := range read {
		if err := errors.Join(read(), read()); err != nil || stored[key] == nil {
			t.Errorf("%q: whole: %v", key, err)
		}
		flipped := bytes.Clone(stored[key])
		flipped[len(flipped)-1] ^= 1
		moved := stored[string(headKey(tenant, s.vault.hashInteraction(tenant, "call-2")))]
		for what, value := range map[string][]byte{"altered": flipped, "another's": moved, "empty": {}} {
			put(key, value)
			if err := read(); !errors.Is(err, errSealed) {
				t.Errorf("%q: %s: got %v, want errSealed", key, what, err)
			}
		}
		put(key, stored[key])
		if err := read(); err != nil {
			t.Errorf("%q: whole again: %v", key, err)
		}
	}
}

// TestRememberedAcrossRotation reads with each of the keys what was remembered under another, and what changes then.
func TestRememberedAcrossRotation(t *testing.T) {
	folder := t.TempDir()
	s := openStore(t, folder)
	populate(t, s)
	before := dump(t, s)
	rename := func(name string) {
		t.Helper()
		if _, err := s.UpdateAccount(t.Context(), tenant, "acme-eu", "", func(a *Account) error { a.Name = name; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	name := func() string {
		t.Helper()
		account, err := s.Account(t.Context(), tenant, "acme-eu")
		if err != nil {
			t.Fatal(err)
		}
		return account.Name
	}
	old := primaryOf(s)
	rotate(t, s)
	if diff := cmp.Diff(before, dump(t, s), compareSecrets); diff != "" {
		t.Errorf("after the reload (-before +after):\n%s", diff)
	}
	rename("second")
	if got := name(); got != "second" {
		t.Errorf("the name is %q", got)
	}
	reencrypt(t, s)
	checkSealed(t, s)
	if got := name(); got != "second" {
		t.Errorf("after all was sealed again, the name is %q", got)
	}
	rename("third")
	if got := name(); got != "third" {
		t.Errorf("the name is %q", got)
	}
	before = dump(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := DropKey(t.Context(), Config{Path: filepath.Join(folder, "data.db")}, old); err != nil {
		t.Fatal(err)
	}
	if keys, err := keyfile.List(s.keyFile); err != nil || len(keys) != 1 {
		t.Errorf("%d keys, %v", len(keys), err)
	}
	if diff := cmp.Diff(before, dump(t, openStore(t, folder)), compareSecrets); diff != "" {
		t.Errorf("with the new key alone (-before +after):\n%s", diff)
	}
}
