package pages

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
)

// Decisions about activities: each is looked at before it is made. What is discarded are activities that were looked at; what
// is retried may also be all that are dead and match.

const (
	maxDecided   = 200 // activities of one decision, and of one page of all that match
	shownDecided = 20  // of them that are shown before

	// retryingFor is how long one request retries all that match. Another goes on.
	retryingFor = 5 * time.Minute
)

// decision is what is to be done, as it stands in forms.
type decision struct {
	Act     string // retry or discard
	IDs     []string
	Ticket  string // another one to retry with
	All     bool   // all that are dead, of:
	Account string
	Reason  string
	Page    string // where to go on
}

func decisionOf(form url.Values) (decision, error) {
	d := decision{
		Act: form.Get("act"), Ticket: strings.TrimSpace(form.Get("ticket")), All: form.Get("all") != "",
		Account: strings.TrimSpace(form.Get("account")), Reason: form.Get("reason"), Page: form.Get("page"),
	}
	for _, id := range form["id"] {
		if id != "" && !slices.Contains(d.IDs, id) {
			d.IDs = append(d.IDs, id)
		}
	}
	switch {
	case d.Act != "retry" && d.Act != "discard":
		return d, unfit("act", "is retry or discard")
	case !d.All && len(d.IDs) == 0:
		return d, unfit("activities", "choose one at least")
	case len(d.IDs) > maxDecided:
		return d, unfit("activities", "choose 200 at most")
	}
	_, wrong := reasonOf(d.Reason)
	if wrong != nil {
		return d, wrong
	}
	return d, nil
}

// checkTicket says what is wrong with the other ticket; nil: nothing.
func (d decision) checkTicket() *problem {
	if len(d.Ticket) > 19 || strings.ContainsFunc(d.Ticket, func(r rune) bool { return r < '0' || r > '9' }) {
		return unfit("ticket", "is a ticket's number: at most 19 digits")
	}
	return nil
}

func (d decision) retry() bool { return d.Act == "retry" }

// path is the address of the page before the decision.
func (d decision) path() string {
	query := url.Values{"act": {d.Act}}
	for name, value := range map[string]string{"account": d.Account, "reason": d.Reason, "page": d.Page} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if d.All {
		query.Set("all", "1")
	} else {
		query["id"] = d.IDs
	}
	return "/activities/decide?" + query.Encode()
}

// outlook says what a decision does to an activity as it is.
func (d decision) outlook(a *zendeskv1.Activity) string {
	state := a.GetState()
	ticketless := a.GetTicketRule() == zendeskv1.TicketRule_TICKET_RULE_NONE
	switch {
	case state == zendeskv1.ActivityState_ACTIVITY_STATE_WRITTEN:
		return "Nothing: it is written"
	case !d.retry() && state == zendeskv1.ActivityState_ACTIVITY_STATE_DISCARDED:
		return "Nothing: it is discarded"
	case !d.retry():
		return "It is discarded, and not written"
	case ticketless && d.Ticket == "":
		return "Nothing, unless you name a ticket: it has none"
	case d.Ticket != "" && d.Ticket != a.GetTicketId():
		return "It is written to ticket " + d.Ticket
	case state == zendeskv1.ActivityState_ACTIVITY_STATE_PENDING:
		return "It is tried at once"
	}
	return "It waits to be written again"
}

// decisionPage is what is shown before a decision.
type decisionPage struct {
	decision
	Title   string
	Many    string // how many it is about
	Rows    []decisionRow
	More    int // that are not shown
	None    bool
	Form    decision // what the form sends
	Next    string   // where the next ones are looked at, when these are all that one decision has
	Problem *problem
}

type decisionRow struct {
	activityRow
	ID      string
	Outlook string
	Problem string // why it cannot be shown
}

func (p *Pages) previewDecision(v *visit) (*page, error) {
	d, err := decisionOf(v.r.URL.Query())
	if err != nil {
		return nil, err
	}
	return p.beforeDecision(v, d, d.checkTicket())
}

// beforeDecision says what will be done to how many.
func (p *Pages) beforeDecision(v *visit, d decision, wrong *problem) (*page, error) {
	shown := decisionPage{decision: d, Form: d, Problem: wrong}
	verb := map[bool]string{true: "Retry", false: "Discard"}[d.retry()]
	add := func(a *zendeskv1.Activity) {
		shown.Rows = append(shown.Rows, decisionRow{activityRows([]*zendeskv1.Activity{a}, p.now())[0], a.GetActivityId(), d.outlook(a), ""})
	}
	if d.All {
		reason, _ := reasonOf(d.Reason)
		list, err := v.interactions.ListActivities(v, &zendeskv1.ListActivitiesRequest{
			PageSize: maxDecided, PageToken: d.Page, State: zendeskv1.ActivityState_ACTIVITY_STATE_DEAD, AccountId: d.Account, FailureReason: reason,
		})
		if err != nil {
			return nil, err
		}
		found := list.GetActivities()
		for _, a := range found[:min(len(found), shownDecided)] {
			add(a)
		}
		shown.More = len(found) - len(shown.Rows)
		shown.Many = count(len(found), "dead activity", "dead activities")
		more := list.GetNextPageToken()
		switch {
		case d.retry() && more != "":
			shown.Many = fmt.Sprintf("more than %d dead activities", len(found))
		case d.retry():
		case d.Page != "":
			shown.Many = "the next " + shown.Many
		case more != "":
			shown.Many = "the first " + shown.Many
		}
		if !d.retry() && more != "" {
			after := d
			after.Page = more
			shown.Next = after.path()
		}
		if !d.retry() { // those that were looked at
			shown.Form = decision{Act: d.Act}
			for _, a := range found {
				shown.Form.IDs = append(shown.Form.IDs, a.GetActivityId())
			}
		}
		shown.None = len(found) == 0
	} else {
		for _, id := range d.IDs[:min(len(d.IDs), shownDecided)] {
			reply, err := v.interactions.GetActivity(v, &zendeskv1.GetActivityRequest{ActivityId: id})
			switch wrong := problemOf(err); {
			case wrong == nil:
				add(reply.GetActivity())
			case single(wrong):
				shown.Rows = append(shown.Rows, decisionRow{ID: short(id, maxWhy), Problem: wrong.Title})
			default:
				return nil, err
			}
		}
		shown.More = len(d.IDs) - len(shown.Rows)
		shown.Many = count(len(d.IDs), "activity", "activities")
	}
	shown.Title = verb + " " + shown.Many
	return &page{title: shown.Title, template: "decide", data: shown, problem: wrong}, nil
}

// single says that a problem is of one activity, and not one that all others have too.
func single(p *problem) bool {
	return slices.Contains([]zendeskv1.ErrorReason{
		zendeskv1.ErrorReason_ERROR_REASON_ACTIVITY_BUSY, zendeskv1.ErrorReason_ERROR_REASON_ACTIVITY_WRITTEN,
		zendeskv1.ErrorReason_ERROR_REASON_ACTIVITY_NOT_FOUND, zendeskv1.ErrorReason_ERROR_REASON_ACCOUNT_NOT_FOUND,
		zendeskv1.ErrorReason_ERROR_REASON_INVALID_FIELD,
	}, p.Reason)
}

// outcome is what came of a decision about one activity.
type outcome struct {
	ID, Text string
	Done     bool
}

// outcomeOf words it.
func outcomeOf(act, id string, wrong *problem) outcome {
	if wrong == nil {
		return outcome{id, map[string]string{"retry": "It waits to be written", "discard": "It is discarded"}[act], true}
	}
	said := wrong.Message
	switch wrong.Reason {
	case zendeskv1.ErrorReason_ERROR_REASON_ACTIVITY_BUSY:
		said = "It is being written at this moment: try again in a few seconds"
	case zendeskv1.ErrorReason_ERROR_REASON_ACTIVITY_WRITTEN:
		said = "It is written, maybe meanwhile: ticket " + cmp.Or(wrong.Metadata["ticket_id"], "unknown") + " has it"
	case zendeskv1.ErrorReason_ERROR_REASON_ACTIVITY_NOT_FOUND:
		said = "It is not there, or no more"
	case zendeskv1.ErrorReason_ERROR_REASON_ACCOUNT_NOT_FOUND:
		said = "There is no account to write it with"
	case zendeskv1.ErrorReason_ERROR_REASON_INVALID_FIELD:
		if wrong.Field("ticket_id") != "" {
			said = "The ticket " + wrong.Field("ticket_id")
		}
	}
	return outcome{id, short(said, maxWhy), false}
}

// decidedPage is what came of a decision.
type decidedPage struct {
	decision
	Outcomes []outcome
	Done     int
	Left     []string // that were not tried
	Problem  *problem // why
}

func (p *Pages) decide(v *visit) (*page, error) {
	if err := v.r.ParseForm(); err != nil {
		return nil, unfit("form", "is not readable, or too long")
	}
	d, err := decisionOf(v.r.PostForm)
	if err != nil {
		return nil, err
	}
	if wrong := d.checkTicket(); wrong != nil {
		return p.beforeDecision(v, d, wrong)
	}
	switch {
	case d.All && d.retry():
		return p.retryAll(v, d)
	case d.All: // nobody has looked at them
		return p.beforeDecision(v, d, nil)
	}
	result := decidedPage{decision: d}
	for i, id := range d.IDs {
		err := decideOne(v, d, id)
		wrong := problemOf(err)
		if wrong != nil && !single(wrong) {
			if i == 0 {
				return nil, err
			}
			result.Problem, result.Left = wrong, d.IDs[i:]
			break
		}
		result.Outcomes = append(result.Outcomes, outcomeOf(d.Act, id, wrong))
		if wrong == nil {
			result.Done++
		}
	}
	if len(d.IDs) == 1 && result.Done == 1 {
		return goTo("/activities/"+url.PathEscape(d.IDs[0]), d.Act), nil
	}
	done := map[string]string{"retry": "wait to be written", "discard": "are discarded"}[d.Act]
	return &page{title: fmt.Sprintf("%d of %d %s", result.Done, len(d.IDs), done), template: "decided", data: result, problem: result.Problem}, nil
}

func decideOne(v *visit, d decision, id string) (err error) {
	if d.retry() {
		_, err = v.interactions.RetryActivity(v, &zendeskv1.RetryActivityRequest{ActivityId: id, TicketId: d.Ticket})
	} else {
		_, err = v.interactions.DiscardActivity(v, &zendeskv1.DiscardActivityRequest{ActivityId: id})
	}
	return err
}

// progress is how far a retry of all that match has come.
type progress struct {
	Count int64
	Done  bool
	Form  decision // goes on
}

// retryAll retries all that match, and tells how far it is.
func (p *Pages) retryAll(v *visit, d decision) (*page, error) {
	reason, _ := reasonOf(d.Reason)
	request := &zendeskv1.RetryActivitiesRequest{AccountId: d.Account, FailureReason: reason, PageToken: d.Page}
	first, err := v.interactions.RetryActivities(v, request)
	if err != nil {
		return nil, err
	}
	return &page{
		title: "Retrying dead activities", template: "retrying", data: d,
		stream: func(put func(string, any) error) error {
			at := progress{Count: int64(first.GetCount()), Form: d}
			end := p.now().Add(retryingFor)
			for next := first.GetNextPageToken(); ; {
				at.Form.Page, at.Done = next, next == ""
				if at.Done || !p.now().Before(end) {
					return put("end", at)
				}
				if err := put("progress", at); err != nil {
					return err
				}
				request.PageToken = next
				reply, err := v.interactions.RetryActivities(v, request)
				if err != nil {
					if gone := put("end", at); gone != nil {
						return gone
					}
					return err
				}
				at.Count += int64(reply.GetCount())
				next = reply.GetNextPageToken()
			}
		},
	}, nil
}
