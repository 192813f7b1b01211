package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// demoTime is how long the whole demonstration may take.
const demoTime = 30 * time.Second

type demoCommand struct{}

// Run plays a scenario through real gRPC against a fake Zendesk, and shows each step. It fails when any step does.
func (demoCommand) Run(ctx context.Context, p *process) (err error) {
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
	command := serveCommand{Data: filepath.Join(dir, "demo.db"), AllowHost: []string{hostOf(sandbox.Origin())}, logFlags: logFlags{LogLevel: slog.LevelError}}
	go func() { served <- command.serve(serveCtx, p, l) }()
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
	t := &transcript{w: p.stdout}
	t.say("zendeskblocks %s at %s, with a fake Zendesk at %s.", version(), l.Addr(), sandbox.Origin())
	if err := playScenario(ctx, t, conn, sandbox); err != nil {
		return err
	}
	t.say("\nAll %d steps did what they should, in %d ms.", t.steps, time.Since(started).Milliseconds())
	return t.err
}

// playScenario is the guide's scenario: an administrator connects a Zendesk, and a call runs through its blocks.
func playScenario(ctx context.Context, t *transcript, conn *grpc.ClientConn, sandbox *zendesktest.Zendesk) error {
	accounts := zendeskv1.NewAccountServiceClient(conn)
	blocks := zendeskv1.NewBlockServiceClient(conn)
	interactions := zendeskv1.NewInteractionServiceClient(conn)
	const call = "call-2041"
	ani := map[string]string{"ANI": "+1 (513) 555-7611"}

	t.say("\nAn administrator connects a Zendesk.")
	if _, err := play(ctx, t, "Create an integration account. The first one is the default.", accounts.CreateAccount, &zendeskv1.CreateAccountRequest{
		AccountId: "support",
		Account: &zendeskv1.Account{
			Name: "Customer support", Url: sandbox.Origin(), DefaultRegion: "US",
			ApiToken: &zendeskv1.ApiToken{Username: zendesktest.Admin.Email, Token: zendesktest.Admin.APIToken},
		},
	}); err != nil {
		return err
	}
	if _, err := play(ctx, t, "Ask Zendesk for an OAuth token. From now on it authenticates every request.", accounts.RequestToken, &zendeskv1.RequestTokenRequest{
		AccountId: "support", ClientId: zendesktest.ClientID, ClientSecret: zendesktest.ClientSecret,
		Grant: &zendeskv1.RequestTokenRequest_ClientCredentials{ClientCredentials: &zendeskv1.ClientCredentialsGrant{}},
	}); err != nil {
		return err
	}
	tested, err := play(ctx, t, "Test the connection: what can this token do?", accounts.TestConnection, &zendeskv1.TestConnectionRequest{AccountId: "support"})
	if err != nil {
		return err
	}
	if tested.GetOutcome() != zendeskv1.CheckOutcome_CHECK_OUTCOME_OK {
		return fmt.Errorf("the connection test ended with %s", tested.GetOutcome())
	}

	t.say("\nA call from %s comes in, and its scenario runs.", ani["ANI"])
	if _, err := playBlock(ctx, t, "Select Account", blocks.SelectAccount, &zendeskv1.SelectAccountRequest{
		InteractionId: call, Choice: &zendeskv1.SelectAccountRequest_Account{Account: "Customer Support"},
	}); err != nil {
		return err
	}
	caller, err := playBlock(ctx, t, "Search: who is calling? The number is found however Zendesk has it written.", blocks.Search, &zendeskv1.SearchRequest{
		InteractionId: call, Variables: ani, RequestId: "step-2", RecordsetName: "caller",
		SearchString: "type:user phone:$(ANI,phone)", Columns: []string{"id", "name", "email", "phone", "organization_id"},
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
	}); err != nil {
		return err
	}
	if _, err := playBlock(ctx, t, "Get Next Record: she means the other one.", blocks.GetNextRecord, &zendeskv1.GetNextRecordRequest{
		InteractionId: call, RequestId: "step-4", RecordsetName: "tickets",
	}); err != nil {
		return err
	}
	if _, err := playBlock(ctx, t, "Screen Pop: that ticket, when an agent takes the call.", blocks.ScreenPop, &zendeskv1.ScreenPopRequest{
		InteractionId: call, RequestId: "step-5", Target: &zendeskv1.ScreenPopRequest_RecordsetName{RecordsetName: "tickets"},
	}); err != nil {
		return err
	}
	if _, err := playBlock(ctx, t, "Attached Data: what the scenario has learnt.", blocks.AttachedData, &zendeskv1.AttachedDataRequest{
		InteractionId: call, Variables: ani, RequestId: "step-6",
		Data: map[string]string{"Caller number": "$(ANI)", "Disposition": "Callback", "Language": "English"},
	}); err != nil {
		return err
	}

	if _, err := play(ctx, t, "Everything the blocks left is with the interaction.", interactions.GetInteraction, &zendeskv1.GetInteractionRequest{InteractionId: call}); err != nil {
		return err
	}
	return playAgent(ctx, t, interactions, sandbox, call)
}

// playAgent is the rest of the call: an agent takes it and ends it.
func playAgent(ctx context.Context, t *transcript, interactions zendeskv1.InteractionServiceClient, sandbox *zendesktest.Zendesk, call string) error {
	agent := &zendeskv1.Agent{Email: zendesktest.Agent.Email}
	started := time.Now()

	t.say("\n%s takes the call.", zendesktest.Agent.Name)
	delivered, err := play(ctx, t, "Deliver: the ticket opens in the agent's Zendesk.", interactions.DeliverInteraction, &zendeskv1.DeliverInteractionRequest{
		InteractionId: call, Agent: agent,
	})
	if err != nil {
		return err
	}
	if d := delivered.GetDeliveries(); len(d) != 1 || d[0].GetOutcome() != zendeskv1.DeliveryOutcome_DELIVERY_OUTCOME_DISPLAYED {
		return fmt.Errorf("step %d: the screen pop was not displayed", t.steps)
	}
	if err := t.recorded(ctx, sandbox, "What Zendesk showed", "/_sandbox/pops"); err != nil {
		return err
	}

	t.say("\nThe call ends.")
	completed, err := play(ctx, t, "Complete: its history is stored, and written to the ticket in the background.", interactions.CompleteInteraction, &zendeskv1.CompleteInteractionRequest{
		InteractionId: call, IfNoTicket: zendeskv1.IfNoTicket_IF_NO_TICKET_CREATE,
		Details: &zendeskv1.ActivityDetails{
			Channel: "voice", Direction: "inbound", FromAddress: zendesktest.Caller.Phone, ToAddress: "+1 800 555 0199", Agent: agent,
			Service: "Card terminals", Disposition: "Callback", Notes: "Terminal loses its connection after every reboot.\nShe is there until 5 pm.",
			RecordingUrl: "https://recordings.example.com/2041",
			StartTime:    timestamppb.New(started.Add(-5 * time.Minute)), AnswerTime: timestamppb.New(started.Add(-288 * time.Second)), EndTime: timestamppb.New(started),
		},
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
	written, err := play(ctx, t, "It is written.", interactions.GetActivity, &zendeskv1.GetActivityRequest{ActivityId: activity.GetActivityId()})
	if err != nil {
		return err
	}
	if state := written.GetActivity().GetState(); state != zendeskv1.ActivityState_ACTIVITY_STATE_WRITTEN {
		return fmt.Errorf("step %d: the activity is %s", t.steps, state)
	}
	return t.recorded(ctx, sandbox, "The ticket's last audit in Zendesk", "/api/v2/tickets/"+written.GetActivity().GetTicketId()+"/audits.json?sort=-created_at&page[size]=1")
}

// method is an RPC of a generated client.
type method[Q, R proto.Message] func(context.Context, Q, ...grpc.CallOption) (R, error)

// play calls an RPC and shows what went out and what came back.
func play[Q, R proto.Message](ctx context.Context, t *transcript, title string, rpc method[Q, R], request Q) (R, error) {
	t.step(title, request)
	response, err := rpc(ctx, request)
	if err != nil {
		return response, fmt.Errorf("step %d (%s): %w", t.steps, title, err)
	}
	t.reply(response)
	return response, t.err
}

// blockReply is what the replies of all blocks have.
type blockReply interface {
	proto.Message
	GetExit() zendeskv1.Exit
}

// playBlock is play for a block that must leave by NEXT.
func playBlock[Q proto.Message, R blockReply](ctx context.Context, t *transcript, title string, rpc method[Q, R], request Q) (R, error) {
	response, err := play(ctx, t, title, rpc, request)
	if err == nil && response.GetExit() != zendeskv1.Exit_EXIT_NEXT {
		err = fmt.Errorf("step %d (%s): the block left by %s", t.steps, title, response.GetExit())
	}
	return response, err
}
