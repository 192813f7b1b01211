package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// demoTime is how long the whole demonstration may take.
const demoTime = 30 * time.Second

type demoCommand struct {
	Verbose bool `help:"Show every request and reply in full, field by field."`
}

// Help is what --help adds.
func (demoCommand) Help() string {
	return `Both run in this process, on free loopback ports, and leave nothing behind. It exits 0 when every step did what it should. On a terminal it has colours, unless NO_COLOR is set.`
}

// Run plays a scenario through real gRPC against a fake Zendesk, and shows each step. It fails when any step does.
func (c demoCommand) Run(ctx context.Context, p *process) (err error) {
	ctx, cancel := context.WithTimeout(ctx, demoTime)
	defer cancel()
	dir, err := os.MkdirTemp("", "zendeskblocks-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	sandbox := zendesktest.New(zendesktest.Config{})
	if err := sandbox.Start("127.0.0.1:0"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sandbox.Close()) }()

	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	serveCtx, stop := context.WithCancel(ctx)
	served := make(chan error, 1)
	command := serveCommand{storeFlags: storeFlags{Data: filepath.Join(dir, "demo.db")}, AllowHost: []string{hostOf(sandbox.Origin())}}
	level, _ := logFlags{LogLevel: slog.LevelError}.newLevel(p.stderr)
	go func() { served <- command.serve(serveCtx, p, listeners{api: l}, level, command.watched()) }()
	defer func() {
		stop()
		err = errors.Join(err, <-served)
	}()

	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()

	started := time.Now()
	t := &transcript{w: p.stdout, verbose: c.Verbose, colours: hasColours(p.stdout, p.env)}
	t.say("zendeskblocks %s is at %s,\na fake Zendesk at %s.", version(), l.Addr(), sandbox.Origin())
	if err := playScenario(ctx, t, conn, sandbox); err != nil {
		return err
	}
	t.say("\nAll %d steps did what they should, in %d ms.", t.steps, time.Since(started).Milliseconds())
	t.say("By hand: zendeskblocks serve --sandbox, with pages at http://%s", sandboxWebListen)
	return t.err
}

// playScenario is the guide's scenario: an administrator connects a Zendesk, and a call runs through its blocks.
func playScenario(ctx context.Context, t *transcript, conn *grpc.ClientConn, sandbox *zendesktest.Zendesk) error {
	accounts := zendeskv1.NewAccountServiceClient(conn)
	blocks := zendeskv1.NewBlockServiceClient(conn)
	interactions := zendeskv1.NewInteractionServiceClient(conn)
	const call = "call-2041"
	ani := map[string]string{"ANI": "sip:+15135557611@carrier.example"}

	t.heading("An administrator connects a Zendesk.")
	if _, err := play(ctx, t, "Create an integration account. The first one is the default.", accounts.CreateAccount, &zendeskv1.CreateAccountRequest{
		AccountId: "support",
		Account: &zendeskv1.Account{
			Name: "Customer support", Url: sandbox.Origin(), DefaultRegion: "US",
			ApiToken: &zendeskv1.ApiToken{Username: zendesktest.Admin.Email, Token: zendesktest.Admin.APIToken},
		},
	}, func(r *zendeskv1.CreateAccountResponse) string {
		a := r.GetAccount()
		return fmt.Sprintf("%q (%s) at %s", a.GetName(), a.GetAccountId(), a.GetUrl())
	}); err != nil {
		return err
	}
	if _, err := play(ctx, t, "Ask Zendesk for an OAuth token. From now on it authenticates every request.", accounts.RequestToken, &zendeskv1.RequestTokenRequest{
		AccountId: "support", ClientId: zendesktest.ClientID, ClientSecret: zendesktest.ClientSecret,
		Grant: &zendeskv1.RequestTokenRequest_ClientCredentials{ClientCredentials: &zendeskv1.ClientCredentialsGrant{}},
	}, func(r *zendeskv1.RequestTokenResponse) string {
		token := r.GetAccount().GetOauthToken()
		return fmt.Sprintf("granted: %s; good until %s; renewable: %t", strings.Join(token.GetScopes(), " "), token.GetExpireTime().AsTime().Format("2 Jan 2006, 15:04 MST"), token.GetRenewable())
	}); err != nil {
		return err
	}
	tested, err := play(ctx, t, "Test the connection: what can this token do?", accounts.TestConnection, &zendeskv1.TestConnectionRequest{AccountId: "support"}, func(r *zendeskv1.TestConnectionResponse) string {
		return fmt.Sprintf("%s  as %s, %s; checks: %d", t.good(short(r.GetOutcome())), r.GetUser().GetName(), r.GetUser().GetRole(), len(r.GetChecks()))
	})
	if err != nil {
		return err
	}
	if tested.GetOutcome() != zendeskv1.CheckOutcome_CHECK_OUTCOME_OK {
		return fmt.Errorf("the connection test ended with %s", tested.GetOutcome())
	}

	t.heading("A call from %s comes in, and its scenario runs.", ani["ANI"])
	if _, err := playBlock(ctx, t, "Select Account", blocks.SelectAccount, &zendeskv1.SelectAccountRequest{
		InteractionId: call, Choice: &zendeskv1.SelectAccountRequest_Account{Account: "Customer Support"},
	}, func(r *zendeskv1.SelectAccountResponse) string { return r.GetAccount().GetName() }); err != nil {
		return err
	}
	caller, err := playBlock(ctx, t, "Identify Caller: who has this number, however Zendesk has it written?", blocks.IdentifyCaller, &zendeskv1.IdentifyCallerRequest{
		InteractionId: call, Variables: ani, RequestId: "step-2", RecordsetName: "caller",
		Phone: "$(ANI)", Columns: []string{"id", "name", "email", "phone", "organization_id"},
	}, func(r *zendeskv1.IdentifyCallerResponse) string {
		return fmt.Sprintf("%s, %s; grade: %s; requests: %d", columns(r.GetVariables(), "caller", "name", "phone"), r.GetMatchedField(), short(r.GetGrade()), r.GetRequests())
	})
	if err != nil {
		return err
	}
	if got := caller.GetVariables()["caller.name"]; got != zendesktest.Caller.Name {
		return fmt.Errorf("the caller is %q, not %q", got, zendesktest.Caller.Name)
	}
	if _, err := playBlock(ctx, t, "Search: her open tickets, newest first.", blocks.Search, &zendeskv1.SearchRequest{
		InteractionId: call, RequestId: "step-3", RecordsetName: "tickets",
		SearchString: "type:ticket requester:$(caller.email) status<solved", SortBy: zendeskv1.SortBy_SORT_BY_CREATED_AT, SortOrder: zendeskv1.SortOrder_SORT_ORDER_DESC,
		Columns: []string{"id", "subject", "status", "created_at"},
	}, func(r *zendeskv1.SearchResponse) string { return found(r, "tickets", "subject", "status") }); err != nil {
		return err
	}
	if _, err := playBlock(ctx, t, "Get Next Record: is it about the other one?", blocks.GetNextRecord, &zendeskv1.GetNextRecordRequest{
		InteractionId: call, RequestId: "step-4", RecordsetName: "tickets",
	}, func(r *zendeskv1.GetNextRecordResponse) string {
		return fmt.Sprintf("%d of %d: %s", r.GetPosition(), r.GetCount(), columns(r.GetVariables(), "tickets", "subject", "status"))
	}); err != nil {
		return err
	}
	if _, err := playBlock(ctx, t, "Create Object: neither. A ticket for it, its id in a variable.", blocks.CreateObject, &zendeskv1.CreateObjectRequest{
		InteractionId: call, RequestId: "step-5", ObjectType: zendeskv1.RecordType_RECORD_TYPE_TICKET, ObjectIdVariable: "new_ticket",
		Fields: map[string]string{
			"subject": "Terminal broken: $(caller.name)", "requester_id": "$(caller.id)", "tags": "callback,terminal",
			"comment.body": "Reported by telephone. Her last ticket: $(tickets.id).",
		},
	}, func(r *zendeskv1.CreateObjectResponse) string {
		return fmt.Sprintf("created: %t, new_ticket=%s", r.GetCreated(), r.GetVariables()["new_ticket"])
	}); err != nil {
		return err
	}
	if _, err := playBlock(ctx, t, "Screen Pop: that ticket, when an agent takes the call.", blocks.ScreenPop, &zendeskv1.ScreenPopRequest{
		InteractionId: call, RequestId: "step-6", Target: &zendeskv1.ScreenPopRequest_TicketId{TicketId: "$(new_ticket)"},
	}, func(r *zendeskv1.ScreenPopResponse) string {
		return "noted: ticket " + r.GetScreenPop().GetRecordId()
	}); err != nil {
		return err
	}
	if _, err := playBlock(ctx, t, "Attached Data: what the scenario has learnt.", blocks.AttachedData, &zendeskv1.AttachedDataRequest{
		InteractionId: call, RequestId: "step-7",
		Data: map[string]string{"Caller number": "$(caller.phone)", "Disposition": "Callback", "Language": "English"},
	}, func(r *zendeskv1.AttachedDataResponse) string {
		var data []string
		for _, key := range slices.Sorted(maps.Keys(r.GetData())) {
			data = append(data, key+"="+r.GetData()[key])
		}
		return strings.Join(data, " ")
	}); err != nil {
		return err
	}

	if _, err := play(ctx, t, "Everything the blocks left is with the interaction.", interactions.GetInteraction, &zendeskv1.GetInteractionRequest{InteractionId: call}, func(r *zendeskv1.GetInteractionResponse) string {
		i := r.GetInteraction()
		return fmt.Sprintf("%s  recordsets: %d, screen pops: %d, attached data: %d", short(i.GetState()), len(i.GetRecordsets()), len(i.GetScreenPops()), len(i.GetAttachedData()))
	}); err != nil {
		return err
	}
	return playAgent(ctx, t, interactions, sandbox, call)
}

// playAgent is the rest of the call: an agent takes it and ends it.
func playAgent(ctx context.Context, t *transcript, interactions zendeskv1.InteractionServiceClient, sandbox *zendesktest.Zendesk, call string) error {
	agent := &zendeskv1.Agent{Email: zendesktest.Agent.Email}
	started := time.Now()

	t.heading("%s takes the call.", zendesktest.Agent.Name)
	delivered, err := play(ctx, t, "Deliver: the ticket opens in the agent's Zendesk.", interactions.DeliverInteraction, &zendeskv1.DeliverInteractionRequest{
		InteractionId: call, Agent: agent,
	}, func(r *zendeskv1.DeliverInteractionResponse) string {
		var outcomes []string
		for _, d := range r.GetDeliveries() {
			outcomes = append(outcomes, fmt.Sprintf("%s  %s", t.good(short(d.GetOutcome())), d.GetScreenPop().GetUrl()))
		}
		return strings.Join(outcomes, ", ")
	})
	if err != nil {
		return err
	}
	if d := delivered.GetDeliveries(); len(d) != 1 || d[0].GetOutcome() != zendeskv1.DeliveryOutcome_DELIVERY_OUTCOME_DISPLAYED {
		return fmt.Errorf("step %d: the screen pop was not displayed", t.steps)
	}
	if err := t.showPops(ctx, sandbox); err != nil {
		return err
	}

	t.heading("The call ends.")
	completed, err := play(ctx, t, "Complete: its history is stored, and will be written to the ticket.", interactions.CompleteInteraction, &zendeskv1.CompleteInteractionRequest{
		InteractionId: call, IfNoTicket: zendeskv1.IfNoTicket_IF_NO_TICKET_CREATE,
		Details: &zendeskv1.ActivityDetails{
			Channel: "voice", Direction: "inbound", FromAddress: zendesktest.Caller.Phone, ToAddress: "+1 800 555 0199", Agent: agent,
			Subject: "Card terminal does not start", CompletionStatus: zendeskv1.CompletionStatus_COMPLETION_STATUS_COMPLETED,
			Service: "Card terminals", Disposition: "Callback", Notes: "The terminal stays dark, with another cable too.\nShe is there until 5 pm.",
			RecordingUrl: "https://recordings.example.com/2041",
			StartTime:    timestamppb.New(started.Add(-5 * time.Minute)), AnswerTime: timestamppb.New(started.Add(-288 * time.Second)), EndTime: timestamppb.New(started),
			QueueDuration: durationpb.New(12 * time.Second), HoldDuration: durationpb.New(35 * time.Second),
			TalkDuration: durationpb.New(253 * time.Second), WrapUpDuration: durationpb.New(40 * time.Second),
		},
	}, func(r *zendeskv1.CompleteInteractionResponse) string {
		a := r.GetActivity()
		return fmt.Sprintf("%s  for ticket %s, the one that was %s", short(a.GetState()), a.GetTicketId(), strings.ToLower(short(a.GetTicketRule())))
	})
	if err != nil {
		return err
	}
	activity := completed.GetActivity()
	for activity.GetState() == zendeskv1.ActivityState_ACTIVITY_STATE_PENDING {
		select {
		case <-ctx.Done():
			return fmt.Errorf("step %d: the activity was not written: %w", t.steps, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
		got, err := interactions.GetActivity(ctx, &zendeskv1.GetActivityRequest{ActivityId: activity.GetActivityId()})
		if err != nil {
			return err
		}
		activity = got.GetActivity()
	}
	written, err := play(ctx, t, "It is written.", interactions.GetActivity, &zendeskv1.GetActivityRequest{ActivityId: activity.GetActivityId()}, func(r *zendeskv1.GetActivityResponse) string {
		a := r.GetActivity()
		return fmt.Sprintf("%s  as audit %s; attempts: %d", t.good(short(a.GetState())), a.GetAuditId(), a.GetAttempts())
	})
	if err != nil {
		return err
	}
	if state := written.GetActivity().GetState(); state != zendeskv1.ActivityState_ACTIVITY_STATE_WRITTEN {
		return fmt.Errorf("step %d: the activity is %s", t.steps, state)
	}
	return t.showAudit(ctx, sandbox, written.GetActivity().GetTicketId())
}

// method is an RPC of a generated client.
type method[Q, R proto.Message] func(context.Context, Q, ...grpc.CallOption) (R, error)

// play calls an RPC and shows what went out and what came back: in full, or the result that it comes to in a line.
func play[Q, R proto.Message](ctx context.Context, t *transcript, title string, rpc method[Q, R], request Q, result func(R) string) (R, error) {
	t.step(title, request)
	response, err := rpc(ctx, request)
	if err != nil {
		return response, fmt.Errorf("step %d (%s): %w", t.steps, title, err)
	}
	t.reply(response, func() string { return result(response) })
	return response, t.err
}

// blockReply is what the replies of all blocks have.
type blockReply interface {
	proto.Message
	GetExit() zendeskv1.Exit
}

// playBlock is play for a block that must leave by NEXT.
func playBlock[Q proto.Message, R blockReply](ctx context.Context, t *transcript, title string, rpc method[Q, R], request Q, result func(R) string) (R, error) {
	response, err := play(ctx, t, title, rpc, request, func(r R) string { return t.good(short(r.GetExit())) + "  " + result(r) })
	if err == nil && response.GetExit() != zendeskv1.Exit_EXIT_NEXT {
		err = fmt.Errorf("step %d (%s): the block left by %s", t.steps, title, response.GetExit())
	}
	return response, err
}

// found words the current record of a search.
func found(r *zendeskv1.SearchResponse, recordset string, names ...string) string {
	return fmt.Sprintf("%d of %d: %s", r.GetRecordset().GetPosition(), r.GetRecordset().GetCount(), columns(r.GetVariables(), recordset, names...))
}

// columns words some columns of a recordset's current record.
func columns(variables map[string]string, recordset string, names ...string) string {
	var values []string
	for _, name := range names {
		values = append(values, variables[recordset+"."+name])
	}
	return strings.Join(values, ", ")
}
