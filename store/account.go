package store

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
	"github.com/scenarioblocks/zendeskblocks/store/secret"
)

// maxAccountIDBytes is the length of the longest account id.
const maxAccountIDBytes = 63

// Account is an integration account: a Zendesk and the credentials to use it with.
type Account struct {
	ID            string      `json:"id"`                        // unique in the tenant; 1 to 63 bytes; chosen at creation, then fixed
	Name          string      `json:"name"`                      // unique in the tenant without regard to case; never another account's ID
	URL           string      `json:"url"`                       // origin of the Zendesk; chosen at creation, then fixed
	DefaultRegion string      `json:"default_region,omitempty"`  // ISO 3166 region of telephone numbers without country code
	MaxLimitShare int         `json:"max_limit_share,omitempty"` // per cent of the Zendesk's limit that it may use; 0: 100
	APIAccess     APIAccess   `json:"api_access,omitzero"`       // what may be asked in the scenario's own words
	PhoneFields   []string    `json:"phone_fields,omitempty"`    // keys of custom user fields that hold telephone numbers
	Incarnation   string      `json:"incarnation"`               // random; tells the account from another one that had its ID
	Default       bool        `json:"-"`                         // one account of a tenant has the mark; a tenant's first account gets it
	APIToken      *APIToken   `json:"api_token,omitempty"`
	OAuthToken    *OAuthToken `json:"oauth_token,omitempty"` // if there is one, it is in force
	Check         Check       `json:"check,omitzero"`
	CreateTime    time.Time   `json:"create_time"`
	UpdateTime    time.Time   `json:"update_time"` // of the last change of anything but Check
	ETag          string      `json:"-"`           // changes with every change of anything but Check
}

// Use is what is remembered of the account where it was chosen.
func (a *Account) Use(selection Selection) AccountUse {
	return AccountUse{AccountID: a.ID, Incarnation: a.Incarnation, Name: a.Name, URL: a.URL, Selection: selection}
}

// APIAccess is what scenarios may ask a Zendesk in their own words. Zero: GET and HEAD, everywhere, in nobody's name.
type APIAccess struct {
	Methods      []string `json:"methods,omitempty"`       // empty: GET and HEAD
	PathPrefixes []string `json:"path_prefixes,omitempty"` // by whole segments, below /api/v2/; empty: everywhere
	OnBehalfOf   bool     `json:"on_behalf_of,omitempty"`  // also in the name of end users
}

// APIToken is a Zendesk API token and the user that it acts as.
type APIToken struct {
	Username string       `json:"username"`
	Token    secret.Value `json:"-"`
}

// OAuthToken is an OAuth access token and what is known of it. Zero times: not known.
type OAuthToken struct {
	AccessToken     secret.Value `json:"-"`
	ClientID        string       `json:"client_id,omitempty"`
	Scopes          []string     `json:"scopes,omitempty"`           // granted
	RequestedScopes []string     `json:"requested_scopes,omitempty"` // asked for
	IssueTime       time.Time    `json:"issue_time,omitzero"`
	ExpireTime      time.Time    `json:"expire_time,omitzero"`
	Renewal         *Renewal     `json:"renewal,omitempty"` // nil: it cannot be renewed without a person
}

// Renewal is what it takes to get a successor of an access token.
type Renewal struct {
	Grant             string       `json:"grant"` // OAuth grant type
	ClientSecret      secret.Value `json:"-"`
	RefreshToken      secret.Value `json:"-"` // zero: the grant needs none
	RefreshExpireTime time.Time    `json:"refresh_expire_time,omitzero"`
	RefuseTime        time.Time    `json:"refuse_time,omitzero"` // when Zendesk last refused to renew the token; zero: it has not
	Refusal           string       `json:"refusal,omitempty"`    // why it did
}

// Check is what Zendesk said when it was last asked with the credential in force. Zero: it has not been asked.
type Check struct {
	Time   time.Time `json:"time"`
	OK     bool      `json:"ok"`
	Reason string    `json:"reason,omitempty"` // why not OK
	Role   string    `json:"role,omitempty"`   // of the user that the credential acts as; empty: not told
}

// secrets are all that the account holds. The names are part of the stored form.
func (a *Account) secrets() map[string]*secret.Value {
	all := make(map[string]*secret.Value)
	if t := a.APIToken; t != nil {
		all["api_token"] = &t.Token
	}
	if t := a.OAuthToken; t != nil {
		all["access_token"] = &t.AccessToken
		if r := t.Renewal; r != nil {
			all["client_secret"], all["refresh_token"] = &r.ClientSecret, &r.RefreshToken
		}
	}
	return all
}

// accountRecord is the stored form of an account.
type accountRecord struct {
	Account  Account           `json:"account"`
	Secrets  map[string]string `json:"secrets,omitempty"`
	Revision string            `json:"revision"` // random; new when anything but Account.Check changes
}

func (r *accountRecord) encode() ([]byte, error) {
	r.Secrets = make(map[string]string)
	for name, value := range r.Account.secrets() {
		r.Secrets[name] = value.Reveal()
	}
	return encodeJSON(r)
}

func (r *accountRecord) decode(value []byte) error {
	if err := decodeJSON(value, r); err != nil {
		return err
	}
	for name, value := range r.Account.secrets() {
		*value = secret.New(r.Secrets[name])
	}
	return nil
}

// mark tells an account whether it is the default.
func (r *accountRecord) mark(isDefault bool) {
	r.Account.Default = isDefault
	r.Account.ETag = r.Revision
	if isDefault {
		r.Account.ETag += "-default" // the mark moves without a write to the account that loses it
	}
}

// content is what ETag and UpdateTime are about, encoded.
func (r *accountRecord) content() ([]byte, error) {
	copied := accountRecord{Account: r.Account}
	copied.Account.Check, copied.Account.UpdateTime = Check{}, time.Time{}
	return copied.encode()
}

// NameTakenError is an [ErrNameTaken] that says who has the name.
type NameTakenError struct {
	AccountID string // of the account that was to have it
	HolderID  string // of the one that has it, as its name or id
}

func (e *NameTakenError) Error() string {
	return fmt.Sprintf("account %q: %v: %q", e.AccountID, ErrNameTaken, e.HolderID)
}

// Is makes it an ErrNameTaken.
func (e *NameTakenError) Is(target error) bool { return target == ErrNameTaken }

// CreateAccount creates an account. It sets Incarnation, ETag and the times itself. With Default set, or as the tenant's
// first, the account gets the mark. Errors: [ErrAccountExists], [*NameTakenError], [*QuotaError].
func (s *Store) CreateAccount(ctx context.Context, tenant string, a Account, notes ...Note) (Account, error) {
	if a.ID == "" || len(a.ID) > maxAccountIDBytes {
		return Account{}, fmt.Errorf("account id %q does not have 1 to %d bytes", a.ID, maxAccountIDBytes)
	}
	now := s.time()
	a.Incarnation, a.CreateTime, a.UpdateTime = newID(), now, now
	record := accountRecord{Account: a, Revision: newID()}
	value, err := record.encode()
	if err != nil {
		return Account{}, err
	}
	if err := s.loadUsage(ctx, tenant); err != nil {
		return Account{}, err
	}
	var created accountRecord
	n, noted := 0, s.noted(notes)
	err = s.update(ctx, tenant, func(w *writing) error {
		key, nameKey := accountKey(tenant, a.ID), s.vault.accountNameKey(tenant, a.Name)
		values, err := w.get(key, nameKey, s.vault.accountNameKey(tenant, a.ID), accountKey(tenant, asID(foldName(a.Name))),
			defaultKey(tenant), accountCountKey(tenant))
		if err != nil {
			return err
		}
		same, name, idAsName, nameAsID, mark, count := values[0], values[1], values[2], values[3], values[4], values[5]
		switch {
		case same != nil:
			return fmt.Errorf("account %q: %w", a.ID, ErrAccountExists)
		case name != nil:
			return &NameTakenError{a.ID, string(name)}
		case idAsName != nil:
			return &NameTakenError{a.ID, string(idAsName)}
		case nameAsID != nil:
			return &NameTakenError{a.ID, asID(foldName(a.Name))}
		}
		if a.Default || mark == nil {
			mark = []byte(a.ID)
			if err := w.put(defaultKey(tenant), mark); err != nil {
				return err
			}
		}
		if n, err = parseCount(count); err != nil {
			return err
		}
		if err := w.changeCount(count, 1); err != nil {
			return err
		}
		if err := w.put(nameKey, []byte(a.ID)); err != nil {
			return err
		}
		if created, err = readAccount(value, string(mark) == a.ID); err != nil {
			return err
		}
		if err := w.put(key, value); err != nil {
			return err
		}
		more := w.txn.total()
		more.Accounts = 1
		if err := s.counter.admit(tenant, int64(n), demand{more: more}); err != nil {
			return err
		}
		return noted(w)
	})
	if err != nil {
		return Account{}, err
	}
	s.warnOfQuota(ctx, tenant, int64(n)+1)
	return created.Account, nil
}

func (r *accountRecord) copyInto(other *accountRecord) {
	*other = *r
	a := &other.Account
	a.PhoneFields = slices.Clone(a.PhoneFields)
	a.APIAccess.Methods, a.APIAccess.PathPrefixes = slices.Clone(a.APIAccess.Methods), slices.Clone(a.APIAccess.PathPrefixes)
	if a.APIToken != nil {
		a.APIToken = new(*a.APIToken)
	}
	if a.OAuthToken != nil {
		token := *a.OAuthToken
		token.Scopes, token.RequestedScopes = slices.Clone(token.Scopes), slices.Clone(token.RequestedScopes)
		if token.Renewal != nil {
			token.Renewal = new(*token.Renewal)
		}
		a.OAuthToken = &token
	}
	other.Secrets = nil // they stand in the account
}

func readAccount(value []byte, isDefault bool) (r accountRecord, err error) {
	err = r.decode(value)
	r.mark(isDefault)
	return r, err
}

// changeCount adds to the number of accounts, which was read as count.
func (w *writing) changeCount(count []byte, by int) error {
	n, err := parseCount(count)
	if err != nil {
		return err
	}
	if n += by; n == 0 {
		w.txn.Delete(accountCountKey(w.tenant))
		return nil
	}
	return w.put(accountCountKey(w.tenant), strconv.AppendInt(nil, int64(n), 10))
}

func parseCount(count []byte) (int, error) {
	if count == nil {
		return 0, nil
	}
	return strconv.Atoi(string(count))
}

// Account returns an account. Errors: [ErrNotFound].
func (s *Store) Account(ctx context.Context, tenant, id string) (Account, error) {
	return s.lookAtAccount(ctx, tenant, func(r *reading) (*Account, error) { return r.account(id) })
}

// AccountOf returns the account that something used, as it is now. Errors: [ErrNotFound] when it has been deleted, also
// when another account has its id now.
func (s *Store) AccountOf(ctx context.Context, tenant string, use AccountUse) (Account, error) {
	return s.lookAtAccount(ctx, tenant, func(r *reading) (*Account, error) { return r.AccountOf(use) })
}

// ListAccounts returns accounts in the order of their ids, from the first one behind the id after: limit of them, or
// fewer when limit is beyond what the engine gives at once (some 250). more tells that others follow.
func (s *Store) ListAccounts(ctx context.Context, tenant, after string, limit int) (accounts []Account, more bool, err error) {
	limit = min(limit, kv.MaxScanLimit)
	all := accountsKey(tenant)
	start := all
	if after != "" {
		start = kv.PrefixEnd(accountKey(tenant, after))
	}
	err = s.view(ctx, tenant, func(r *reading, scanner kv.Reader) error {
		accounts, more = nil, false
		values, err := r.get(defaultKey(tenant))
		if err != nil {
			return err
		}
		entries, cut, err := scanner.Scan(kv.Range{Start: start, End: kv.PrefixEnd(all), Limit: limit})
		if more = cut; err != nil {
			return err
		}
		for _, entry := range entries {
			value, err := s.vault.open(entry.Key, entry.Value)
			if err != nil {
				return err
			}
			record, err := readAccount(value, bytes.Equal(entry.Key, accountKey(tenant, string(values[0]))))
			if err != nil {
				return err
			}
			accounts = append(accounts, record.Account)
		}
		return nil
	})
	return accounts, more, err
}

// Tenants returns the tenants that something is stored for, in order.
func (s *Store) Tenants(ctx context.Context) ([]string, error) {
	var tenants []string
	for after := ""; ; {
		next, err := s.nextTenant(ctx, after)
		if err != nil || next == "" {
			return tenants, err
		}
		tenants, after = append(tenants, next), next
	}
}

// TenantUsage is a tenant that has something stored, and what that is.
type TenantUsage struct {
	Tenant string
	Usage  Usage
}

// ListTenants returns the tenants that have something stored, in order of their names, from the first one behind a name: limit
// of them, or fewer. more tells that others follow.
func (s *Store) ListTenants(ctx context.Context, after string, limit int) (tenants []TenantUsage, more bool, err error) {
	for {
		next, err := s.nextTenant(ctx, after)
		if err != nil || next == "" || len(tenants) == limit {
			return tenants, next != "", err
		}
		used, _, err := s.Usage(ctx, next)
		if err != nil {
			return nil, false, err
		}
		tenants, after = append(tenants, TenantUsage{next, used}), next
	}
}

// nextTenant finds the first tenant behind a name; empty: there is none. One that has nothing but a count has nothing.
func (s *Store) nextTenant(ctx context.Context, after string) (string, error) {
	after = cmp.Or(after, "!") // what belongs to no tenant stands before them all
	for {
		entries, _, err := s.scan(ctx, kv.Range{Start: kv.PrefixEnd(kv.Key(after)), Limit: 2, KeysOnly: true})
		if err != nil || len(entries) == 0 {
			return "", err
		}
		path, err := kv.Split(entries[0].Key)
		if err != nil {
			return "", fmt.Errorf("key %q: %w: %w", entries[0].Key, err, ErrDamaged)
		}
		after = path[0]
		if counted := len(entries) == 1 || !bytes.HasPrefix(entries[1].Key, kv.Key(after)); !counted || !bytes.Equal(entries[0].Key, usageKey(after)) {
			return after, nil
		}
	}
}

// UpdateAccount changes an account by change, whose error comes back as it is. change may run several times. With Default
// set, the mark moves to the account in the same transaction; clearing Default does nothing, since a tenant that has
// accounts has a default one. What change does to ID, URL, Incarnation, ETag and the times does not count. An etag that
// is not empty must be the account's. Errors: [ErrNotFound], [ErrETagMismatch], [*NameTakenError].
func (s *Store) UpdateAccount(ctx context.Context, tenant, id, etag string, change func(*Account) error, notes ...Note) (Account, error) {
	revision, now, noted := newID(), s.time(), s.noted(notes)
	var updated accountRecord
	err := s.update(ctx, tenant, func(w *writing) error {
		record, err := w.accountRecord(id)
		if err != nil {
			return err
		}
		updated = *record
		was := updated.Account
		if etag != "" && etag != was.ETag {
			return fmt.Errorf("account %q: %w", id, ErrETagMismatch)
		}
		before, err := updated.content()
		if err != nil {
			return err
		}
		next := &updated.Account
		if err := change(next); err != nil {
			return err
		}
		next.ID, next.URL, next.Incarnation = was.ID, was.URL, was.Incarnation
		next.CreateTime, next.UpdateTime = was.CreateTime, was.UpdateTime
		next.Default = next.Default || was.Default
		if err := w.rename(id, was.Name, next.Name); err != nil {
			return err
		}
		if next.Default && !was.Default {
			if err := w.put(defaultKey(tenant), []byte(id)); err != nil {
				return err
			}
		}
		after, err := updated.content()
		if err != nil {
			return err
		}
		if next.Default != was.Default || !bytes.Equal(before, after) {
			next.UpdateTime, updated.Revision = now, revision
		}
		value, err := updated.encode()
		if err != nil {
			return err
		}
		if updated, err = readAccount(value, next.Default); err != nil {
			return err
		}
		if err := w.put(accountKey(tenant, id), value); err != nil {
			return err
		}
		return noted(w)
	})
	if err != nil {
		return Account{}, err
	}
	return updated.Account, nil
}

// rename gives an account another name in the index of names.
func (w *writing) rename(id, from, to string) error {
	folded := foldName(to)
	if folded == foldName(from) {
		return nil
	}
	fromKey, toKey := w.vault.accountNameKey(w.tenant, from), w.vault.accountNameKey(w.tenant, to)
	values, err := w.get(toKey, accountKey(w.tenant, asID(folded)), fromKey)
	if err != nil {
		return err
	}
	if values[0] != nil {
		return &NameTakenError{id, string(values[0])}
	}
	if values[1] != nil && folded != id {
		return &NameTakenError{id, folded}
	}
	w.txn.Delete(fromKey)
	return w.put(toKey, []byte(id))
}

// WatchAccount sends a token after an account has changed, has been created or deleted, in whichever process; see
// [Store.WatchDelivered].
func (s *Store) WatchAccount(ctx context.Context, tenant, id string) (<-chan struct{}, error) {
	if err := checkTenant(tenant); err != nil {
		return nil, err
	}
	return s.engine.Watch(ctx, accountKey(tenant, id))
}

// DeleteAccount deletes an account. An etag that is not empty must be the account's. Errors: [ErrNotFound],
// [ErrETagMismatch], and [ErrDefaultInUse] for the default account while the tenant has others.
func (s *Store) DeleteAccount(ctx context.Context, tenant, id, etag string, notes ...Note) error {
	noted := s.noted(notes)
	return s.update(ctx, tenant, func(w *writing) error {
		a, err := w.account(id)
		if err != nil {
			return err
		}
		if etag != "" && etag != a.ETag {
			return fmt.Errorf("account %q: %w", id, ErrETagMismatch)
		}
		values, err := w.get(accountCountKey(tenant), s.vault.accountNameKey(tenant, a.Name))
		if err != nil {
			return err
		}
		count, err := parseCount(values[0])
		if err != nil {
			return err
		}
		if a.Default {
			if count > 1 {
				return fmt.Errorf("account %q: %w", id, ErrDefaultInUse)
			}
			w.txn.Delete(defaultKey(tenant))
		}
		w.txn.Delete(accountKey(tenant, id))
		w.txn.Delete(w.vault.accountNameKey(tenant, a.Name))
		if err := w.changeCount(values[0], -1); err != nil {
			return err
		}
		return noted(w)
	})
}

// FindAccount returns the account that has this id, or else this name. Errors: [ErrNotFound].
func (s *Store) FindAccount(ctx context.Context, tenant, idOrName string) (Account, error) {
	return s.lookAtAccount(ctx, tenant, func(r *reading) (*Account, error) { return r.FindAccount(idOrName) })
}

// lookAtAccount returns what fn finds.
func (s *Store) lookAtAccount(ctx context.Context, tenant string, fn func(*reading) (*Account, error)) (a Account, err error) {
	err = s.look(ctx, tenant, func(r *reading) error {
		found, err := fn(r)
		if err == nil {
			a = *found
		}
		return err
	})
	return a, err
}

// account returns an account, or ErrNotFound.
func (r *reading) account(id string) (*Account, error) {
	record, err := r.accountRecord(id)
	if err != nil {
		return nil, err
	}
	return &record.Account, nil
}

// accountRecord returns an account's record, or ErrNotFound.
func (r *reading) accountRecord(id string) (*accountRecord, error) {
	key := accountKey(r.tenant, asID(id))
	values, err := r.kv.Get(key, defaultKey(r.tenant))
	if err != nil {
		return nil, err
	}
	return r.decodeAccount(id, key, values[0], values[1])
}

// decodeAccount decodes an account, or returns ErrNotFound, from its sealed record and the mark of the default.
func (r *reading) decodeAccount(id string, key, sealed, mark []byte) (*accountRecord, error) {
	if sealed == nil {
		return nil, fmt.Errorf("account %q: %w", id, ErrNotFound)
	}
	mark, err := r.vault.openKnown(defaultKey(r.tenant), mark)
	if err != nil {
		return nil, err
	}
	record := new(accountRecord)
	if err := decodeKnown(r.vault, key, sealed, record); err != nil {
		return nil, err
	}
	record.mark(string(mark) == id)
	return record, nil
}

// FindAccount returns the account that has a text as its id, else the one that has it as its name, without regard to
// case. Errors: [ErrNotFound].
func (r *reading) FindAccount(idOrName string) (*Account, error) {
	key := accountKey(r.tenant, asID(idOrName))
	values, err := r.kv.Get(key, defaultKey(r.tenant))
	if err != nil {
		return nil, err
	}
	if values[0] == nil {
		// Only now: many transactions that rely on the same missing key would wait for each other in a database.
		nameKey := r.vault.accountNameKey(r.tenant, idOrName)
		named, err := r.kv.Get(nameKey)
		if err != nil {
			return nil, err
		}
		if named[0] != nil {
			id, err := r.vault.openKnown(nameKey, named[0])
			if err != nil {
				return nil, err
			}
			return r.accountReferred(string(id))
		}
	}
	record, err := r.decodeAccount(idOrName, key, values[0], values[1])
	if err != nil {
		return nil, err
	}
	return &record.Account, nil
}

// accountReferred returns the account that an index or the mark names: it is there as long as they are.
func (r *reading) accountReferred(id string) (*Account, error) {
	account, err := r.account(id)
	if errors.Is(err, ErrNotFound) {
		err = missingPart(fmt.Sprintf("account %q", id))
	}
	return account, err
}

// DefaultAccount returns the tenant's default account. Errors: [ErrNotFound] when the tenant has no accounts.
func (r *reading) DefaultAccount() (*Account, error) {
	values, err := r.getKnown(defaultKey(r.tenant), accountCountKey(r.tenant))
	switch {
	case err != nil:
		return nil, err
	case values[0] == nil && values[1] != nil:
		return nil, missingPart("the mark of the default account")
	case values[0] == nil:
		return nil, fmt.Errorf("default account: %w", ErrNotFound)
	}
	return r.accountReferred(string(values[0]))
}

// AccountOf returns the account that something used, as it is now. Errors: [ErrNotFound] when it has been deleted, also
// when another account has its id now.
func (r *reading) AccountOf(use AccountUse) (*Account, error) {
	account, err := r.account(use.AccountID)
	if err == nil && account.Incarnation != use.Incarnation {
		return nil, fmt.Errorf("account %q of then: %w", use.AccountID, ErrNotFound)
	}
	return account, err
}

// asID returns a text that may be an account id, and else one that no account has: keys must not grow with any text.
func asID(text string) string {
	if len(text) > maxAccountIDBytes {
		return ""
	}
	return text
}

// DefaultAccount returns the tenant's default account. Errors: [ErrNotFound] when the tenant has no accounts.
func (s *Store) DefaultAccount(ctx context.Context, tenant string) (Account, error) {
	return s.lookAtAccount(ctx, tenant, (*reading).DefaultAccount)
}
