package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

func eraseEmail(email string) *zendeskv1.ErasePersonRequest {
	return &zendeskv1.ErasePersonRequest{Person: &zendeskv1.ErasePersonRequest_Email{Email: email}}
}

func erasePhone(number string) *zendeskv1.ErasePersonRequest {
	return &zendeskv1.ErasePersonRequest{Person: &zendeskv1.ErasePersonRequest_Phone{Phone: number}}
}

// erase erases a person, and returns the last that is told.
func (s *testServer) erase(t testing.TB, req *zendeskv1.ErasePersonRequest) *zendeskv1.ErasePersonResponse {
	t.Helper()
	stream, err := s.operations.ErasePerson(t.Context(), req)
	must(t, err)
	last, err := readErasing(stream)
	must(t, err)
	if !last.GetDone() {
		t.Fatalf("the last is %v", last)
	}
	return last
}

func readErasing(stream grpc.ServerStreamingClient[zendeskv1.ErasePersonResponse]) (last *zendeskv1.ErasePersonResponse, err error) {
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return last, nil
		}
		if err != nil {
			return last, err
		}
		last = resp
	}
}

// The person is found by what Zendesk, the runtime and the agents said, in whatever form, and nobody else is.
func TestErasePerson(t *testing.T) {
	t.Parallel()
	s := newActivityServer(t, func(c *Config, _ *zendesktest.Config) { c.Audit = new(textBuffer) })
	lines := s.config.Audit.(*textBuffer)
	callerID := func(id, query string) {
		s.search(t, id, query, func(r *zendeskv1.SearchRequest) { r.RequestId = "r" })
	}
	callerID("found", callerQuery)
	callerID("replaced", callerQuery)
	s.search(t, "replaced", noneQuery) // only the answer that is kept tells of the caller
	callerID("asked-for", `type:user email:maria.lopez@example.com name:nobody`)
	s.attach(t, "data", map[string]string{"Callback": "on (513) 555-7611"})
	callerID("somebody-else", "type:user phone:*30901820")
	s.attach(t, "stays", map[string]string{"Callback": "+49 30 901820"})
	finished := func(id string, details *zendeskv1.ActivityDetails) {
		s.complete(t, id, "", func(r *zendeskv1.CompleteInteractionRequest) { r.Details = details })
	}
	finished("from", &zendeskv1.ActivityDetails{FromAddress: `"Maria" <sip:+15135557611@pbx.example.com>`, Agent: &zendeskv1.Agent{Email: zendesktest.Agent.Email}})
	finished("transcript", &zendeskv1.ActivityDetails{Transcript: "My address is Maria.Lopez@Example.com."})
	finished("others", &zendeskv1.ActivityDetails{Requester: &zendeskv1.Requester{Email: zendesktest.EndUser.Email}, Agent: &zendeskv1.Agent{Email: zendesktest.Agent.Email}})

	if got := s.erase(t, erasePhone("+1 513 555 7611")); got.GetErased().GetInteractions() != 1 || len(got.GetWaiting()) != 3 {
		t.Errorf("while they are used: %v", got)
	}
	s.clock.advance(2 * time.Hour)
	byEmail := eraseEmail("MARIA.LOPEZ@example.com")
	byEmail.DryRun = true
	if got := s.erase(t, byEmail); got.GetFound().GetInteractions() != 4 || got.GetErased().GetInteractions() != 0 || len(got.GetWaiting()) != 0 {
		t.Errorf("counted: %v", got)
	}
	if got := s.erase(t, erasePhone("+1 513 555 7611")); got.GetErased().GetInteractions() != 3 || got.GetFound().GetInteractions() != 3 {
		t.Errorf("by number: %v", got)
	}
	byEmail.DryRun = false
	if got := s.erase(t, byEmail); got.GetErased().GetInteractions() != 2 || got.GetErased().GetActivities() != 1 {
		t.Errorf("by address: %v", got)
	}
	for _, req := range []*zendeskv1.ErasePersonRequest{byEmail, erasePhone("(+1) 5135557611")} {
		if got := s.erase(t, req); got.GetFound().GetInteractions() != 0 {
			t.Errorf("again: %v", got)
		}
	}
	for id, want := range map[string]zendeskv1.InteractionState{
		"found": zendeskv1.InteractionState_INTERACTION_STATE_EXPIRED, "from": zendeskv1.InteractionState_INTERACTION_STATE_COMPLETED,
		"stays": zendeskv1.InteractionState_INTERACTION_STATE_ACTIVE, "somebody-else": zendeskv1.InteractionState_INTERACTION_STATE_ACTIVE,
	} {
		got, err := s.interactions.GetInteraction(t.Context(), &zendeskv1.GetInteractionRequest{InteractionId: id})
		must(t, err)
		mustEqual(t, id, got.GetInteraction().GetState(), want)
	}
	// What ran does not run again, and what was completed stays so.
	_, err := s.blocks.Search(t.Context(), &zendeskv1.SearchRequest{InteractionId: "found", SearchString: callerQuery, RecordsetName: "RS", RequestId: "r"})
	mustReason(t, err, codes.InvalidArgument, zendeskv1.ErrorReason_ERROR_REASON_REQUEST_ID_REUSED)
	_, err = s.interactions.CompleteInteraction(t.Context(), &zendeskv1.CompleteInteractionRequest{InteractionId: "from"})
	mustReason(t, err, codes.AlreadyExists, zendeskv1.ErrorReason_ERROR_REASON_INTERACTION_COMPLETED)
	listed, err := s.interactions.ListActivities(t.Context(), &zendeskv1.ListActivitiesRequest{})
	must(t, err)
	if all := listed.GetActivities(); len(all) != 1 || all[0].GetInteractionId() != "others" || all[0].GetDetails().GetAgent().GetEmail() == "" {
		t.Errorf("activities are %v", all)
	}
	// An agent is taken out of others' history.
	if got := s.erase(t, eraseEmail(zendesktest.Agent.Email)); got.GetErased().GetActivities() != 1 {
		t.Errorf("an agent: %v", got)
	}
	listed, err = s.interactions.ListActivities(t.Context(), &zendeskv1.ListActivitiesRequest{})
	must(t, err)
	if d := listed.GetActivities()[0].GetDetails(); d.GetAgent() != nil || d.GetRequester().GetEmail() == "" {
		t.Errorf("details are %v", d)
	}
	if found, err := s.store.Scrub(t.Context()); err != nil || found.Damaged != 0 {
		t.Errorf("scrubbed: %+v, %v", found, err)
	}
	s.stop()
	text := strings.ToLower(lines.String())
	if n := strings.Count(text, `"event":"person erased"`); n != 6 || strings.Count(text, `"event":"erasing a person begun"`) != 6 {
		t.Errorf("the audit has %d lines: %s", n, text)
	}
	for _, secret := range []string{"maria", "5557611", strings.ToLower(zendesktest.Agent.Email)} {
		if strings.Contains(text, secret) {
			t.Errorf("the audit says who was erased: %s", text)
		}
	}
}

// What the look-up remembers goes, too, by whatever the person was found: neither it nor the store knows him then.
func TestErasePersonForgetsCallers(t *testing.T) {
	s := newLateServer(t)
	const number, email = "(513) 555-0001", "ann.lee@example.com"
	create := func(interaction, number, email string) string {
		resp := s.findOrCreate(t, interaction, number, func(r *zendeskv1.FindOrCreateUserRequest) { r.Email = email })
		mustExit(t, resp, next)
		return resp.GetRecord().GetId()
	}
	ann, bob := create("c1", number, email), create("c2", "(513) 555-0002", "bob@example.com")
	if resp := s.identify(t, "c3", number); resp.GetRecord().GetId() != ann {
		t.Fatalf("she is not remembered: %v", resp)
	}
	const places = 4 // the number and the address, in memory and in the store
	dry := erasePhone("+1 513 555 0001")
	dry.DryRun = true
	if got := s.erase(t, dry); got.GetFound().GetRemembered() != places || got.GetErased().GetRemembered() != 0 {
		t.Errorf("counted: %v", got)
	}
	if resp := s.identify(t, "c3", number); resp.GetRecord().GetId() != ann {
		t.Errorf("counting has made her unknown: %v", resp)
	}
	if got := s.erase(t, eraseEmail(strings.ToUpper(email))); got.GetFound().GetRemembered() != places || got.GetErased().GetRemembered() != places {
		t.Errorf("erased: %v", got)
	}
	if got := s.erase(t, erasePhone("+1 513 555 0001")); got.GetFound().GetRemembered() != 0 {
		t.Errorf("again: %v", got)
	}
	for _, identity := range []string{"phone +15135550001", "email " + email} {
		if noted, found, err := s.store.PersonNoted(t.Context(), "default", s.zendesk.Origin(), identity); err != nil || found {
			t.Errorf("%q is noted: %+v, %v", identity, noted, err)
		}
	}
	mustExit(t, s.identify(t, "c3", number), noData) // Zendesk's search does not know her yet, and nobody else does
	if resp := s.identify(t, "c4", "(513) 555-0002"); resp.GetRecord().GetId() != bob {
		t.Errorf("somebody else is unknown: %v", resp)
	}
	if again := create("c5", number, email); again != ann {
		t.Errorf("she is user %s, and became %s", ann, again)
	}
}

func TestErasePersonErrors(t *testing.T) {
	t.Parallel()
	s := newTestServer(t)
	for field, requests := range map[string][]*zendeskv1.ErasePersonRequest{
		"person": {{}, {DryRun: true}},
		"email":  {eraseEmail(""), eraseEmail("maria"), eraseEmail("a b@example.com"), eraseEmail(strings.Repeat("a", 243) + "@example.com")},
		"phone": {
			erasePhone(""), erasePhone("513 555 7611"), erasePhone("anonymous"), erasePhone("+1"), erasePhone("ann@example.com"),
			erasePhone("+49 30 901820" + strings.Repeat(" 1", 30)),
		},
		"external_id": {{Person: &zendeskv1.ErasePersonRequest_ExternalId{}}, {Person: &zendeskv1.ErasePersonRequest_ExternalId{ExternalId: strings.Repeat("x", 257)}}},
	} {
		for _, req := range requests {
			stream, err := s.operations.ErasePerson(t.Context(), req)
			must(t, err)
			_, err = stream.Recv()
			mustViolate(t, err, field)
		}
	}
}

// It ends with the caller, and with the service: a repeat goes on.
func TestErasePersonEnds(t *testing.T) {
	t.Parallel()
	s := newTestServer(t)
	s.createAccount(t, "main", zendesktest.Admin)
	for i := range 300 {
		s.attach(t, fmt.Sprint("call-", i), map[string]string{"a": "ann@example.com"})
	}
	s.clock.advance(2 * time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := s.operations.ErasePerson(ctx, eraseEmail("ann@example.com"))
	must(t, err)
	if _, err := stream.Header(); err != nil { // it has begun
		t.Fatal(err)
	}
	cancel()
	if last, err := readErasing(stream); err == nil && !last.GetDone() {
		t.Errorf("it ended with %v", last)
	}
	conn, stop := s.listen(t)
	stream, err = zendeskv1.NewOperationsServiceClient(conn).ErasePerson(t.Context(), eraseEmail("ann@example.com"))
	must(t, err)
	_, err = stream.Header()
	must(t, err)
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	if last, err := readErasing(stream); err != nil {
		mustReason(t, err, codes.Unavailable, zendeskv1.ErrorReason_ERROR_REASON_SHUTTING_DOWN)
	} else if !last.GetDone() {
		t.Errorf("it ended with %v", last)
	}
	must(t, <-stopped)
	s.erase(t, eraseEmail("ann@example.com"))
	if got := s.erase(t, eraseEmail("ann@example.com")); got.GetFound().GetInteractions() != 0 {
		t.Errorf("in the end there is %v", got)
	}
}
