package server

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/auth"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// Every change leaves one line that says who made it and what it touched; one that fails leaves none; calls that are refused are
// counted; and no line holds the value of a secret.
func TestAudit(t *testing.T) {
	const canary = "canary-5b1e"
	file := newTokenFile(t, append(everyRole("acme"), auth.Caller{Tenant: "globex", Name: "globex admin", Roles: []auth.Role{auth.Admin}})...)
	told, noted := &told{next: make(chan struct{})}, &textBuffer{}
	s := newTokenServer(t, file, func(c *Config, _ *zendesktest.Config) {
		c.Log, c.Audit = slog.New(&toldHandler{c.Log.Handler(), told}), noted
	})
	admin, runtime, ops := file.as(t, "acme admin"), file.as(t, "acme runtime"), file.as(t, "acme ops")
	account := &zendeskv1.Account{
		AccountId: "acme", Name: "Acme", Url: s.zendesk.Origin(),
		ApiToken:   &zendeskv1.ApiToken{Username: zendesktest.Admin.Email, Token: canary + "-api-token"},
		OauthToken: &zendeskv1.OAuthToken{AccessToken: canary + "-access-token"},
	}
	token := sandboxToken(passwordOf(zendesktest.Admin))
	update := func(change *zendeskv1.Account, paths ...string) *zendeskv1.UpdateAccountRequest {
		change.AccountId = "acme"
		req := &zendeskv1.UpdateAccountRequest{Account: change}
		if paths != nil {
			req.UpdateMask = &fieldmaskpb.FieldMask{Paths: paths}
		}
		return req
	}

	// What fails is noted by nobody.
	refused := func(err error) {
		t.Helper()
		if err == nil {
			t.Error("a call that was to fail has not")
		}
	}
	_, err := s.accounts.UpdateAccount(admin, update(&zendeskv1.Account{Name: "Gone"}))
	refused(err)
	_, err = s.accounts.DeleteAccount(admin, &zendeskv1.DeleteAccountRequest{AccountId: "acme"})
	refused(err)
	_, err = s.accounts.CreateAccount(ops, &zendeskv1.CreateAccountRequest{AccountId: "acme", Account: account})
	refused(err)
	_, err = s.accounts.CreateAccount(t.Context(), &zendeskv1.CreateAccountRequest{AccountId: "acme", Account: account})
	refused(err)

	_, err = s.accounts.CreateAccount(admin, &zendeskv1.CreateAccountRequest{AccountId: "acme", Account: account})
	must(t, err)
	_, err = s.accounts.CreateAccount(admin, &zendeskv1.CreateAccountRequest{AccountId: "acme", Account: account})
	refused(err)
	_, err = s.accounts.UpdateAccount(admin, update(&zendeskv1.Account{Etag: "stale", Name: "Stale"}))
	refused(err)
	_, err = s.accounts.UpdateAccount(admin, update(&zendeskv1.Account{
		Name: "Renamed", ApiToken: &zendeskv1.ApiToken{Token: zendesktest.Admin.APIToken}, OauthToken: &zendeskv1.OAuthToken{AccessToken: canary + "-other-token"},
	}))
	must(t, err)
	_, err = s.accounts.UpdateAccount(admin, update(&zendeskv1.Account{}, "oauth_token"))
	must(t, err)
	token.ClientSecret = canary + "-client-secret"
	_, err = s.accounts.RequestToken(admin, token)
	refused(err)
	token.ClientSecret = zendesktest.ClientSecret
	token.Grant = nil
	_, err = s.accounts.RequestToken(admin, token)
	must(t, err)
	_, err = s.accounts.GetAccount(ops, &zendeskv1.GetAccountRequest{AccountId: "acme"})
	must(t, err)

	await := func(id string, state zendeskv1.ActivityState) {
		t.Helper()
		for {
			line := told.line()
			got, err := s.interactions.GetActivity(ops, &zendeskv1.GetActivityRequest{ActivityId: id})
			must(t, err)
			if got.GetActivity().GetState() == state {
				return
			}
			select {
			case <-line:
			case <-t.Context().Done():
				t.Fatalf("activity is %v", got.GetActivity())
			}
		}
	}
	var ids []string
	s.zendesk.AddFault(zendesktest.Fault{Method: "PUT", PathPrefix: ticketsPath, Status: 422})
	for i := range 3 {
		completed, err := s.interactions.CompleteInteraction(runtime, &zendeskv1.CompleteInteractionRequest{
			InteractionId: fmt.Sprint("call-", i), TicketId: openTickets[0], Details: &zendeskv1.ActivityDetails{Notes: canary + "-notes"},
		})
		must(t, err)
		ids = append(ids, completed.GetActivity().GetActivityId())
		await(ids[i], dead)
	}
	s.zendesk.ClearFaults()
	_, err = s.interactions.RetryActivity(ops, &zendeskv1.RetryActivityRequest{ActivityId: ids[0], TicketId: openTickets[1]})
	must(t, err)
	_, err = s.interactions.DiscardActivity(ops, &zendeskv1.DiscardActivityRequest{ActivityId: ids[1]})
	must(t, err)
	await(ids[0], written)
	_, err = s.interactions.DiscardActivity(ops, &zendeskv1.DiscardActivityRequest{ActivityId: ids[0]})
	mustReason(t, err, codes.FailedPrecondition, zendeskv1.ErrorReason_ERROR_REASON_ACTIVITY_WRITTEN)
	retried, err := s.interactions.RetryActivities(ops, &zendeskv1.RetryActivitiesRequest{})
	must(t, err)
	mustEqual(t, "activities retried", retried.GetCount(), int32(1))
	await(ids[2], written)
	_, err = s.accounts.DeleteAccount(admin, &zendeskv1.DeleteAccountRequest{AccountId: "acme"})
	must(t, err)
	_, err = s.accounts.CreateAccount(file.as(t, "globex admin"), &zendeskv1.CreateAccountRequest{AccountId: "acme", Account: account})
	must(t, err)
	s.stop()

	var got, refusedCalls []string
	lineIDs := make(map[string]bool)
	for _, line := range noted.lines(t) {
		if line["time"] == nil {
			t.Errorf("a line does not say when: %v", line)
		}
		if line["calls"] != nil {
			refusedCalls = append(refusedCalls, fmt.Sprint(line["caller"], " ", line["event"], " ", line["method"], " ", line["calls"]))
			continue
		}
		if id := fmt.Sprint(line["id"]); len(id) != 26 || lineIDs[id] {
			t.Errorf("a line has no id of its own: %v", line)
		} else {
			lineIDs[id] = true
		}
		text := fmt.Sprint(line["tenant"], ": ", line["caller"], ", ", line["credential"], ": ", line["event"])
		for _, name := range []string{"account_id", "fields", "grant", "client_id", "scopes", "activity_id", "ticket_id"} {
			if value, ok := line[name]; ok {
				text += fmt.Sprint(" ", name, "=", value)
			}
		}
		got = append(got, text)
	}
	mustEqual(t, "audit", got, []string{
		"acme: acme admin, token: account created account_id=acme",
		"acme: acme admin, token: account updated account_id=acme fields=[name api_token.token oauth_token.access_token]",
		"acme: acme admin, token: account updated account_id=acme fields=[oauth_token]",
		"acme: acme admin, token: token stored account_id=acme grant=client_credentials client_id=" + zendesktest.ClientID + " scopes=[read write]",
		"acme: acme ops, token: activity retried activity_id=" + ids[0] + " ticket_id=" + openTickets[1],
		"acme: acme ops, token: activity discarded activity_id=" + ids[1],
		"acme: acme ops, token: activity retried activity_id=" + ids[2] + " ticket_id=" + openTickets[0],
		"acme: acme admin, token: account deleted account_id=acme",
		"globex: globex admin, token: account created account_id=acme",
	})
	slices.Sort(refusedCalls)
	mustEqual(t, "refused calls", refusedCalls, []string{
		"<nil> calls without a valid credential <nil> 1",
		"acme ops call denied " + zendeskv1.AccountService_CreateAccount_FullMethodName + " 1",
	})
	for _, secret := range []string{canary, zendesktest.Admin.APIToken, zendesktest.Admin.Password, zendesktest.ClientSecret, zendesktest.Admin.Email, file.tokens["acme admin"], file.tokens["acme ops"]} {
		if strings.Contains(noted.String(), secret) {
			t.Errorf("the audit shows %q:\n%s", secret, noted)
		}
	}
}

// fullDisk is what cannot be written to, until there is room.
type fullDisk struct {
	textBuffer
	mu   sync.Mutex
	room bool
}

func (d *fullDisk) Append(lines []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.room {
		return errors.New("no space left on device")
	}
	return d.textBuffer.Append(lines)
}

// What cannot be written waits, also across a restart, and is written when it can. When it has waited for long changes are
// refused, and blocks go on.
func TestAuditThatCannotBeWritten(t *testing.T) {
	disk := new(fullDisk)
	told := &told{next: make(chan struct{})}
	s := newTestServer(t, func(c *Config, _ *zendesktest.Config) {
		c.Log, c.Audit = slog.New(&toldHandler{c.Log.Handler(), told}), disk
	})
	s.createAccount(t, "main", zendesktest.Admin)
	s.restart(t)
	update := func() error {
		_, err := s.accounts.UpdateAccount(t.Context(), &zendeskv1.UpdateAccountRequest{Account: &zendeskv1.Account{AccountId: "main", DefaultRegion: "DE"}})
		return err
	}
	must(t, update())
	s.clock.advance(11 * time.Minute)
	await := func(refused bool) {
		t.Helper()
		for {
			err := update()
			if refused == (err != nil) {
				if refused {
					mustReason(t, err, codes.Unavailable, zendeskv1.ErrorReason_ERROR_REASON_AUDIT_UNAVAILABLE)
				}
				return
			}
			if t.Context().Err() != nil {
				t.Fatal(err)
			}
		}
	}
	await(true)
	mustExit(t, s.selectAccount(t, "one", "main"), next)
	disk.mu.Lock()
	disk.room = true
	disk.mu.Unlock()
	await(false)
	s.stop()
	var events []any
	for _, line := range disk.lines(t) {
		events = append(events, line["event"])
	}
	mustEqual(t, "first event", events[0], any("account created"))
	for _, event := range events[1:] {
		mustEqual(t, "event", event, any("account updated"))
	}
	if s.log.String() == "" || !strings.Contains(s.log.String(), "the audit cannot be written") || !strings.Contains(s.log.String(), "the audit is written again") {
		t.Errorf("log:\n%s", s.log)
	}
}
