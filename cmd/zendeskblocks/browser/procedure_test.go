package browser

import (
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

var update = flag.Bool("update", false, "make the pictures of the operator's guide")

// pictures is where the operator's guide has them.
const pictures = "../pictures"

// shot makes a picture of the guide, when the test is told to.
func (b *tab) shot(name string) {
	b.t.Helper()
	if *update {
		must(b.t, os.MkdirAll(pictures, 0o755))
		must(b.t, os.WriteFile(filepath.Join(pictures, name+".png"), b.picture(), 0o644))
	}
}

// The documented procedure, by mouse and keyboard: an administrator adds an account, pastes the URL, chooses the authorization, requests a
// token by each grant, tests the connection and sees the confirmation; then what comes of a call is there to be seen. How long each step
// takes is told, and judged by nobody.
func TestProcedureInChromium(t *testing.T) {
	s, tokens, _ := guarded(t, map[string][]string{"ada": {"admin", "ops"}, "runtime": {"runtime"}})
	b := s.open(t)
	b.site = s
	begun := time.Now()
	step := func(what string) {
		t.Logf("%8s  %s", time.Since(begun).Round(time.Millisecond), what)
		begun = time.Now()
	}

	b.signIn(tokens["ada"])
	b.shows("Sandbox", "Sign out")
	step("sign in")

	b.follow("Add an account")
	b.fill("Name", "Acme support")
	b.fill("URL of the Zendesk", s.sandbox)
	b.fill("Id", "acme")
	b.fill("Region of numbers without country code", "US")
	b.follow("Add the account")
	b.shows("Acme support", "The account is there")
	step("add an account, and paste the URL")

	b.follow("Request token")
	b.fill("Unique identifier of the OAuth client", zendesktest.ClientID)
	b.fill("Secret of the OAuth client", zendesktest.ClientSecret)
	b.shot("request-token")
	b.follow("Request token")
	b.shows("The token is in force", "OAuth token")
	b.lacks(zendesktest.ClientSecret)
	step("request a token: client credentials")

	b.follow("Request token")
	b.follow("Authorization code")
	b.fill("Unique identifier of the OAuth client", zendesktest.ClientID)
	b.fill("Secret of the OAuth client", zendesktest.ClientSecret)
	b.follow("Go on")
	b.shows("Agree at Zendesk", s.url+"/redirect")
	b.follow("Go to Zendesk")
	if at := b.address(); !strings.HasPrefix(at, s.sandbox+"/oauth/authorizations/new") {
		t.Fatalf("the browser is at %s, not at Zendesk", at)
	}
	b.follow("Allow")
	b.shows("The token is in force")
	if at := b.path(); strings.Contains(at, "code=") || strings.Contains(at, "state=") {
		t.Errorf("the code is in the address: %s", at)
	}
	step("request a token: authorization code, by way of Zendesk's page")

	b.follow("Request token")
	b.follow("Authorization code")
	b.fill("Unique identifier of the OAuth client", zendesktest.ClientID)
	b.fill("Secret of the OAuth client", zendesktest.ClientSecret)
	b.follow("Go on")
	b.follow("Go to Zendesk")
	b.follow("Deny")
	b.shows("did not agree")
	step("the same, and the person does not agree")

	b.follow("Password")
	b.fill("Unique identifier of the OAuth client", zendesktest.ClientID)
	b.fill("Secret of the OAuth client", zendesktest.ClientSecret)
	b.fill("User name", zendesktest.Admin.Email)
	b.fill("Password", zendesktest.Admin.Password)
	if status := b.follow("Request token"); status == http.StatusOK {
		t.Error("the grant that Zendesk has removed is taken")
	}
	b.shows("Zendesk said")
	b.lacks(zendesktest.Admin.Password)
	step("request a token: password, which Zendesk has removed, and says so")

	b.follow("Back")
	b.shows("Acme support")
	b.shot("account")
	b.follow("Test connection")
	b.shows("Outcome", "It acts as")
	b.shot("test-connection")
	step("test the connection, and see the confirmation")

	b.follow("To the account")
	b.follow("Make default")
	b.shows("It is the default account now")
	b.follow("Accounts")
	b.shows("Acme support", "Sandbox")
	b.shot("accounts")
	step("see all accounts")

	ctx := as(t, tokens["runtime"])
	s.call(ctx, t, "call-2041", zendesktest.Agent, terminal)
	begun = time.Now()
	b.follow("Interactions")
	b.fill("Interaction", "call-2041")
	b.follow("Find")
	b.shows("1 of 1", terminal.value, zendesktest.Agent.Email)
	b.shot("interaction")
	step("find an interaction")
	written := s.complete(ctx, t, "call-2041", terminal)
	s.awaits(ctx, t, written.GetActivityId(), zendeskv1.ActivityState_ACTIVITY_STATE_WRITTEN)
	begun = time.Now()
	b.follow("Find")
	b.shows("written")
	b.follow(written.GetActivityId())
	b.shows("Private comment", "The terminal stays dark", "Ticket")
	b.shot("activity")
	step("see an activity as Zendesk shows it")

	b.follow("Sandbox")
	b.follow("Ticket updates are refused")
	b.shows("In force")
	s.call(ctx, t, "call-2042", zendesktest.UnlicensedAgent, terminal)
	dead := s.complete(ctx, t, "call-2042", terminal)
	s.awaits(ctx, t, dead.GetActivityId(), zendeskv1.ActivityState_ACTIVITY_STATE_DEAD)
	b.follow("Sandbox")
	b.click("Private comment of " + zendesktest.Admin.Name + ", ")
	b.shows("The terminal stays dark")
	b.shot("sandbox")
	begun = time.Now()
	b.follow("Take all off")
	b.follow("Activities")
	b.follow("somebody has to decide")
	b.shows(dead.GetActivityId(), "Zendesk refuses it")
	b.dark(true)
	b.shot("activities")
	b.dark(false)
	b.choose("Choose " + dead.GetActivityId())
	b.follow("Retry the chosen…")
	b.shows("What will be done")
	b.follow("Retry 1 activity")
	s.awaits(ctx, t, dead.GetActivityId(), zendeskv1.ActivityState_ACTIVITY_STATE_WRITTEN)
	step("retry an activity that is dead")

	b.follow("Screen pops")
	b.fill("Agent", zendesktest.UnlicensedAgent.Email)
	b.follow("Watch")
	b.shows("Watching.", "call-2042")
	b.wide(390)
	b.shot("pops-narrow")
	b.wide(1280)
	step("watch an agent's screen pops")
}
