package server

import (
	"strings"
	"testing"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

const (
	selected   = zendeskv1.AccountSelection_ACCOUNT_SELECTION_SELECTED
	byDefault  = zendeskv1.AccountSelection_ACCOUNT_SELECTION_DEFAULT
	noSelector = zendeskv1.AccountSelection_ACCOUNT_SELECTION_UNSPECIFIED
)

func TestSelectAccount(t *testing.T) {
	s := newBlockServer(t)
	s.account(t, "second", "Ärzte & Söhne", s.zendesk.Origin())
	vars := map[string]string{"NAME": "second", "BLANK": " \t", "WITH": "$(NAME)"}
	notFound := zendeskv1.FailureReason_FAILURE_REASON_ACCOUNT_NOT_FOUND
	for _, test := range []struct {
		account string
		want    string // id; empty: not found
	}{
		{"second", "second"},
		{"ÄRZTE & söhne", "second"},
		{"  Ärzte & Söhne ", "second"},
		{"$(NAME)", "second"},
		{"$( NAME )", "second"},
		{"sec$(PART)ond", "second"}, // nobody set it: the empty string
		{"Account MAIN", "main"},
		{"nobody", ""},
		{"$(BLANK)", ""},
		{"$(UNSET)", ""},
		{"$(WITH)", ""}, // a value is not expanded again
		{"=$(NAME)", ""},
		{strings.Repeat("a", maxTextBytes), ""},
	} {
		t.Run(test.account, func(t *testing.T) {
			resp, err := s.blocks.SelectAccount(t.Context(), &zendeskv1.SelectAccountRequest{
				InteractionId: "one", Variables: vars, Choice: &zendeskv1.SelectAccountRequest_Account{Account: test.account},
			})
			must(t, err)
			search := s.search(t, "one", callerQuery)
			if test.want == "" {
				mustFail(t, resp, notFound)
				mustUse(t, resp, "", noSelector)
				mustFail(t, search, notFound)
				mustUse(t, search, "", noSelector)
				if got := s.interaction(t, "one").GetAccount(); got != nil {
					t.Errorf("account in force is %v, want none", got)
				}
				return
			}
			mustExit(t, resp, next)
			mustUse(t, resp, test.want, selected)
			mustExit(t, search, next)
			mustUse(t, search, test.want, selected)
		})
	}
}

func TestSelectAccountFailureLeavesNone(t *testing.T) {
	s := newBlockServer(t)
	notFound := zendeskv1.FailureReason_FAILURE_REASON_ACCOUNT_NOT_FOUND
	mustExit(t, s.search(t, "one", callerQuery), next)
	asked := len(s.searches())
	mustFail(t, s.selectAccount(t, "one", "nobody"), notFound)
	mustFail(t, s.search(t, "one", callerQuery), notFound)
	mustFail(t, s.pop(t, &zendeskv1.ScreenPopRequest{InteractionId: "one", Target: &zendeskv1.ScreenPopRequest_TicketId{TicketId: "1"}}), notFound)
	s.restart(t)
	mustFail(t, s.search(t, "one", callerQuery), notFound)
	if got := len(s.searches()); got != asked {
		t.Errorf("Zendesk was asked %d times without an account", got-asked)
	}
	mustUse(t, s.selectDefault(t, "one"), "main", byDefault)
	resp := s.search(t, "one", callerQuery)
	mustExit(t, resp, next)
	mustUse(t, resp, "main", byDefault)
}

func TestDefaultAccountIsPinned(t *testing.T) {
	other, reach := otherZendesk(t)
	s := newTestServer(t, reach)
	noDefault := zendeskv1.FailureReason_FAILURE_REASON_NO_DEFAULT_ACCOUNT
	mustFail(t, s.search(t, "early", callerQuery), noDefault)
	mustFail(t, s.selectDefault(t, "cleared"), noDefault)
	mustFail(t, s.pop(t, &zendeskv1.ScreenPopRequest{InteractionId: "early", Target: &zendeskv1.ScreenPopRequest_TicketId{TicketId: "1"}}), noDefault)

	s.createAccount(t, "main", zendesktest.Admin)
	s.account(t, "other", "Other", other.Origin())
	// To have met no default pins nothing, but a SelectAccount that failed does.
	mustExit(t, s.search(t, "early", callerQuery), next)
	mustFail(t, s.search(t, "cleared", callerQuery), zendeskv1.FailureReason_FAILURE_REASON_ACCOUNT_NOT_FOUND)

	mustUse(t, s.search(t, "one", callerQuery), "main", byDefault)
	s.makeDefault(t, "other")
	for range 2 {
		resp := s.search(t, "one", callerQuery)
		mustExit(t, resp, next)
		mustUse(t, resp, "main", byDefault)
		s.restart(t)
	}
	if got := other.Requests(); len(got) != 0 {
		t.Errorf("the other Zendesk was asked %v", got)
	}
	// A scenario that wants the default of its own time says so.
	mustUse(t, s.selectDefault(t, "one"), "other", byDefault)
	mustUse(t, s.search(t, "one", callerQuery), "other", byDefault)
	if got := other.Requests(); len(got) != 1 {
		t.Errorf("the other Zendesk was asked %v, want one search", got)
	}
	mustUse(t, s.search(t, "new", callerQuery), "other", byDefault)
}

func TestAccountDeletedInMidInteraction(t *testing.T) {
	other, reach := otherZendesk(t)
	s := newTestServer(t, reach)
	s.createAccount(t, "spare", zendesktest.Admin)
	s.account(t, "main", "Main", s.zendesk.Origin())
	notFound := zendeskv1.FailureReason_FAILURE_REASON_ACCOUNT_NOT_FOUND
	s.makeDefault(t, "main")
	mustExit(t, s.search(t, "pinned", callerQuery), next)
	s.makeDefault(t, "spare")
	mustExit(t, s.selectAccount(t, "chosen", "main"), next)
	mustExit(t, s.search(t, "chosen", callerQuery), next)
	popRS := func(interaction string) *zendeskv1.ScreenPopResponse {
		return s.pop(t, &zendeskv1.ScreenPopRequest{InteractionId: interaction, Target: &zendeskv1.ScreenPopRequest_RecordsetName{RecordsetName: "RS"}})
	}
	asked := len(s.searches())
	check := func(when string) {
		for _, interaction := range []string{"pinned", "chosen"} {
			mustFail(t, popRS(interaction), notFound)
			resp := s.search(t, interaction, callerQuery, func(r *zendeskv1.SearchRequest) { r.RecordsetName = "Other" })
			mustFail(t, resp, notFound)
			mustUse(t, resp, "", noSelector)
		}
		if got := len(s.searches()); got != asked {
			t.Errorf("%s: the first Zendesk was asked again", when)
		}
		if got := other.Requests(); len(got) != 0 {
			t.Errorf("%s: the other Zendesk was asked %v", when, got)
		}
	}
	s.deleteAccount(t, "main")
	check("deleted")
	s.account(t, "main", "Main", other.Origin())
	check("created again for another Zendesk")
	s.restart(t)
	check("restarted")
	s.deleteAccount(t, "main")
	s.account(t, "main", "Main", s.zendesk.Origin())
	check("created again for the same Zendesk")

	// Chosen anew, it is the new one.
	mustExit(t, s.selectAccount(t, "chosen", "main"), next)
	mustExit(t, s.search(t, "chosen", callerQuery), next)
	mustFail(t, s.search(t, "pinned", callerQuery), notFound)
}

func TestAccountRenamed(t *testing.T) {
	s := newBlockServer(t)
	mustExit(t, s.search(t, "one", callerQuery), next)
	_, err := s.accounts.UpdateAccount(t.Context(), &zendeskv1.UpdateAccountRequest{Account: &zendeskv1.Account{AccountId: "main", Name: "New name"}})
	must(t, err)
	resp := s.search(t, "one", callerQuery)
	mustExit(t, resp, next)
	if got := resp.GetAccount().GetName(); got != "New name" {
		t.Errorf("account's name is %q", got)
	}
}
