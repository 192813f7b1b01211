package pages

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/scenarioblocks/zendeskblocks/server/auth"
	"github.com/scenarioblocks/zendeskblocks/store"
)

// Pages of very many activities are small. ZENDESKBLOCKS_PAGES_ACTIVITIES says how many there are, 300 without it; -v tells how long pages
// take.
func TestManyActivities(t *testing.T) {
	n, err := strconv.Atoi(cmp.Or(os.Getenv("ZENDESKBLOCKS_PAGES_ACTIVITIES"), "300"))
	must(t, err)
	s := newSite(t)
	b := s.browser(t)
	s.outage()
	s.integrate(t, "main", "Main")
	s.integrate(t, "other", "Other")
	accounts := make([]store.AccountUse, 0, 2)
	for _, id := range []string{"main", "other"} {
		account, err := s.store.Account(t.Context(), auth.DefaultTenant, id)
		must(t, err)
		accounts = append(accounts, account.Use(store.Selected))
	}
	notes := strings.Repeat(`<&"'> `, 300)
	adding, ctx := errgroup.WithContext(t.Context())
	adding.SetLimit(256)
	for i := range n {
		adding.Go(func() error { return s.add(ctx, fmt.Sprintf("call-%07d", i), accounts[i%2], i, notes) })
	}
	must(t, adding.Wait())
	for _, path := range []string{
		"/activities", "/activities?state=dead", "/activities?state=written", "/activities?state=all", "/activities?state=all&order=oldest", "/activities?state=dead&account=other",
		"/activities?state=dead&reason=access_denied", "/activities?state=dead&reason=conflict", "/activities?state=all&interaction=call-0000007",
		"/activities?state=all&since=2001-01-01T00:00", "/activities/decide?act=retry&all=1", "/activities/decide?act=discard&all=1&reason=not_found", "/interactions?id=call-0000003",
	} {
		for range 3 {
			begun := time.Now()
			got := b.get(t, path).wants(t, http.StatusOK).sound(t)
			t.Logf("%-60s %7d bytes %v", path, len(got.body), time.Since(begun).Round(time.Millisecond))
		}
	}
	next := b.get(t, "/activities?state=written")
	for range 3 {
		next = b.get(t, next.link(t, "Next page")).wants(t, http.StatusOK).sound(t)
	}
}

// add stores an activity: of ten, one waits and one is dead.
func (s *site) add(ctx context.Context, interaction string, account store.AccountUse, i int, notes string) error {
	now := time.Now()
	a := store.Activity{
		ID: store.NewActivityID(now), Account: account, TicketID: openTicket, TicketRule: store.TicketRequested, State: store.ActivityWritten, CreateTime: now,
		Details: store.ActivityDetails{Notes: notes, Subject: hostile[:40], Channel: "voice"},
	}
	switch i % 10 {
	case 0:
		a.State = store.ActivityPending
	case 1:
		a.State = store.ActivityDead
		a.Failure = &store.Failure{Reason: []store.FailureReason{store.ReasonAccessDenied, store.ReasonNotFound}[i/10%2], Message: notes}
	}
	var failed error
	err := s.store.UpdateInteraction(ctx, auth.DefaultTenant, interaction, func(tx *store.InteractionTxn) error {
		_, failed = tx.Complete(a)
		return failed
	})
	return errors.Join(err, failed)
}
