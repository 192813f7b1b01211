package pages

import (
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
)

// How many bytes of a page parts of an activity may take, each list as a whole.
const (
	roomOfComment  = 64 << 10
	roomOfText     = 12 << 10 // notes, and what was said
	roomOfLinks    = 12 << 10
	roomOfLegs     = 8 << 10
	roomOfData     = 24 << 10
	roomOfFields   = 16 << 10
	roomOfRejected = 12 << 10

	maxValue  = 4 << 10 // bytes of one value among others
	rowMarkup = 160     // bytes that the markup of a row takes, about
)

// fact is a line of what is known of something.
type fact struct {
	Label, Text string
	When        *timestamppb.Timestamp // in place of Text
	To          string                 // where Text leads
}

// facts leaves out those that are empty.
func facts(all ...fact) []fact {
	return slices.DeleteFunc(all, func(f fact) bool { return f.Text == "" && f.When == nil })
}

// keyed is a value with its key.
type keyed struct {
	Key   string
	Value text
}

// dataRows are keys and values in order, as many as there is room for; all of a value is at the address that all makes of its key.
func dataRows(data map[string]string, room int, all func(key string) string) (rows []keyed, left int) {
	for _, key := range slices.Sorted(maps.Keys(data)) {
		rows = append(rows, keyed{short(key, maxValue), shownText(data[key], maxValue, all(key))})
	}
	return fitting(rows, room, func(row keyed) int {
		return rowMarkup + escapedSize(row.Key) + escapedSize(row.Value.Text) + escapedSize(row.Value.Head) + len(row.Value.All)
	})
}

// activityPage is what the page of an activity begins with.
type activityPage struct {
	*zendeskv1.Activity
	Tag       tag
	Why       string
	Rule      string
	TicketURL string
	MayDecide bool // and there is something to decide
	Written   bool
	Skipped   bool
}

// ruleTexts are how tickets are chosen.
var ruleTexts = map[zendeskv1.TicketRule]string{
	zendeskv1.TicketRule_TICKET_RULE_REQUESTED:       "somebody named it",
	zendeskv1.TicketRule_TICKET_RULE_POPPED:          "it was popped last",
	zendeskv1.TicketRule_TICKET_RULE_CURRENT_RECORD:  "it was the current record of the last search",
	zendeskv1.TicketRule_TICKET_RULE_CREATED:         "there was none: it is created",
	zendeskv1.TicketRule_TICKET_RULE_NONE:            "there was none, and none is to be created",
	zendeskv1.TicketRule_TICKET_RULE_FOLLOW_UP:       "it follows up a closed one",
	zendeskv1.TicketRule_TICKET_RULE_MERGED:          "the chosen one was merged into it",
	zendeskv1.TicketRule_TICKET_RULE_NEWEST_UNSOLVED: "the requester's newest unsolved one",
}

func (p *Pages) showActivity(v *visit) (*page, error) {
	id := v.r.PathValue("id")
	reply, err := v.interactions.GetActivity(v, &zendeskv1.GetActivityRequest{ActivityId: id})
	if err != nil {
		return nil, err
	}
	a := reply.GetActivity()
	shown := activityPage{
		Activity: a, Tag: stateTag(a.GetState()), Why: short(holdUp(a, p.now()), maxValue), Rule: ruleTexts[a.GetTicketRule()],
		Written: a.GetState() == zendeskv1.ActivityState_ACTIVITY_STATE_WRITTEN,
		Skipped: a.GetState() == zendeskv1.ActivityState_ACTIVITY_STATE_SKIPPED,
	}
	shown.MayDecide = v.may("ops") && !shown.Written
	return &page{
		title: "Activity", template: "activity", data: shown,
		stream: func(put func(string, any) error) error {
			// Zendesk may be asked for its fields, and take its time.
			reply, err := v.interactions.PreviewActivity(v, &zendeskv1.PreviewActivityRequest{ActivityId: id})
			if err == nil {
				err = put("preview", previewOf(reply.GetPreview()))
			} else {
				err = put("problem", problemOf(err))
			}
			if err != nil {
				return err
			}
			return put("said", saidOf(a))
		},
	}, nil
}

// preview is what an activity writes, or has written.
type preview struct {
	*zendeskv1.ActivityPreview
	Title      string
	Comment    template.HTML
	Cut        bool
	Action     string
	Fields     []fieldRow
	FieldsLeft int
	Rejected   []rejectedRow
	MoreLeft   int
	Requester  string
	Failure    string // of the definitions of fields
}

type fieldRow struct {
	Key, Title, ID, Type string
	Value                text
}

type rejectedRow struct{ Key, Reason string }

var previewTitles = map[zendeskv1.ActivityState]string{
	zendeskv1.ActivityState_ACTIVITY_STATE_PENDING: "What will be written",
	zendeskv1.ActivityState_ACTIVITY_STATE_WRITTEN: "What was written",
}

// actionText says what is, was or would be done with a ticket.
func actionText(p *zendeskv1.ActivityPreview) string {
	written := p.GetState() == zendeskv1.ActivityState_ACTIVITY_STATE_WRITTEN
	switch p.GetTicketAction() {
	case zendeskv1.TicketAction_TICKET_ACTION_UPDATE:
		if written {
			return "It was added to the ticket"
		}
		return "It is added to the ticket"
	case zendeskv1.TicketAction_TICKET_ACTION_CREATE:
		if written {
			return "It created the ticket"
		}
		return "It creates a ticket"
	case zendeskv1.TicketAction_TICKET_ACTION_CHOOSE:
		return "It is added to the requester's newest unsolved ticket; if there is none, it creates one"
	case zendeskv1.TicketAction_TICKET_ACTION_NONE:
		return "Nothing is written: there is no ticket, and none is to be created. A retry has to name one"
	}
	return words("TICKET_ACTION", p.GetTicketAction())
}

func previewOf(p *zendeskv1.ActivityPreview) preview {
	shown := preview{ActivityPreview: p, Title: "What a retry would write", Action: actionText(p)}
	if title, ok := previewTitles[p.GetState()]; ok {
		shown.Title = title
	}
	shown.Comment, shown.Cut = commentMarkup(p.GetCommentHtml(), roomOfComment)
	for _, f := range p.GetCustomFields() {
		shown.Fields = append(shown.Fields, fieldRow{
			short(f.GetKey(), maxValue), short(f.GetTitle(), maxValue), f.GetFieldId(), f.GetType(),
			shownText(strings.Join(f.GetValues(), "\n"), maxValue, ""),
		})
	}
	shown.Fields, shown.FieldsLeft = fitting(shown.Fields, roomOfFields, func(row fieldRow) int {
		return rowMarkup + escapedSize(row.Key) + escapedSize(row.Title) + escapedSize(row.Value.Text) + escapedSize(row.Value.Head)
	})
	for _, r := range p.GetRejectedFields() {
		shown.Rejected = append(shown.Rejected, rejectedRow{short(r.GetKey(), maxValue), short(r.GetReason(), maxValue)})
	}
	shown.Rejected, shown.MoreLeft = fitting(shown.Rejected, roomOfRejected, func(row rejectedRow) int {
		return rowMarkup + escapedSize(row.Key) + escapedSize(row.Reason)
	})
	switch created := p.GetCreatedTicket(); {
	case created.GetRequesterId() != "":
		shown.Requester = "user " + created.GetRequesterId()
	case created.GetRequesterPerson() != nil:
		shown.Requester = person(created.GetRequesterPerson())
	case created != nil:
		shown.Requester = "the user that the account's credential is of"
	}
	if failure := p.GetFieldsFailure(); failure != nil {
		shown.Failure = short(reasonText(failure.GetReason())+": "+failure.GetMessage(), maxValue)
	}
	return shown
}

// person is a requester in a line.
func person(r *zendeskv1.Requester) string {
	var parts []string
	for _, part := range []string{r.GetName(), r.GetEmail(), r.GetPhone()} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, ", ")
}

func agentText(a *zendeskv1.Agent) string {
	if a.GetEmail() == "" && a.GetZendeskUserId() != "" {
		return "user " + a.GetZendeskUserId()
	}
	return a.GetEmail()
}

// said is what the runtime said of an interaction.
type said struct {
	Facts             []fact
	Legs              []legRow
	LegsLeft          int
	Links             []fact
	LinksLeft         int
	Notes, Transcript text
	Data              []keyed
	DataLeft          int
}

type legRow struct {
	Agent      string
	Start, End *timestamppb.Timestamp
}

func saidOf(a *zendeskv1.Activity) said {
	d := a.GetDetails()
	took := func(label string, d *durationpb.Duration) fact {
		if d == nil {
			return fact{}
		}
		if d.AsDuration() < 0 {
			return fact{Label: label, Text: "minus " + span(-d.AsDuration())}
		}
		return fact{Label: label, Text: lasts(d)}
	}
	status := ""
	if d.GetCompletionStatus() != 0 {
		status = words("COMPLETION_STATUS", d.GetCompletionStatus())
	}
	all := func(part, key string) string {
		query := url.Values{"id": {a.GetActivityId()}, "part": {part}}
		if key != "" {
			query.Set("key", key)
		}
		return "/activities/text?" + query.Encode()
	}
	shown := said{
		Facts: facts(
			fact{Label: "Subject", Text: d.GetSubject()}, fact{Label: "Channel", Text: d.GetChannel()}, fact{Label: "Direction", Text: d.GetDirection()},
			fact{Label: "From", Text: d.GetFromAddress()}, fact{Label: "To", Text: d.GetToAddress()}, fact{Label: "Requester", Text: person(d.GetRequester())},
			fact{Label: "Agent", Text: agentText(d.GetAgent())}, fact{Label: "Service", Text: d.GetService()}, fact{Label: "Disposition", Text: d.GetDisposition()},
			fact{Label: "How it ended", Text: status}, fact{Label: "Began", When: d.GetStartTime()}, fact{Label: "Answered", When: d.GetAnswerTime()},
			fact{Label: "Ended", When: d.GetEndTime()}, took("Waited", d.GetQueueDuration()), took("On hold", d.GetHoldDuration()),
			took("Talked", d.GetTalkDuration()), took("Wrap-up", d.GetWrapUpDuration()),
			fact{Label: "Recording", Text: d.GetRecordingUrl(), To: webAddress(d.GetRecordingUrl())},
		),
		Notes: shownText(d.GetNotes(), roomOfText, all("notes", "")), Transcript: shownText(d.GetTranscript(), roomOfText, all("transcript", "")),
	}
	for _, leg := range d.GetLegs() {
		shown.Legs = append(shown.Legs, legRow{agentText(leg.GetAgent()), leg.GetStartTime(), leg.GetEndTime()})
	}
	shown.Legs, shown.LegsLeft = fitting(shown.Legs, roomOfLegs, func(l legRow) int { return 2*rowMarkup + escapedSize(l.Agent) })
	for _, l := range d.GetLinks() {
		text := l.GetTitle()
		if text == "" || webAddress(l.GetUrl()) == "" {
			text = strings.TrimPrefix(text+", "+l.GetUrl(), ", ")
		}
		shown.Links = append(shown.Links, fact{Text: text, To: webAddress(l.GetUrl())})
	}
	shown.Links, shown.LinksLeft = fitting(shown.Links, roomOfLinks, func(f fact) int { return rowMarkup + escapedSize(f.Text) + escapedSize(f.To) })
	shown.Data, shown.DataLeft = dataRows(a.GetAttachedData(), roomOfData, func(key string) string { return all("data", key) })
	return shown
}

// activityText is a long text of an activity, all of it.
func (p *Pages) activityText(v *visit) (*page, error) {
	query := v.r.URL.Query()
	reply, err := v.interactions.GetActivity(v, &zendeskv1.GetActivityRequest{ActivityId: query.Get("id")})
	if err != nil {
		return nil, err
	}
	a := reply.GetActivity()
	switch query.Get("part") {
	case "notes":
		return plain(a.GetDetails().GetNotes()), nil
	case "transcript":
		return plain(a.GetDetails().GetTranscript()), nil
	case "data":
		if value, ok := a.GetAttachedData()[query.Get("key")]; ok {
			return plain(value), nil
		}
	}
	return nil, noText
}

var noText = &problem{Title: "Not found", Status: http.StatusNotFound, Message: "There is no such text."}

// renamed is a problem whose fields have the names of a form: pairs of the API's and the form's.
func (p *problem) renamed(names ...string) *problem {
	fields := maps.Clone(p.Fields)
	for i := 0; i+1 < len(names); i += 2 {
		if said, ok := fields[names[i]]; ok {
			delete(fields, names[i])
			fields[names[i+1]] = said
		}
	}
	renamed := *p
	renamed.Fields = fields
	return &renamed
}

// count is a number with what it counts.
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
