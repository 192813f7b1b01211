package server

import (
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// A service that writes nothing serves reads, refuses the rest, and sends Zendesk nothing but reads whatever is asked of it;
// what waits to be written waits.
func TestNoWrites(t *testing.T) {
	t.Parallel()
	s := newActivityServer(t)
	s.allowAPI(t, "main", &zendeskv1.ApiAccess{Methods: []string{"GET", "POST"}})
	s.authorize(t, refreshToken)
	mustExit(t, s.search(t, "call", callerQuery), next)
	s.zendesk.AddFault(zendesktest.Fault{PathPrefix: "/api/v2/ticket", Status: 503})
	waits := s.complete(t, "waits", openTickets[0]).GetActivityId()
	s.awaitTries(t, waits, 1)
	s.zendesk.ClearFaults()

	s.config.NoWrites = true
	s.restart(t)
	s.zendesk.ExpireTokens() // whoever renewed would kill the original's token
	since := len(s.zendesk.Requests())
	ctx := t.Context()
	const query = "type:ticket"
	mustFail(t, s.search(t, "call", query), zendeskv1.FailureReason_FAILURE_REASON_CREDENTIALS_REJECTED)
	if a := s.main(t); a.GetCredentialState() == zendeskv1.CredentialState_CREDENTIAL_STATE_NEEDS_AUTHORIZATION {
		t.Errorf("what Zendesk says to a copy is kept: %v", a)
	}
	s.createAccount(t, "reads", zendesktest.Admin)
	s.allowAPI(t, "reads", &zendeskv1.ApiAccess{Methods: []string{"GET", "POST"}})
	s.selectAccount(t, "call", "reads")
	mustExit(t, s.search(t, "call", query), next)
	mustExit(t, s.api(t, &zendeskv1.InvokeApiRequest{InteractionId: "call", Method: "GET", Path: "users/me"}), next)
	mustExit(t, s.identify(t, "call", zendesktest.Caller.Phone), next)
	mustExit(t, s.findOrCreate(t, "call", zendesktest.Caller.Phone), next)
	tested, err := s.accounts.TestConnection(ctx, &zendeskv1.TestConnectionRequest{AccountId: "reads"})
	must(t, err)
	for _, check := range tested.GetChecks() {
		if check.GetName() == "screen_pop" && check.GetOutcome() != zendeskv1.CheckOutcome_CHECK_OUTCOME_SKIPPED {
			t.Errorf("the check is %v", check)
		}
	}

	object := &zendeskv1.CreateObjectRequest{InteractionId: "call", ObjectType: zendeskv1.RecordType_RECORD_TYPE_TICKET, Fields: map[string]string{"subject": "x"}}
	explained := &zendeskv1.CreateObjectRequest{InteractionId: "call", ObjectType: zendeskv1.RecordType_RECORD_TYPE_TICKET, Fields: map[string]string{"subject": "x"}, ValidateOnly: true}
	if _, err := s.blocks.CreateObject(ctx, explained); err != nil {
		t.Errorf("what would be written is not explained: %v", err)
	}
	for name, call := range map[string]func() error{
		"CreateObject": func() error { _, err := s.blocks.CreateObject(ctx, object); return err },
		"UpdateObject": func() error {
			_, err := s.blocks.UpdateObject(ctx, &zendeskv1.UpdateObjectRequest{InteractionId: "call", ObjectType: zendeskv1.RecordType_RECORD_TYPE_TICKET, ObjectId: openTickets[0]})
			return err
		},
		"InvokeApi": func() error {
			_, err := s.blocks.InvokeApi(ctx, &zendeskv1.InvokeApiRequest{InteractionId: "call", Method: "POST", Path: "tickets", Json: "{}"})
			return err
		},
		"FindOrCreateUser": func() error {
			_, err := s.blocks.FindOrCreateUser(ctx, &zendeskv1.FindOrCreateUserRequest{
				InteractionId: "call", Email: "nobody.yet@example.com", Name: "Nobody Yet", RecordsetName: "RS",
			})
			return err
		},
		"DeliverInteraction": func() error {
			_, err := s.interactions.DeliverInteraction(ctx, &zendeskv1.DeliverInteractionRequest{InteractionId: "call"})
			return err
		},
		"CompleteInteraction": func() error {
			_, err := s.interactions.CompleteInteraction(ctx, &zendeskv1.CompleteInteractionRequest{InteractionId: "call"})
			return err
		},
		"RetryActivity": func() error {
			_, err := s.interactions.RetryActivity(ctx, &zendeskv1.RetryActivityRequest{ActivityId: waits})
			return err
		},
		"RetryActivities": func() error {
			_, err := s.interactions.RetryActivities(ctx, &zendeskv1.RetryActivitiesRequest{})
			return err
		},
		"DiscardActivity": func() error {
			_, err := s.interactions.DiscardActivity(ctx, &zendeskv1.DiscardActivityRequest{ActivityId: waits})
			return err
		},
		"RequestToken": func() error {
			_, err := s.accounts.RequestToken(ctx, &zendeskv1.RequestTokenRequest{AccountId: "main"})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			mustReason(t, call(), codes.FailedPrecondition, zendeskv1.ErrorReason_ERROR_REASON_NO_WRITES)
		})
	}
	s.clock.advance(longEnough)
	if a := s.activity(t, waits); a.GetState() != pending {
		t.Errorf("the activity is %v", a)
	}
	conn, _ := s.listen(t)
	if resp, err := healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{}); err != nil || resp.GetStatus() != healthv1.HealthCheckResponse_SERVING {
		t.Errorf("health is %v, %v", resp, err)
	}
	for _, r := range s.zendesk.Requests()[since:] {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			t.Errorf("Zendesk was asked %s %s", r.Method, r.Path)
		}
	}
	if !strings.Contains(s.log.String(), "nothing is written to Zendesk") {
		t.Error("the log does not tell")
	}
}

// Every RPC is said to write or not: who adds one decides.
func TestWritingMethods(t *testing.T) {
	reads := map[string]bool{}
	for _, name := range []string{
		"AccountService/CreateAccount", "AccountService/GetAccount", "AccountService/ListAccounts", "AccountService/UpdateAccount", "AccountService/DeleteAccount",
		"AccountService/TestConnection", "AccountService/StreamTestConnection", // which skip what would write
		"BlockService/SelectAccount", "BlockService/Search", "BlockService/GetNextRecord", "BlockService/ScreenPop", "BlockService/AttachedData", "BlockService/IdentifyCaller",
		"BlockService/FindOrCreateUser", // up to the creation
		"InteractionService/GetInteraction", "InteractionService/ListRecords", "InteractionService/WatchScreenPops", "InteractionService/GetActivity", "InteractionService/PreviewActivity", "InteractionService/ListActivities",
		"OperationsService/GetCaller", "OperationsService/GetUsage", "OperationsService/ListTenants", "OperationsService/Backup", "OperationsService/ErasePerson",
	} {
		reads["/scenarioblocks.zendesk.v1."+name] = true
	}
	for name := range methodRoles {
		if reads[name] == writingMethods[name] {
			t.Errorf("%s is said to write to Zendesk: %t; nobody has said otherwise: %t", name, writingMethods[name], !reads[name])
		}
	}
}
