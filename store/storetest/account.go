package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/store/secret"
)

func create(t testing.TB, s *fixture, a store.Account) store.Account {
	t.Helper()
	created, err := s.CreateAccount(t.Context(), tenant, a)
	if err != nil {
		t.Fatal(err)
	}
	return created
}

func testAccountRoundTrip(t *testing.T, s *fixture) {
	given := store.Account{
		ID: "acme-eu", Name: "Acme", URL: "https://acme.zendesk.com", DefaultRegion: "DE", MaxLimitShare: 50,
		APIAccess:   store.APIAccess{Methods: []string{"GET", "PUT"}, PathPrefixes: []string{"tickets"}, OnBehalfOf: true},
		PhoneFields: []string{"mobile"},
		APIToken:    &store.APIToken{Username: "admin@example.com", Token: secret.New("1")},
		OAuthToken: &store.OAuthToken{
			AccessToken: secret.New("2"), ClientID: "client", Scopes: []string{"read"}, RequestedScopes: []string{"read", "write"},
			IssueTime: someTime, ExpireTime: someTime.Add(time.Hour),
			Renewal: &store.Renewal{
				Grant: "refresh_token", ClientSecret: secret.New("3"), RefreshToken: secret.New("4"), RefreshExpireTime: someTime,
				RefuseTime: someTime, Refusal: "refused",
			},
		},
		Check: store.Check{Time: someTime, OK: true, Reason: "r", Role: "admin"},
	}
	created := create(t, s, given)
	if created.Incarnation == "" || created.ETag == "" || created.CreateTime.IsZero() || !created.Default {
		t.Errorf("created: %+v", created)
	}
	want := given
	want.Default, want.Incarnation, want.ETag = true, created.Incarnation, created.ETag
	want.CreateTime, want.UpdateTime = created.CreateTime, created.UpdateTime
	read, err := s.Account(t.Context(), tenant, created.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, got := range []store.Account{created, read} {
		if diff := cmp.Diff(want, got, compareSecrets); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

func testCreateAccountErrors(t *testing.T, s *fixture) {
	create(t, s, store.Account{ID: "acme", Name: "Straße É"})
	create(t, s, store.Account{ID: "other", Name: "unused"})
	tests := []struct {
		account store.Account
		want    error
		holder  string
	}{
		{store.Account{ID: "acme", Name: "x"}, store.ErrAccountExists, ""},
		{store.Account{ID: "new", Name: "STRASSE e\u0301"}, store.ErrNameTaken, "acme"},
		{store.Account{ID: "new", Name: "Acme"}, store.ErrNameTaken, "acme"},
		{store.Account{ID: "unused", Name: "new"}, store.ErrNameTaken, "other"},
		{store.Account{ID: "mine", Name: "Mine"}, nil, ""},
		{store.Account{ID: "long", Name: strings.Repeat("\u0390", 100)}, nil, ""}, // folds to three times as many characters
	}
	for _, test := range tests {
		got, err := s.CreateAccount(t.Context(), tenant, test.account)
		if !errors.Is(err, test.want) || err != nil && got.ID != "" {
			t.Errorf("create %+v: got %+v, %v, want %v", test.account, got, err, test.want)
		}
		if taken, ok := errors.AsType[*store.NameTakenError](err); ok != (test.holder != "") || ok && taken.HolderID != test.holder {
			t.Errorf("create %+v: taken is %+v, want %q", test.account, taken, test.holder)
		}
	}
	for _, id := range []string{"", strings.Repeat("a", 64)} {
		if _, err := s.CreateAccount(t.Context(), tenant, store.Account{ID: id, Name: "n" + id}); err == nil {
			t.Errorf("id %q is allowed", id)
		}
	}
}

func testUpdateAccount(t *testing.T, s *fixture) {
	first := create(t, s, store.Account{ID: "first", Name: "Primary", URL: "https://first.zendesk.com"})
	second := create(t, s, store.Account{ID: "second", Name: "Second"})
	refused := errors.New("refused")
	change := func(name string) func(*store.Account) error {
		return func(a *store.Account) error { a.Name = name; return nil }
	}
	tests := []struct {
		id, etag string
		change   func(*store.Account) error
		want     error
	}{
		{"none", "", change("x"), store.ErrNotFound},
		{"first", "stale", change("x"), store.ErrETagMismatch},
		{"first", "", change("second"), store.ErrNameTaken},
		{"first", "", func(*store.Account) error { return refused }, refused},
		{"first", first.ETag, change("PRIMARY"), nil},
		{"second", second.ETag, change("second"), nil},
		{"second", second.ETag, change("third"), store.ErrETagMismatch},
	}
	for i, test := range tests {
		if _, err := s.UpdateAccount(t.Context(), tenant, test.id, test.etag, test.change); !errors.Is(err, test.want) {
			t.Errorf("%d: got %v, want %v", i, err, test.want)
		}
	}

	updated, err := s.UpdateAccount(t.Context(), tenant, "first", "", func(a *store.Account) error {
		*a = store.Account{ID: "x", Name: "New", URL: "x", Incarnation: "x", ETag: "x", APIToken: &store.APIToken{Username: "u", Token: secret.New("t")}}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := store.Account{
		ID: "first", Name: "New", URL: first.URL, Incarnation: first.Incarnation, Default: true,
		APIToken: &store.APIToken{Username: "u", Token: secret.New("t")}, CreateTime: first.CreateTime, UpdateTime: updated.UpdateTime, ETag: updated.ETag,
	}
	if diff := cmp.Diff(want, updated, compareSecrets); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	create(t, s, store.Account{ID: "third", Name: "primary"}) // the old name is free
}

func testETag(t *testing.T, s *fixture) {
	a := create(t, s, store.Account{ID: "a", Name: "A", APIToken: &store.APIToken{Username: "u", Token: secret.New("1")}})
	b := create(t, s, store.Account{ID: "b", Name: "B"})
	tests := []struct {
		name   string
		change func(*store.Account)
		same   bool
	}{
		{"nothing", func(*store.Account) {}, true},
		{"check", func(a *store.Account) { a.Check = store.Check{Time: time.Unix(1, 0), OK: true} }, true},
		{"secret", func(a *store.Account) { a.APIToken.Token = secret.New("2") }, false},
		{"name", func(a *store.Account) { a.Name = "AA" }, false},
	}
	for _, test := range tests {
		before := a
		var err error
		a, err = s.UpdateAccount(t.Context(), tenant, "a", "", func(a *store.Account) error { test.change(a); return nil })
		if err != nil {
			t.Fatal(err)
		}
		if same := a.ETag == before.ETag; same != test.same || same != a.UpdateTime.Equal(before.UpdateTime) {
			t.Errorf("%s: etag the same %v, want %v; update time %v after %v", test.name, same, test.same, a.UpdateTime, before.UpdateTime)
		}
	}
	// The mark's move changes both accounts.
	got, err := s.UpdateAccount(t.Context(), tenant, "b", "", func(b *store.Account) error { b.Default = true; return nil })
	if err != nil {
		t.Fatal(err)
	}
	was, err := s.Account(t.Context(), tenant, "a")
	if err != nil {
		t.Fatal(err)
	}
	if got.ETag == b.ETag || was.ETag == a.ETag || was.Default || !got.Default {
		t.Errorf("after the move: %+v and %+v", was, got)
	}
}

func testAccountOf(t *testing.T, s *fixture) {
	account := create(t, s, store.Account{ID: "a", Name: "A", URL: "https://a.zendesk.com"})
	use := useOf(account)
	if got, err := s.AccountOf(t.Context(), tenant, use); err != nil || got.ID != "a" {
		t.Errorf("got %v, %v", got, err)
	}
	for _, change := range []func() error{
		func() error { return s.DeleteAccount(t.Context(), tenant, "a", "") },
		func() error {
			_, err := s.CreateAccount(t.Context(), tenant, store.Account{ID: "a", Name: "A"})
			return err
		},
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if got, err := s.AccountOf(t.Context(), tenant, use); !errors.Is(err, store.ErrNotFound) || got.ID != "" {
			t.Errorf("got %v, %v, want ErrNotFound", got, err)
		}
		view(t, s, "i", func(tx *store.InteractionTxn) error {
			if _, err := tx.AccountOf(use); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("in a transaction: got %v, want ErrNotFound", err)
			}
			return nil
		})
	}
}

// idOf is the id of an account that was found; empty: none was.
func idOf(account *store.Account, err error) (string, error) {
	if err != nil {
		return "", err
	}
	return account.ID, nil
}

func testFindAccount(t *testing.T, s *fixture) {
	create(t, s, store.Account{ID: "acme", Name: "Acme Europe"})
	create(t, s, store.Account{ID: "beta", Name: "Beta"})
	tests := map[string]string{
		"acme": "acme", "ACME EUROPE": "acme", "beta": "beta", "BETA": "beta", "ACME": "", "": "", strings.Repeat("x", 5000): "",
	}
	view(t, s, "i", func(tx *store.InteractionTxn) error {
		for text, want := range tests {
			if got, err := idOf(tx.FindAccount(text)); got != want || errors.Is(err, store.ErrNotFound) != (want == "") {
				t.Errorf("%.20q: got %q, %v, want %q", text, got, err, want)
			}
		}
		return nil
	})
}

func testListAccountsPages(t *testing.T, s *fixture) {
	var want []string
	for i := range 300 {
		id := fmt.Sprintf("a%03d", i)
		create(t, s, store.Account{ID: id, Name: "name " + id})
		want = append(want, id)
	}
	for _, limit := range []int{7, 100, 1000} {
		var got []string
		after, more := "", true
		for more {
			var page []store.Account
			var err error
			if page, more, err = s.ListAccounts(t.Context(), tenant, after, limit); err != nil {
				t.Fatal(err)
			}
			if len(page) > limit || more && len(page) < min(limit, 250) {
				t.Fatalf("limit %d: page of %d", limit, len(page))
			}
			for _, a := range page {
				got, after = append(got, a.ID), a.ID
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("limit %d (-want +got):\n%s", limit, diff)
		}
	}
}

// testAccountsModel runs random operations against a plain map.
func testAccountsModel(t *testing.T, s *fixture) {
	runs := 0
	rapid.Check(t, func(rt *rapid.T) {
		runs++
		m := accountsModel{t: t, s: s, tenant: fmt.Sprint("t", runs), accounts: make(map[string]store.Account)}
		rt.Repeat(map[string]func(*rapid.T){
			"create": m.create, "update": m.update, "delete": m.delete, "find": m.find, "": m.check,
		})
	})
}

type accountsModel struct {
	t        *testing.T
	s        *fixture
	tenant   string
	accounts map[string]store.Account
	markedID string
	stale    []string
}

var (
	ids   = rapid.SampledFrom([]string{"a", "b", "c", "d"})
	names = rapid.SampledFrom([]string{"a", "B", "Anna", "ANNA", "Ben", "Cleo", "d"})
)

// taken reports whether another account stands in the way of a name or an id.
func (m *accountsModel) taken(id, name string) bool {
	for _, a := range m.accounts {
		if a.ID != id && (strings.EqualFold(a.Name, name) || strings.EqualFold(a.ID, name) || strings.EqualFold(a.Name, id)) {
			return true
		}
	}
	return false
}

// drawETag draws none, the account's, or one of before.
func (m *accountsModel) drawETag(rt *rapid.T, id string) string {
	choices := []string{"", m.accounts[id].ETag}
	if len(m.stale) > 0 {
		choices = append(choices, rapid.SampledFrom(m.stale).Draw(rt, "stale"))
	}
	return rapid.SampledFrom(choices).Draw(rt, "etag")
}

func (m *accountsModel) create(rt *rapid.T) {
	a := store.Account{ID: ids.Draw(rt, "id"), Name: names.Draw(rt, "name"), Default: rapid.Bool().Draw(rt, "default")}
	var want error
	if _, exists := m.accounts[a.ID]; exists {
		want = store.ErrAccountExists
	} else if m.taken(a.ID, a.Name) {
		want = store.ErrNameTaken
	}
	got, err := m.s.CreateAccount(m.t.Context(), m.tenant, a)
	if !errors.Is(err, want) {
		rt.Fatalf("create %+v: got %v, want %v", a, err, want)
	}
	if err == nil {
		m.put(got, a.Default || len(m.accounts) == 0)
	}
}

func (m *accountsModel) put(a store.Account, marked bool) {
	if marked && m.markedID != a.ID {
		if was, ok := m.accounts[m.markedID]; ok {
			m.stale = append(m.stale, was.ETag)
			was.Default, was.ETag = false, strings.TrimSuffix(was.ETag, "-default")
			m.accounts[was.ID] = was
		}
		m.markedID = a.ID
	}
	m.accounts[a.ID] = a
}

func (m *accountsModel) update(rt *rapid.T) {
	id, name, mark := ids.Draw(rt, "id"), names.Draw(rt, "name"), rapid.Bool().Draw(rt, "default")
	etag := m.drawETag(rt, id)
	was, exists := m.accounts[id]
	var want error
	switch {
	case !exists:
		want = store.ErrNotFound
	case etag != "" && etag != was.ETag:
		want = store.ErrETagMismatch
	case m.taken(id, name):
		want = store.ErrNameTaken
	}
	got, err := m.s.UpdateAccount(m.t.Context(), m.tenant, id, etag, func(a *store.Account) error {
		a.Name, a.Default = name, mark
		return nil
	})
	if !errors.Is(err, want) {
		rt.Fatalf("update %q to %q, %v: got %v, want %v", id, name, mark, err, want)
	}
	if err != nil {
		return
	}
	changed := was.Name != name || mark && !was.Default
	if changed == (got.ETag == was.ETag) {
		rt.Fatalf("changed %v, and etag %q after %q", changed, got.ETag, was.ETag)
	}
	if changed {
		m.stale = append(m.stale, was.ETag)
	}
	was.Name, was.ETag, was.UpdateTime = name, got.ETag, got.UpdateTime
	was.Default = was.Default || mark
	m.put(was, mark)
}

func (m *accountsModel) delete(rt *rapid.T) {
	id := ids.Draw(rt, "id")
	etag := m.drawETag(rt, id)
	was, exists := m.accounts[id]
	var want error
	switch {
	case !exists:
		want = store.ErrNotFound
	case etag != "" && etag != was.ETag:
		want = store.ErrETagMismatch
	case was.Default && len(m.accounts) > 1:
		want = store.ErrDefaultInUse
	}
	if err := m.s.DeleteAccount(m.t.Context(), m.tenant, id, etag); !errors.Is(err, want) {
		rt.Fatalf("delete %q: got %v, want %v", id, err, want)
	}
	if want == nil {
		delete(m.accounts, id)
		m.stale = append(m.stale, was.ETag)
		if was.Default {
			m.markedID = ""
		}
	}
}

func (m *accountsModel) find(rt *rapid.T) {
	text := names.Draw(rt, "text")
	want := ""
	for _, a := range m.accounts {
		if strings.EqualFold(a.Name, text) {
			want = a.ID
		}
	}
	if _, exists := m.accounts[text]; exists {
		want = text
	}
	err := m.s.ViewInteraction(m.t.Context(), m.tenant, "i", func(tx *store.InteractionTxn) error {
		if got, err := idOf(tx.FindAccount(text)); got != want || errors.Is(err, store.ErrNotFound) != (want == "") {
			rt.Fatalf("find %q: got %q, %v, want %q", text, got, err, want)
		}
		if got, err := idOf(tx.DefaultAccount()); got != m.markedID || errors.Is(err, store.ErrNotFound) != (m.markedID == "") {
			rt.Fatalf("default: got %q, %v, want %q", got, err, m.markedID)
		}
		return nil
	})
	if err != nil {
		rt.Fatal(err)
	}
}

func (m *accountsModel) check(rt *rapid.T) {
	got, more, err := m.s.ListAccounts(m.t.Context(), m.tenant, "", 10)
	if err != nil || more {
		rt.Fatalf("list: %v, more %v", err, more)
	}
	var want []store.Account
	for _, id := range slices.Sorted(maps.Keys(m.accounts)) {
		want = append(want, m.accounts[id])
	}
	if diff := cmp.Diff(want, got, compareSecrets); diff != "" {
		rt.Fatalf("accounts (-want +got):\n%s", diff)
	}
}

// All tenants are found, whatever is stored of them, and nothing that belongs to none.
func testListTenants(t *testing.T, s *fixture) {
	if tenants, err := s.Tenants(t.Context()); err != nil || len(tenants) != 0 {
		t.Errorf("tenants of an empty store: %q, %v", tenants, err)
	}
	complete(t, s, tenant, "i", store.Activity{ID: "a1", State: store.ActivityPending}) // an interaction alone makes a tenant
	for _, name := range []string{"acme-2", "0", "zz", "acme2"} {
		for _, id := range []string{"one", "two"} {
			if _, err := s.CreateAccount(t.Context(), name, store.Account{ID: id, Name: id}); err != nil {
				t.Fatal(err)
			}
		}
	}
	tenants, err := s.Tenants(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"0", "acme", "acme-2", "acme2", "zz"}, tenants); diff != "" {
		t.Errorf("tenants differ (-want +got):\n%s", diff)
	}
}

// testTenants looks for what is stored under another tenant's name, and uses names that no tenant can have.
func testTenants(t *testing.T, s *fixture) {
	create(t, s, store.Account{ID: "a", Name: "A"})
	complete(t, s, tenant, "i", store.Activity{ID: "a1", State: store.ActivityPending})
	if _, err := s.Account(t.Context(), "other", "a"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("account of another tenant: got %v, want ErrNotFound", err)
	}
	if _, err := s.Activity(t.Context(), "other", "a1"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("activity of another tenant: got %v, want ErrNotFound", err)
	}
	err := s.ViewInteraction(t.Context(), "other", "i", func(tx *store.InteractionTxn) error {
		if tx.Exists() {
			t.Error("interaction of another tenant is there")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	nothing := func(*store.InteractionTxn) error { return nil }
	for _, name := range []string{"", "!", "Acme", "a/b", strings.Repeat("a", 64)} {
		_, stageErr := s.StageRecords(t.Context(), name, "i", nil)
		_, activityErr := s.Activity(t.Context(), name, "a1")
		_, updateErr := s.UpdateActivity(t.Context(), name, "a1", func(*store.Activity) error { return nil })
		_, _, listErr := s.ListActivities(t.Context(), name, store.ActivityFilter{}, "", 1)
		_, _, ofErr := s.ListActivities(t.Context(), name, store.ActivityFilter{InteractionID: "i"}, "", 1)
		_, deliveredErr := s.DeliveredTo(t.Context(), name, "x@example.com", time.Time{})
		_, watchErr := s.WatchDelivered(t.Context(), name, "x@example.com")
		_, watchAccountErr := s.WatchAccount(t.Context(), name, "a1")
		for _, err := range []error{
			activityErr, updateErr, listErr, ofErr, deliveredErr, watchErr, watchAccountErr,
			stageErr, s.UpdateInteraction(t.Context(), name, "i", nothing), s.ViewInteraction(t.Context(), name, "i", nothing),
		} {
			if err == nil {
				t.Errorf("tenant %q is allowed", name)
			}
		}
	}
}

// testWatchAccount looks as whoever waits for an account does. It waits for ever when a change is missed.
func testWatchAccount(t *testing.T, s *fixture) {
	tokens, err := s.WatchAccount(t.Context(), tenant, "a")
	if err != nil {
		t.Fatal(err)
	}
	name := func() string {
		a, err := s.Account(t.Context(), tenant, "a")
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			t.Fatal(err)
		}
		return a.Name
	}
	rename := func(a *store.Account) error {
		a.Name = "B"
		return nil
	}
	for _, step := range []struct {
		want   string
		change func() error
	}{
		{"A", func() error {
			_, err := s.CreateAccount(t.Context(), tenant, store.Account{ID: "a", Name: "A"})
			return err
		}},
		{"B", func() error { _, err := s.UpdateAccount(t.Context(), tenant, "a", "", rename); return err }},
		{"", func() error { return s.DeleteAccount(t.Context(), tenant, "a", "") }},
	} {
		if err := step.change(); err != nil {
			t.Fatal(err)
		}
		for known := false; !known; known = name() == step.want {
			<-tokens
		}
	}
}

func testContextEnds(t *testing.T, s *fixture) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.CreateAccount(ctx, tenant, store.Account{ID: "a", Name: "A"}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

func testClose(t *testing.T, s *fixture) {
	create(t, s, store.Account{ID: "a", Name: "A"})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Account(t.Context(), tenant, "a"); !errors.Is(err, store.ErrClosed) {
		t.Errorf("closed store: got %v, want ErrClosed", err)
	}
}
