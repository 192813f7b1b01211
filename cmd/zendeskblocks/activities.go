package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
)

type activitiesCommand struct {
	List    activitiesListCommand    `cmd:"" help:"List activities, and what keeps them from being written."`
	Retry   activitiesRetryCommand   `cmd:"" help:"Have activities written again: those named, or those that are DEAD and match."`
	Discard activitiesDiscardCommand `cmd:"" help:"Decide that activities need not be written: those named, or those that are DEAD and match."`
}

// activityState is one, by its name without prefix, in any case.
type activityState zendeskv1.ActivityState

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *activityState) UnmarshalText(text []byte) error {
	return enumOf(zendeskv1.ActivityState(0).Descriptor(), text, (*int32)(s))
}

// failureReason is one, by its name without prefix, in any case.
type failureReason zendeskv1.FailureReason

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *failureReason) UnmarshalText(text []byte) error {
	return enumOf(zendeskv1.FailureReason(0).Descriptor(), text, (*int32)(r))
}

// enumOf sets a value of an enum by its name.
func enumOf(enum protoreflect.EnumDescriptor, text []byte, to *int32) error {
	values := enum.Values()
	prefix := strings.TrimSuffix(string(values.ByNumber(0).Name()), "UNSPECIFIED")
	name := prefix + strings.TrimPrefix(strings.ToUpper(string(text)), prefix)
	var names []string
	for i := range values.Len() {
		v := values.Get(i)
		if v.Number() == 0 {
			continue
		}
		if string(v.Name()) == name {
			*to = int32(v.Number())
			return nil
		}
		names = append(names, strings.TrimPrefix(string(v.Name()), prefix))
	}
	return fmt.Errorf("%.40q is none of %s", text, strings.Join(names, ", "))
}

// moment is a time, or how long ago it was.
type moment struct{ at time.Time }

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *moment) UnmarshalText(text []byte) error {
	at, err := time.Parse(time.RFC3339, string(text))
	if err == nil {
		m.at = at
		return nil
	}
	var before lifetime
	if before.UnmarshalText(text) != nil || before < 0 {
		return fmt.Errorf("%.40q is neither a time, such as 2026-11-26T16:00:00Z, nor how long ago one was, such as 36h or 7d", text)
	}
	m.at = time.Now().Add(-time.Duration(before))
	return nil
}

func (m moment) proto() *timestamppb.Timestamp {
	if m.at.IsZero() {
		return nil
	}
	return timestamppb.New(m.at)
}

// activityFilter is what lists and decisions about many have in common.
type activityFilter struct {
	Account string        `help:"Only those of this account: its id, or the name of one that exists." placeholder:"ID"`
	Reason  failureReason `help:"Only those whose last try failed for this reason, such as ACCESS_DENIED." placeholder:"REASON"`
}

type activitiesListCommand struct {
	activityFilter `embed:""`
	State          activityState `help:"Only those in this state: PENDING, WRITTEN, SKIPPED, DEAD or DISCARDED." placeholder:"STATE"`
	Interaction    string        `help:"Only the one of this interaction." placeholder:"ID"`
	Since          moment        `help:"Only those completed then or later: a time, or how long ago, such as 36h or 7d." placeholder:"TIME"`
	Until          moment        `help:"Only those completed before: a time, or how long ago." placeholder:"TIME"`
	NewestFirst    bool          `help:"The newest first."`
	Limit          int           `help:"How many at most; 0: all." default:"100" placeholder:"NUMBER"`
	JSON           bool          `help:"One JSON object for each activity, as the API has it, with all that was said of the interaction."`
	clientFlags    `embed:"" group:"Server:"`
}

func (c *activitiesListCommand) problems() []error {
	problems := c.clientFlags.problems()
	if c.Limit < 0 {
		problems = append(problems, errors.New("--limit must not be less than 0"))
	}
	return problems
}

// Run lists.
func (c *activitiesListCommand) Run(ctx context.Context, p *process) (err error) {
	conn, err := c.connect(p.env)
	if err != nil {
		return err
	}
	defer conn.close(&err)
	out := newActivityListing(p.stdout, c.JSON)
	listed, more := 0, false
	err = pages(ctx, conn, zendeskv1.NewInteractionServiceClient(conn).ListActivities, &zendeskv1.ListActivitiesRequest{
		PageSize: pageSize(c.Limit), State: zendeskv1.ActivityState(c.State), AccountId: c.Account, FailureReason: zendeskv1.FailureReason(c.Reason),
		InteractionId: c.Interaction, Since: c.Since.proto(), Until: c.Until.proto(), NewestFirst: c.NewestFirst,
	}, func(page *zendeskv1.ListActivitiesResponse) (bool, error) {
		for _, a := range page.GetActivities() {
			if c.Limit > 0 && listed == c.Limit {
				more = true
				return false, nil
			}
			listed++
			if err := out.activity(a); err != nil {
				return false, err
			}
		}
		return true, nil
	})
	if err != nil {
		return errors.Join(out.table(), err)
	}
	if err := out.table(); err != nil {
		return err
	}
	if more {
		return out.say("Activities: %d, and there are more (see --limit)", listed)
	}
	return out.say("Activities: %d", listed)
}

// pageSize is what to ask for at a time when so many are wanted: one more tells whether there are more.
func pageSize(limit int) int32 {
	const most = 200
	if limit == 0 || limit >= most {
		return most
	}
	return int32(limit + 1)
}

// activityListing lists activities.
type activityListing struct {
	listing
	now time.Time
}

func newActivityListing(w io.Writer, asJSON bool) *activityListing {
	return &activityListing{listing{w: w, json: asJSON, header: []string{
		"ACTIVITY", "INTERACTION", "ACCOUNT", "TICKET", "STATE", "COMPLETED", "TRIES", "NEXT TRY", "WHY",
	}}, time.Now()}
}

func (l *activityListing) activity(a *zendeskv1.Activity) error {
	why := failureWords(a.GetFailure())
	if blocked := a.GetBlockedBy(); blocked != zendeskv1.FailureReason_FAILURE_REASON_UNSPECIFIED {
		why = strings.TrimSuffix("held by "+short(blocked)+"; "+why, "; ")
	}
	return l.item(a, a.GetActivityId(), a.GetInteractionId(), a.GetAccount().GetAccountId(), a.GetTicketId(), short(a.GetState()),
		ago(a.GetCreateTime(), l.now), fmt.Sprint(a.GetAttempts()), ago(a.GetNextAttemptTime(), l.now), why)
}

// decisionFlags say which activities are decided about: some by their ids, or all that are DEAD and match.
type decisionFlags struct {
	Activity       []string `arg:"" optional:"" help:"Ids of activities."`
	activityFilter `embed:""`
	All            bool `help:"All that are DEAD."`
	DryRun         bool `help:"Show which activities it would be, and change nothing."`
	Yes            bool `help:"Do not ask before many are changed."`
	JSON           bool `help:"One JSON object for each activity, as the API has it."`
	clientFlags    `embed:"" group:"Server:"`
}

// many says whether the activities are told by what they match.
func (f *decisionFlags) many() bool {
	return f.All || f.Account != "" || f.Reason != 0
}

func (f *decisionFlags) problems() []error {
	problems := f.clientFlags.problems()
	switch named := len(f.Activity) > 0; {
	case named && f.many():
		problems = append(problems, errors.New("give ids of activities, or what they match: --account, --reason or --all"))
	case !named && !f.many():
		problems = append(problems, errors.New("give ids of activities, or --account, --reason or --all"))
	}
	return problems
}

// decide decides about each activity that the flags mean, or shows them with --dry-run. One that cannot be decided about does
// not keep the others; a failure that the next one would have too ends the work.
func (f *decisionFlags) decide(ctx context.Context, p *process, verb string, one func(*connection, string) (*zendeskv1.Activity, error)) (err error) {
	conn, err := f.connect(p.env)
	if err != nil {
		return err
	}
	defer conn.close(&err)
	ids := f.Activity
	if f.many() || f.DryRun {
		found, err := f.find(ctx, conn, p.stdout)
		if err != nil || f.DryRun {
			return err
		}
		if ids = found; len(ids) == 0 {
			return (&listing{w: p.stdout, json: f.JSON}).say("Activities: 0")
		}
		if err := f.confirmed(ctx, p, fmt.Sprintf("%s %d activities?", verb, len(ids))); err != nil {
			return err
		}
	}
	out, done := newActivityListing(p.stdout, f.JSON), 0
	var failures []error
	for i, id := range ids {
		a, err := one(conn, id)
		if err == nil {
			done++
			err = out.activity(a)
		}
		if err == nil {
			continue
		}
		failures = append(failures, fmt.Errorf("activity %q: %w", id, err))
		if failed, ok := errors.AsType[*callError](err); !ok || !failed.single() {
			if left := len(ids) - i - 1; left > 0 {
				failures = append(failures, fmt.Errorf("activities that were not tried then: %d", left))
			}
			break
		}
	}
	return errors.Join(append([]error{out.table(), out.say("Activities: %d of %d", done, len(ids))}, failures...)...)
}

// find returns the ids of the activities that are meant. With --dry-run it shows them.
func (f *decisionFlags) find(ctx context.Context, conn *connection, w io.Writer) (ids []string, err error) {
	out := newActivityListing(w, f.JSON)
	interactions := zendeskv1.NewInteractionServiceClient(conn)
	visit := func(a *zendeskv1.Activity) error {
		ids = append(ids, a.GetActivityId())
		if f.DryRun {
			return out.activity(a)
		}
		return nil
	}
	var failures []error
	for _, id := range f.Activity {
		reply, err := ask(ctx, conn, interactions.GetActivity, &zendeskv1.GetActivityRequest{ActivityId: id})
		if err == nil {
			err = visit(reply.GetActivity())
		}
		if err != nil {
			failures = append(failures, fmt.Errorf("activity %q: %w", id, err))
		}
	}
	if f.many() {
		err = pages(ctx, conn, interactions.ListActivities, &zendeskv1.ListActivitiesRequest{
			PageSize: 200, State: zendeskv1.ActivityState_ACTIVITY_STATE_DEAD, AccountId: f.Account, FailureReason: zendeskv1.FailureReason(f.Reason),
		}, func(page *zendeskv1.ListActivitiesResponse) (bool, error) {
			for _, a := range page.GetActivities() {
				if err := visit(a); err != nil {
					return false, err
				}
			}
			return true, nil
		})
		failures = append(failures, err)
	}
	if f.DryRun {
		failures = append(failures, out.table(), out.say("Activities: %d; nothing was changed", len(ids)))
	}
	return ids, errors.Join(failures...)
}

// confirmed asks whoever sits at the terminal, unless --yes has answered.
func (f *decisionFlags) confirmed(ctx context.Context, p *process, question string) error {
	if f.Yes {
		return nil
	}
	info, err := os.Stdin.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return errors.New("nobody is here to be asked: give --yes, or look with --dry-run first")
	}
	return answered(ctx, os.Stdin, p.stderr, question)
}

// answered asks a question; anything but yes is no.
func answered(ctx context.Context, in io.Reader, out io.Writer, question string) error {
	if _, err := fmt.Fprintf(out, "%s [y/N] ", question); err != nil {
		return err
	}
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(in).ReadString('\n') // the end of the input is no answer
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case said := <-answer:
		if said == "y" || said == "yes" {
			return nil
		}
		return errors.New("not confirmed: nothing was changed")
	case <-ctx.Done():
		return ctx.Err()
	}
}

type activitiesRetryCommand struct {
	decisionFlags `embed:""`
	Ticket        string `help:"Another ticket to write them to; only with ids of activities." placeholder:"ID"`
}

func (c *activitiesRetryCommand) problems() []error {
	problems := c.decisionFlags.problems()
	if c.Ticket != "" && c.many() {
		problems = append(problems, errors.New("--ticket goes with ids of activities only"))
	}
	return problems
}

// Help is what --help adds.
func (activitiesRetryCommand) Help() string {
	return `Activities named by their ids may be in any state but WRITTEN; one that is SKIPPED needs a --ticket. Of those that match, the ones that are DEAD and have an account to be written with become PENDING. It exits 1 if one could not be retried.`
}

// Run retries.
func (c *activitiesRetryCommand) Run(ctx context.Context, p *process) error {
	if c.many() && !c.DryRun {
		return c.retryMatching(ctx, p)
	}
	return c.decide(ctx, p, "Retry", func(conn *connection, id string) (*zendeskv1.Activity, error) {
		reply, err := ask(ctx, conn, zendeskv1.NewInteractionServiceClient(conn).RetryActivity, &zendeskv1.RetryActivityRequest{ActivityId: id, TicketId: c.Ticket})
		return reply.GetActivity(), err
	})
}

// retryMatching has the service find them: it takes thousands at a time.
func (c *activitiesRetryCommand) retryMatching(ctx context.Context, p *process) (err error) {
	conn, err := c.connect(p.env)
	if err != nil {
		return err
	}
	defer conn.close(&err)
	if err := c.confirmed(ctx, p, "Retry all activities that are DEAD and match?"); err != nil {
		return err
	}
	retried := int64(0)
	err = pages(ctx, conn, zendeskv1.NewInteractionServiceClient(conn).RetryActivities, &zendeskv1.RetryActivitiesRequest{
		AccountId: c.Account, FailureReason: zendeskv1.FailureReason(c.Reason),
	}, func(page *zendeskv1.RetryActivitiesResponse) (bool, error) {
		retried += int64(page.GetCount())
		return true, nil
	})
	if c.JSON {
		_, printErr := fmt.Fprintf(p.stdout, "{\"count\":%d}\n", retried)
		return errors.Join(err, printErr)
	}
	return errors.Join((&listing{w: p.stdout}).say("Activities that are PENDING again: %d", retried), err)
}

type activitiesDiscardCommand struct {
	decisionFlags `embed:""`
}

// Help is what --help adds.
func (activitiesDiscardCommand) Help() string {
	return `Activities named by their ids may be in any state but WRITTEN. Of those that match, the ones that are DEAD are discarded. RetryActivity takes a decision back for as long as the activity is kept. It exits 1 if one could not be discarded.`
}

// Run discards.
func (c *activitiesDiscardCommand) Run(ctx context.Context, p *process) error {
	return c.decide(ctx, p, "Discard", func(conn *connection, id string) (*zendeskv1.Activity, error) {
		reply, err := ask(ctx, conn, zendeskv1.NewInteractionServiceClient(conn).DiscardActivity, &zendeskv1.DiscardActivityRequest{ActivityId: id})
		return reply.GetActivity(), err
	})
}
