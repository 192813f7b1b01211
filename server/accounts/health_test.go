package accounts

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/auth"
	"github.com/scenarioblocks/zendeskblocks/server/credentials"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/server/writer"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/store/keyfile"
	"github.com/scenarioblocks/zendeskblocks/store/kv"
	"github.com/scenarioblocks/zendeskblocks/store/kv/boltkv"
	"github.com/scenarioblocks/zendeskblocks/store/secret"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/limit"
)

const (
	unknown   = zendeskv1.HealthState_HEALTH_STATE_UNKNOWN
	healthy   = zendeskv1.HealthState_HEALTH_STATE_HEALTHY
	limited   = zendeskv1.HealthState_HEALTH_STATE_LIMITED
	failing   = zendeskv1.HealthState_HEALTH_STATE_FAILING
	needsAuth = zendeskv1.HealthState_HEALTH_STATE_NEEDS_AUTHORIZATION
)

func TestHealthState(t *testing.T) {
	held := limit.Limits{PerMinute: 200, LimitedUntil: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)}
	for name, test := range map[string]struct {
		known  credentials.Health
		heldBy store.FailureReason
		want   zendeskv1.HealthState
	}{
		"never asked":               {credentials.Health{Credential: credentials.StateUntested}, "", unknown},
		"asked before the start":    {credentials.Health{Credential: credentials.StateOK, LastSuccess: time.Now()}, "", unknown},
		"one failure":               {credentials.Health{Credential: credentials.StateOK, LastFailure: new(store.Failure)}, "", unknown},
		"answers":                   {credentials.Health{Credential: credentials.StateOK, Answers: true}, "", healthy},
		"answers, limit known":      {credentials.Health{Answers: true, Limits: limit.Limits{PerMinute: 200}}, "", healthy},
		"answers, has failed":       {credentials.Health{Answers: true, LastFailure: new(store.Failure)}, "", healthy},
		"token ends soon":           {credentials.Health{Credential: credentials.StateExpiring, Answers: true}, "", healthy},
		"throttled in a row":        {credentials.Health{Answers: true, Throttled: true}, "", limited},
		"limit used up":             {credentials.Health{Answers: true, Limits: held}, "", limited},
		"limit used up, not asked":  {credentials.Health{Limits: held}, "", limited},
		"activities wait for it":    {credentials.Health{Answers: true}, store.ReasonRateLimited, limited},
		"ill":                       {credentials.Health{Ill: true}, "", failing},
		"ill, has answered":         {credentials.Health{Answers: true, Ill: true}, "", failing},
		"an endpoint is left alone": {credentials.Health{Answers: true, Failing: []string{"search"}}, "", failing},
		"activities are held":       {credentials.Health{Answers: true}, store.ReasonTimeout, failing},
		"held, not asked":           {credentials.Health{}, store.ReasonAccessDenied, failing},
		"ill, limit used up":        {credentials.Health{Ill: true, Limits: held}, "", failing},
		"throttled, and an endpoint is left alone": {
			credentials.Health{Throttled: true, Failing: []string{"search"}}, store.ReasonRateLimited, failing,
		},
		"throttled, and activities are held": {credentials.Health{Throttled: true}, store.ReasonNotFound, failing},
		"needs a person":                     {credentials.Health{Credential: credentials.StateNeedsAuthorization}, "", needsAuth},
		"needs a person, whatever else": {
			credentials.Health{Credential: credentials.StateNeedsAuthorization, Answers: true, Ill: true, Limits: held, Failing: []string{"search"}},
			store.ReasonCredentialsRejected, needsAuth,
		},
	} {
		if got := healthStates[test.known.Condition(test.heldBy)]; got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

// Each state is ill or well; new ones have to be decided on.
func TestIsIll(t *testing.T) {
	want := map[zendeskv1.HealthState]bool{
		zendeskv1.HealthState_HEALTH_STATE_UNSPECIFIED: false,
		unknown: false, healthy: false, limited: true, failing: true, needsAuth: true,
	}
	for number, name := range zendeskv1.HealthState_name {
		state := zendeskv1.HealthState(number)
		if ill, decided := want[state]; !decided || isIll(state) != ill {
			t.Errorf("%s: ill is %t", name, isIll(state))
		}
	}
}

// newService makes a service over an empty store; nothing runs in its background.
func newService(t testing.TB) (*Service, *store.Store) {
	t.Helper()
	st, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "data.db")})
	must(t, err)
	t.Cleanup(func() { must(t, st.Close()) })
	return serviceOver(t, st), st
}

func serviceOver(t testing.TB, st *store.Store) *Service {
	t.Helper()
	transport, err := zendeskapi.NewTransport(zendeskapi.TransportConfig{})
	must(t, err)
	t.Cleanup(transport.Close)
	log := slog.New(slog.DiscardHandler)
	keeper := credentials.New(credentials.Config{Store: st, Transport: transport, Log: log, Now: time.Now})
	w := writer.New(writer.Config{Store: st, Credentials: keeper, Log: log, Now: time.Now})
	return New(Config{Store: st, Credentials: keeper, Writer: w, Now: time.Now})
}

// createAccounts creates accounts of the default tenant, numbered; those that are ill have no credential.
func createAccounts(t testing.TB, st *store.Store, n int, ill func(int) bool) {
	t.Helper()
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() {
			a := store.Account{ID: accountID(i), Name: fmt.Sprint("Account ", i), URL: "https://acme.zendesk.com"}
			if !ill(i) {
				a.APIToken = &store.APIToken{Username: "ann@example.com", Token: secret.New("t0ken")}
			}
			if _, err := st.CreateAccount(t.Context(), "default", a); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}

func accountID(i int) string { return fmt.Sprintf("a%05d", i) }

// asDefault is a context of a caller of the default tenant.
func asDefault(ctx context.Context) context.Context {
	return rpc.WithCaller(ctx, auth.Caller{Tenant: "default"})
}

// listPages lists accounts, and returns their ids, page by page.
func listPages(t *testing.T, service *Service, size int32, onlyIll bool) (pages [][]string) {
	t.Helper()
	req := &zendeskv1.ListAccountsRequest{PageSize: size, OnlyIll: onlyIll}
	for {
		resp, err := service.ListAccounts(asDefault(t.Context()), req)
		must(t, err)
		page := []string{}
		for _, a := range resp.GetAccounts() {
			page = append(page, a.GetAccountId())
		}
		pages = append(pages, page)
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			return pages
		}
	}
}

// Ill accounts are listed without gaps, wherever they stand. Only where more well ones than a call looks at stand in a row
// may a page be empty, or short.
func TestListIllAccounts(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		accounts int
		ill      func(int) bool
		size     int32
		short    int // pages that are not full, but for the last one
	}{
		"none there":     {0, func(int) bool { return true }, 10, 0},
		"none ill":       {230, func(int) bool { return false }, 10, 0},
		"all":            {230, func(int) bool { return true }, 200, 0},
		"some":           {230, func(i int) bool { return i%7 == 3 }, 10, 0},
		"as many as fit": {230, func(i int) bool { return i < 20 }, 10, 0},
		"one, last":      {230, func(i int) bool { return i == 229 }, 10, 0},
		"at the ends":    {230, func(i int) bool { return i < 3 || i > 226 }, 3, 0},
		"far apart":      {1250, func(i int) bool { return i == 10 || i == 1240 }, 10, 1},
		"far behind":     {1100, func(i int) bool { return i == 1050 }, 10, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			service, st := newService(t)
			createAccounts(t, st, test.accounts, test.ill)
			want := []string{}
			for i := range test.accounts {
				if test.ill(i) {
					want = append(want, accountID(i))
				}
			}
			pages := listPages(t, service, test.size, true)
			if diff := cmp.Diff(want, append([]string{}, slices.Concat(pages...)...)); diff != "" {
				t.Errorf("listed accounts differ (-want +got):\n%s", diff)
			}
			short := 0
			for i, page := range pages {
				if i < len(pages)-1 && len(page) < int(test.size) {
					short++
				}
			}
			if last := pages[len(pages)-1]; short != test.short || len(pages) > 1 && test.short == 0 && len(last) == 0 {
				t.Errorf("%d pages are short, want %d; the last one has %d accounts", short, test.short, len(last))
			}
			if all := listPages(t, service, 200, false); len(slices.Concat(all...)) != test.accounts || len(all) != max(1, (test.accounts+199)/200) {
				t.Errorf("all accounts are %d in %d pages", len(slices.Concat(all...)), len(all))
			}
		})
	}
}

// countingEngine counts what is read of it.
type countingEngine struct {
	kv.Engine
	scans, entries atomic.Int64
}

func (e *countingEngine) View(ctx context.Context, fn func(kv.Reader) error) error {
	return e.Engine.View(ctx, func(r kv.Reader) error { return fn(&countingReader{r, e}) })
}

type countingReader struct {
	kv.Reader
	engine *countingEngine
}

func (r *countingReader) Scan(keys kv.Range) ([]kv.Entry, bool, error) {
	entries, more, err := r.Reader.Scan(keys)
	r.engine.scans.Add(1)
	r.engine.entries.Add(int64(len(entries)))
	return entries, more, err
}

// addActivities completes interactions with activities of an account in a state.
func addActivities(t testing.TB, st *store.Store, account string, state store.ActivityState, n int) {
	t.Helper()
	var group errgroup.Group
	group.SetLimit(64)
	for i := range n {
		group.Go(func() error {
			return st.UpdateInteraction(t.Context(), "default", fmt.Sprint(account, state, i), func(tx *store.InteractionTxn) error {
				_, err := tx.Complete(store.Activity{ID: store.NewActivityID(time.Now()), Account: store.AccountUse{AccountID: account}, State: state})
				return err
			})
		})
	}
	must(t, group.Wait())
}

// What is read for a page of accounts does not grow with their activities, beyond those that are counted.
func TestHealthIsCheap(t *testing.T) {
	t.Parallel()
	const accounts = 100
	db, err := boltkv.Open(filepath.Join(t.TempDir(), "data.db"))
	must(t, err)
	engine := &countingEngine{Engine: db}
	key := filepath.Join(t.TempDir(), "key")
	must(t, keyfile.Make(key))
	keyset, err := os.ReadFile(key)
	must(t, err)
	st, err := store.New(t.Context(), engine, store.Config{Keyset: string(keyset)})
	must(t, err)
	t.Cleanup(func() { must(t, st.Close()) })
	service := serviceOver(t, st)
	createAccounts(t, st, accounts, func(int) bool { return true })
	read := func() (scans, entries int64, first *zendeskv1.AccountHealth) {
		t.Helper()
		engine.scans.Store(0)
		engine.entries.Store(0)
		resp, err := service.ListAccounts(asDefault(t.Context()), &zendeskv1.ListAccountsRequest{PageSize: accounts, OnlyIll: true})
		must(t, err)
		if n := len(resp.GetAccounts()); n != accounts {
			t.Fatalf("page has %d accounts", n)
		}
		return engine.scans.Load(), engine.entries.Load(), resp.GetAccounts()[0].GetHealth()
	}
	if scans, entries, health := read(); scans > 2*accounts+1 || entries != accounts || health.GetDeadActivities() != 0 || health.GetOldestPendingTime() != nil {
		t.Errorf("without activities: %d entries in %d scans, health %v", entries, scans, health)
	}
	addActivities(t, st, accountID(0), store.ActivityDead, store.MaxDeadCounted+1)
	addActivities(t, st, accountID(0), store.ActivityPending, 100)
	addActivities(t, st, accountID(0), store.ActivityWritten, 100)
	scans, entries, health := read()
	if scans > 2*accounts+2+store.MaxDeadCounted/kv.MaxScanLimit || entries != accounts+store.MaxDeadCounted+100+1 {
		t.Errorf("with activities: %d entries in %d scans", entries, scans)
	}
	if health.GetDeadActivities() != store.MaxDeadCounted || health.GetPendingActivities() != 100 || time.Since(health.GetOldestPendingTime().AsTime()).Abs() > time.Hour {
		t.Errorf("health is %v", health)
	}
}

// BenchmarkListAccounts lists a page of accounts, of which one in ten has as many DEAD activities as are counted.
func BenchmarkListAccounts(b *testing.B) {
	service, st := newService(b)
	createAccounts(b, st, 100, func(int) bool { return true })
	for i := range 10 {
		addActivities(b, st, accountID(10*i), store.ActivityDead, store.MaxDeadCounted)
	}
	for _, onlyIll := range []bool{false, true} {
		b.Run(fmt.Sprintf("only_ill=%t", onlyIll), func(b *testing.B) {
			for b.Loop() {
				_, err := service.ListAccounts(asDefault(b.Context()), &zendeskv1.ListAccountsRequest{PageSize: 100, OnlyIll: onlyIll})
				must(b, err)
			}
		})
	}
}
