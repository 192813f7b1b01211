package pages

import (
	"cmp"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/timestamppb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
)

func (p *Pages) serveActivities() {
	p.handle("GET /activities", p.listActivities)
	p.handle("GET /activities/{id}", p.showActivity)
	p.handle("GET /activities/text", p.activityText)
	p.handle("GET /activities/decide", p.previewDecision)
	p.handle("POST /activities/decide", p.decide)
}

const (
	activitiesOfPage = 50
	illAccounts      = 10  // that a page shows
	maxWhy           = 300 // bytes of why an activity is not written
)

// choice is an option of a select, or a link to a part of a list.
type choice struct {
	Key, Text string
	Chosen    bool
}

// choose marks the chosen one.
func choose(chosen string, all []choice) []choice {
	marked := make([]choice, len(all))
	for i, c := range all {
		marked[i] = choice{c.Key, c.Text, c.Key == chosen}
	}
	return marked
}

var (
	activityStates = []choice{
		{Key: "waiting", Text: "Waiting"}, {Key: "dead", Text: "Dead"}, {Key: "written", Text: "Written"},
		{Key: "skipped", Text: "Skipped"}, {Key: "discarded", Text: "Discarded"}, {Key: "all", Text: "All"},
	}
	statesByKey = map[string]zendeskv1.ActivityState{
		"waiting": zendeskv1.ActivityState_ACTIVITY_STATE_PENDING, "dead": zendeskv1.ActivityState_ACTIVITY_STATE_DEAD,
		"written": zendeskv1.ActivityState_ACTIVITY_STATE_WRITTEN, "skipped": zendeskv1.ActivityState_ACTIVITY_STATE_SKIPPED,
		"discarded": zendeskv1.ActivityState_ACTIVITY_STATE_DISCARDED, "all": zendeskv1.ActivityState_ACTIVITY_STATE_UNSPECIFIED,
	}
	orders = []choice{{Key: "newest", Text: "Newest first"}, {Key: "oldest", Text: "Oldest first"}}
)

// stateTag is a state for the template "tag".
func stateTag(state zendeskv1.ActivityState) tag {
	switch state {
	case zendeskv1.ActivityState_ACTIVITY_STATE_PENDING:
		return tag{"waiting", "warn"}
	case zendeskv1.ActivityState_ACTIVITY_STATE_WRITTEN:
		return tag{"written", "good"}
	case zendeskv1.ActivityState_ACTIVITY_STATE_DEAD:
		return tag{"dead", "bad"}
	}
	return tag{words("ACTIVITY_STATE", state), ""}
}

// tag is a word in a frame, of a colour.
type tag struct{ Text, Class string }

// reasonTexts are what kinds of failures mean. One that is not here has the words of its name.
var reasonTexts = map[zendeskv1.FailureReason]string{
	zendeskv1.FailureReason_FAILURE_REASON_TIMEOUT:              "Zendesk did not answer in time",
	zendeskv1.FailureReason_FAILURE_REASON_RATE_LIMITED:         "Zendesk throttles",
	zendeskv1.FailureReason_FAILURE_REASON_CREDENTIALS_REJECTED: "the account is not authorized",
	zendeskv1.FailureReason_FAILURE_REASON_ACCESS_DENIED:        "the account may not do this",
	zendeskv1.FailureReason_FAILURE_REASON_INVALID_REQUEST:      "Zendesk refuses it",
	zendeskv1.FailureReason_FAILURE_REASON_NOT_FOUND:            "the ticket is not there",
	zendeskv1.FailureReason_FAILURE_REASON_CONFLICT:             "somebody changed it at the same time",
	zendeskv1.FailureReason_FAILURE_REASON_UNAVAILABLE:          "Zendesk cannot be reached",
	zendeskv1.FailureReason_FAILURE_REASON_BAD_RESPONSE:         "Zendesk's answer is not readable",
	zendeskv1.FailureReason_FAILURE_REASON_ACCOUNT_NOT_FOUND:    "the account does not exist",
	zendeskv1.FailureReason_FAILURE_REASON_NO_DEFAULT_ACCOUNT:   "there is no default account",
}

func reasonText(reason zendeskv1.FailureReason) string {
	return cmp.Or(reasonTexts[reason], words("FAILURE_REASON", reason))
}

// reasonKey is a reason in an address, such as rate_limited; empty for none.
func reasonKey(reason zendeskv1.FailureReason) string {
	if reason == 0 {
		return ""
	}
	return strings.ToLower(strings.TrimPrefix(reason.String(), "FAILURE_REASON_"))
}

// reasonChoices are the reasons that an activity can have.
func reasonChoices(chosen string) []choice {
	all := []choice{{Text: "Any"}}
	for i := range len(zendeskv1.FailureReason_name) {
		reason := zendeskv1.FailureReason(i)
		if text, ok := reasonTexts[reason]; ok {
			all = append(all, choice{Key: reasonKey(reason), Text: strings.ToUpper(text[:1]) + text[1:]})
		}
	}
	return choose(chosen, all)
}

// reasonOf is the opposite of reasonKey.
func reasonOf(key string) (zendeskv1.FailureReason, *problem) {
	if key == "" {
		return 0, nil
	}
	number, ok := zendeskv1.FailureReason_value["FAILURE_REASON_"+strings.ToUpper(key)]
	if !ok {
		return 0, unfit("reason", "is not known")
	}
	return zendeskv1.FailureReason(number), nil
}

// activityFilter is what a list is narrowed to, as it stands in an address.
type activityFilter struct {
	State, Account, Reason, Interaction, Since, Until, Order string
}

func activityFilterOf(query url.Values) activityFilter {
	f := activityFilter{
		State: query.Get("state"), Account: strings.TrimSpace(query.Get("account")), Reason: query.Get("reason"),
		Interaction: strings.TrimSpace(query.Get("interaction")), Since: strings.TrimSpace(query.Get("since")),
		Until: strings.TrimSpace(query.Get("until")), Order: cmp.Or(query.Get("order"), "newest"),
	}
	if f.State == "" {
		f.State = "waiting"
		if f.Interaction != "" {
			f.State = "all" // there is one
		}
	}
	return f
}

// query is the address of a list, without the question mark.
func (f activityFilter) query(more ...string) string {
	query := url.Values{}
	for _, part := range [][2]string{
		{"state", f.State}, {"account", f.Account}, {"reason", f.Reason}, {"interaction", f.Interaction},
		{"since", f.Since}, {"until", f.Until}, {"order", f.Order},
	} {
		if part[1] != "" {
			query.Set(part[0], part[1])
		}
	}
	for i := 0; i+1 < len(more); i += 2 {
		query.Set(more[i], more[i+1])
	}
	return query.Encode()
}

// request asks the API for what a filter means.
func (f activityFilter) request() (*zendeskv1.ListActivitiesRequest, *problem) {
	state, ok := statesByKey[f.State]
	if !ok {
		return nil, unfit("state", "is not known")
	}
	if f.Order != "newest" && f.Order != "oldest" {
		return nil, unfit("order", "is newest or oldest")
	}
	reason, wrong := reasonOf(f.Reason)
	if reason != 0 && f.State == "all" && f.Interaction == "" { // the API would read the reasons of all that are written
		wrong = unfit("reason", "is asked of those that wait, are dead or discarded: choose a state")
	}
	since, err := timeOf(f.Since)
	if wrong == nil && err != nil {
		wrong = unfit("since", err.Error())
	}
	until, err := timeOf(f.Until)
	if wrong == nil && err != nil {
		wrong = unfit("until", err.Error())
	}
	if wrong != nil {
		return nil, wrong
	}
	return &zendeskv1.ListActivitiesRequest{
		PageSize: activitiesOfPage, State: state, AccountId: f.Account, FailureReason: reason, InteractionId: f.Interaction,
		Since: since, Until: until, NewestFirst: f.Order == "newest",
	}, nil
}

// without says that no activity can match, which the API would find out by reading them all.
func (f activityFilter) without() bool {
	return f.Reason != "" && (f.State == "written" || f.State == "skipped")
}

type badTime struct{}

func (badTime) Error() string { return "is no time: it is like 2026-11-26T16:00, by UTC" }

// timeOf reads a time of a form, by UTC unless it says otherwise; nil for none.
func timeOf(said string) (*timestamppb.Timestamp, error) {
	if said == "" {
		return nil, nil //nolint:nilnil // none is one of the answers
	}
	for _, layout := range []string{"2006-01-02T15:04", "2006-01-02T15:04:05", time.RFC3339, time.DateOnly} {
		if at, err := time.Parse(layout, said); err == nil {
			return timestamppb.New(at), nil
		}
	}
	return nil, badTime{}
}

// activityRow is a line of a list.
type activityRow struct {
	*zendeskv1.Activity
	Tag tag
	Why string // it is not written
}

func activityRows(activities []*zendeskv1.Activity, now time.Time) []activityRow {
	rows := make([]activityRow, len(activities))
	for i, a := range activities {
		rows[i] = activityRow{a, stateTag(a.GetState()), short(holdUp(a, now), maxWhy)}
	}
	return rows
}

// holdUp says what keeps an activity from being written.
func holdUp(a *zendeskv1.Activity, now time.Time) string {
	var parts []string
	switch a.GetState() {
	case zendeskv1.ActivityState_ACTIVITY_STATE_PENDING:
		blocked, next := a.GetBlockedBy(), a.GetNextAttemptTime()
		if blocked != 0 {
			parts = append(parts, "Held up: "+reasonText(blocked))
		}
		switch {
		case next != nil && next.AsTime().After(now):
			parts = append(parts, "tried "+ago(next, now))
		case blocked == 0:
			parts = append(parts, "It is its turn")
		}
	case zendeskv1.ActivityState_ACTIVITY_STATE_SKIPPED:
		return "There was no ticket, and none was to be created"
	case zendeskv1.ActivityState_ACTIVITY_STATE_WRITTEN:
		return ""
	}
	if failure := a.GetFailure(); failure != nil {
		text := reasonText(failure.GetReason())
		parts = append(parts, strings.ToUpper(text[:1])+text[1:]+": "+failure.GetMessage())
	}
	return strings.Join(parts, "; ")
}

// activitiesPage is what a list shows.
type activitiesPage struct {
	Filter                  activityFilter
	States, Reasons, Orders []choice
	Problem                 *problem // of the filter

	Waiting, Dead int64
	Oldest        *zendeskv1.Activity // of all that wait
	Account       *zendeskv1.Account  // that the filter names
	Ill           []illAccount
	MoreIll       bool

	Rows  []activityRow
	First string // the address of the first page; empty on it
	Next  string // of the next one; empty on the last
}

// illAccount is an account with activities that may be held up.
type illAccount struct {
	*zendeskv1.Account
	Tag tag
}

var illTags = map[zendeskv1.HealthState]tag{
	zendeskv1.HealthState_HEALTH_STATE_NEEDS_AUTHORIZATION: {"needs authorization", "bad"},
	zendeskv1.HealthState_HEALTH_STATE_FAILING:             {"failing", "bad"},
	zendeskv1.HealthState_HEALTH_STATE_LIMITED:             {"throttled", "warn"},
	zendeskv1.HealthState_HEALTH_STATE_HEALTHY:             {"well", "good"},
}

func (p *Pages) listActivities(v *visit) (*page, error) {
	query := v.r.URL.Query()
	shown := activitiesPage{Filter: activityFilterOf(query)}
	request, wrong := shown.Filter.request()
	if wrong == nil {
		request.PageToken = query.Get("page")
		if err := p.fillActivities(v, &shown, request); err != nil {
			if wrong = problemOf(err); wrong.Reason != zendeskv1.ErrorReason_ERROR_REASON_INVALID_FIELD {
				return nil, err
			}
			wrong = wrong.renamed("account_id", "account", "interaction_id", "interaction", "page_token", "page")
		}
	}
	f := shown.Filter
	shown.Problem = wrong
	shown.States, shown.Reasons, shown.Orders = choose(f.State, activityStates), reasonChoices(f.Reason), choose(f.Order, orders)
	if query.Get("page") != "" {
		shown.First = "/activities?" + f.query()
	}
	return &page{title: "Activities", template: "activities", data: shown, problem: wrong}, nil
}

// fillActivities asks for a page of a list and, on the first, for what stands above it.
func (p *Pages) fillActivities(v *visit, shown *activitiesPage, request *zendeskv1.ListActivitiesRequest) error {
	asking, ctx := errgroup.WithContext(v)
	if !shown.Filter.without() {
		asking.Go(func() error {
			list, err := v.interactions.ListActivities(ctx, request)
			shown.Rows = activityRows(list.GetActivities(), p.now())
			if next := list.GetNextPageToken(); next != "" {
				shown.Next = "/activities?" + shown.Filter.query("page", next)
			}
			return err
		})
	}
	asking.Go(func() error {
		usage, err := v.operations.GetUsage(ctx, &zendeskv1.GetUsageRequest{})
		shown.Waiting, shown.Dead = usage.GetUsage().GetPendingActivities(), usage.GetUsage().GetDeadActivities()
		return err
	})
	if request.GetPageToken() != "" {
		return asking.Wait()
	}
	asking.Go(func() error {
		oldest, err := v.interactions.ListActivities(ctx, &zendeskv1.ListActivitiesRequest{
			PageSize: 1, State: zendeskv1.ActivityState_ACTIVITY_STATE_PENDING,
		})
		for _, a := range oldest.GetActivities() {
			shown.Oldest = a
		}
		return err
	})
	asking.Go(func() error {
		ill, err := v.accounts.ListAccounts(ctx, &zendeskv1.ListAccountsRequest{PageSize: illAccounts, OnlyIll: true})
		for _, account := range ill.GetAccounts() {
			shown.Ill = append(shown.Ill, illAccount{account, illTags[account.GetHealth().GetState()]})
		}
		shown.MoreIll = ill.GetNextPageToken() != ""
		return err
	})
	if id := request.GetAccountId(); id != "" {
		asking.Go(func() error {
			account, err := v.accounts.GetAccount(ctx, &zendeskv1.GetAccountRequest{AccountId: id})
			if wrong := problemOf(err); wrong != nil && wrong.Status < http.StatusInternalServerError {
				return nil // it is a name, or the account is gone and its activities are there
			}
			shown.Account = account.GetAccount()
			return err
		})
	}
	return asking.Wait()
}
