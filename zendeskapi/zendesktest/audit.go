package zendesktest

import (
	"encoding/json"
	"html"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// audit is one change of a ticket with everything it did.
type audit struct {
	ID        int64         `json:"id"`
	TicketID  int64         `json:"ticket_id"`
	CreatedAt time.Time     `json:"created_at"`
	AuthorID  int64         `json:"author_id"`
	Metadata  auditMetadata `json:"metadata"`
	Events    []any         `json:"events"` // of commentEvent, changeEvent
	Via       via           `json:"via"`
}

type auditMetadata struct {
	System systemMetadata `json:"system"`
	// Custom is what the request gave as the ticket's metadata.
	Custom json.RawMessage `json:"custom"`
}

type systemMetadata struct {
	Client    string  `json:"client"`
	IPAddress string  `json:"ip_address"`
	Location  string  `json:"location"`
	Latitude  float64 `json:"latitude"`
	Longitude float64 `json:"longitude"`
}

// via tells how something came to be.
type via struct {
	Channel string    `json:"channel"`
	Source  viaSource `json:"source"`
}

type viaSource struct {
	From object  `json:"from"`
	To   object  `json:"to"`
	Rel  *string `json:"rel"`
}

func viaChannel(channel string) via {
	return via{Channel: channel, Source: viaSource{From: object{}, To: object{}}}
}

// commentEvent is a comment as an audit tells it.
type commentEvent struct {
	ID          int64    `json:"id"`
	Type        string   `json:"type"`
	AuthorID    int64    `json:"author_id"`
	Body        string   `json:"body"`
	HTMLBody    string   `json:"html_body"`
	PlainBody   string   `json:"plain_body"`
	Public      bool     `json:"public"`
	Attachments []string `json:"attachments"`
	AuditID     int64    `json:"audit_id"`
}

// changeEvent is one field that got a value (Create) or another one (Change).
type changeEvent struct {
	ID            int64  `json:"id"`
	Type          string `json:"type"`
	Value         any    `json:"value"`
	FieldName     string `json:"field_name"`
	PreviousValue any    `json:"previous_value"`
}

// createEvent is a changeEvent of a new ticket: there was nothing before.
type createEvent struct {
	ID        int64  `json:"id"`
	Type      string `json:"type"`
	Value     any    `json:"value"`
	FieldName string `json:"field_name"`
}

// comment is a comment as the list of comments tells it.
type comment struct {
	commentEvent
	Via       via           `json:"via"`
	CreatedAt time.Time     `json:"created_at"`
	Metadata  auditMetadata `json:"metadata"`
}

// draftComment is a comment that a request adds.
type draftComment struct {
	body, html string
	public     *bool
	author     *int64
}

// readComment reads the comment of a request; dropped are the keys nobody
// reads.
func readComment(raw json.RawMessage) (d *draftComment, dropped []string, ok bool) {
	var fields map[string]json.RawMessage
	if !into(&fields)(raw) {
		// The short form is the text alone.
		var text string
		if !into(&text)(raw) {
			return nil, nil, false
		}
		return &draftComment{body: text}, nil, true
	}
	d = &draftComment{}
	dropped, wrong := rules{
		"body":      into(&d.body),
		"html_body": into(&d.html),
		"public":    into(&d.public),
		"author_id": into(&d.author),
	}.apply("ticket.comment", fields)
	return d, dropped, len(wrong) == 0
}

// event writes the comment into an audit.
func (d *draftComment) event(id, auditID, author, ticketID int64, public bool) commentEvent {
	e := commentEvent{
		ID: id, Type: "Comment", AuthorID: author, AuditID: auditID,
		Body: d.body, Public: public, Attachments: []string{},
	}
	if d.author != nil {
		e.AuthorID = *d.author
	}
	if d.public != nil {
		e.Public = *d.public
	}
	e.Body = expanded(e.Body, ticketID)
	inner := "<p dir=\"auto\">" + strings.ReplaceAll(html.EscapeString(e.Body), "\n", "<br>") + "</p>"
	if d.html != "" {
		inner = expanded(d.html, ticketID)
		e.Body = withoutMarkup(inner)
	}
	inner = withLinks(inner)
	e.PlainBody = e.Body
	e.HTMLBody = `<div class="zd-comment" dir="auto">` + inner + `</div>`
	return e
}

func (d *draftComment) blank() bool {
	return strings.TrimSpace(d.body) == "" && strings.TrimSpace(withoutMarkup(d.html)) == ""
}

// blocks are the elements that stand on lines of their own.
var blocks = map[string]bool{
	"p": true, "div": true, "br": true, "ul": true, "ol": true, "li": true, "blockquote": true, "table": true, "tr": true, "pre": true, "h1": true, "h2": true, "hr": true,
}

// withoutMarkup is the text of a piece of HTML, in lines.
func withoutMarkup(s string) string {
	var text strings.Builder
	for {
		before, rest, found := strings.Cut(s, "<")
		text.WriteString(html.UnescapeString(before))
		if !found {
			return strings.Trim(blankLines.ReplaceAllString(text.String(), "\n\n"), "\n")
		}
		var tag string
		tag, s, _ = strings.Cut(rest, ">")
		name, _, _ := strings.Cut(strings.ToLower(strings.Trim(tag, "/ ")), " ")
		switch closes := strings.HasPrefix(tag, "/"); {
		case name == "p" && closes:
			text.WriteString("\n\n")
		case name == "br", closes && blocks[name]:
			text.WriteString("\n")
		case name == "li":
			text.WriteString("  * ")
		}
	}
}

var blankLines = regexp.MustCompile(`\n{3,}`)

// bareLink finds what becomes a link by itself in a comment: no more than what surely does.
var bareLink = regexp.MustCompile(`(?i)\b(?:https?|ftp|mailto|tel|skype|irc|webcal):[^\s<>"]+|\bwww\.[^\s<>"]+`)

// withLinks makes links of the addresses in the text of a piece of HTML that stand in none.
func withLinks(s string) string {
	var out strings.Builder
	linked := false
	for s != "" {
		text, rest, found := strings.Cut(s, "<")
		if !linked {
			text = bareLink.ReplaceAllStringFunc(text, func(address string) string {
				return `<a href="` + address + `">` + address + `</a>`
			})
		}
		out.WriteString(text)
		if !found {
			break
		}
		tag, after, closed := strings.Cut(rest, ">")
		switch name, _, _ := strings.Cut(strings.ToLower(tag), " "); name {
		case "a":
			linked = true
		case "/a":
			linked = false
		}
		out.WriteString("<" + tag)
		if closed {
			out.WriteString(">")
		}
		s = after
	}
	return out.String()
}

// expanded fills in the placeholders that agents' comments may hold.
// https://support.zendesk.com/hc/en-us/articles/4408886858138
func expanded(s string, ticketID int64) string {
	return placeholder.ReplaceAllStringFunc(s, func(found string) string {
		if placeholder.FindStringSubmatch(found)[1] == "ticket.id" {
			return strconv.FormatInt(ticketID, 10)
		}
		return ""
	})
}

var placeholder = regexp.MustCompile(`\{\{\s*([a-z._]+)\s*\}\}`)

// comments are what the audits of a ticket tell of them, oldest first.
func comments(audits []audit) []comment {
	var all []comment
	for _, a := range audits {
		for _, e := range a.Events {
			if e, is := e.(commentEvent); is {
				all = append(all, comment{e, a.Via, a.CreatedAt, a.Metadata})
			}
		}
	}
	return all
}

// listComments is GET /api/v2/tickets/{id}/comments.
func (z *Zendesk) listComments(c *call) *reply {
	t, refused := z.ticket(c)
	if refused != nil {
		return refused
	}
	all := comments(z.audits[t.ID])
	if c.caller.public() {
		all = slices.DeleteFunc(all, func(c comment) bool { return !c.Public })
	}
	if c.newestFirst() {
		slices.Reverse(all)
	}
	return list(c, "comments", all, func(c comment) int64 { return c.ID }, func(c comment) any { return c })
}

// listAudits is GET /api/v2/tickets/{id}/audits.
func (z *Zendesk) listAudits(c *call) *reply {
	t, refused := z.ticket(c)
	if refused != nil {
		return refused
	}
	all := slices.Clone(z.audits[t.ID])
	if c.newestFirst() {
		slices.Reverse(all)
	}
	return list(c, "audits", all, func(a audit) int64 { return a.ID }, func(a audit) any { return a })
}

// showAudit is GET /api/v2/tickets/{id}/audits/{audit_id}.
func (z *Zendesk) showAudit(c *call) *reply {
	t, refused := z.ticket(c)
	if refused != nil {
		return refused
	}
	id, refused := c.id("audit_id")
	if refused != nil {
		return refused
	}
	i := slices.IndexFunc(z.audits[t.ID], func(a audit) bool { return a.ID == id })
	if i < 0 {
		return recordNotFound()
	}
	return answer(http.StatusOK, object{"audit": z.audits[t.ID][i]})
}

// auditOf starts the audit of a request.
func (z *Zendesk) auditOf(c *call, ticketID int64, custom json.RawMessage) audit {
	if custom == nil {
		custom = json.RawMessage("{}")
	}
	address, _, _ := strings.Cut(c.RemoteAddr, ":")
	return audit{
		ID: z.newID(), TicketID: ticketID, CreatedAt: c.now, AuthorID: c.caller.user.ID,
		Metadata: auditMetadata{
			System: systemMetadata{
				Client: c.UserAgent(), IPAddress: address,
				Location: "Cincinnati, OH, United States", Latitude: 39.1031, Longitude: -84.512,
			},
			Custom: custom,
		},
		Events: []any{}, Via: viaChannel("api"),
	}
}

// change tells of every value in which a ticket differs from what it was; was
// is nil for a new one.
func (z *Zendesk) change(a *audit, was, is *ticket) {
	created := was == nil
	if created {
		was = &ticket{}
	}
	tell := func(name string, before, now any) {
		switch {
		case same(before, now):
		case created:
			a.Events = append(a.Events, createEvent{z.newID(), "Create", now, name})
		default:
			a.Events = append(a.Events, changeEvent{z.newID(), "Change", now, name, before})
		}
	}
	tell("subject", textValue(&was.Subject), textValue(&is.Subject))
	tell("status", textValue(&was.Status), textValue(&is.Status))
	tell("priority", textValue(was.Priority), textValue(is.Priority))
	tell("type", textValue(was.Type), textValue(is.Type))
	tell("requester_id", idValue(&was.RequesterID), idValue(&is.RequesterID))
	tell("assignee_id", idValue(was.AssigneeID), idValue(is.AssigneeID))
	tell("group_id", idValue(was.GroupID), idValue(is.GroupID))
	tell("organization_id", idValue(was.OrganizationID), idValue(is.OrganizationID))
	tell("external_id", textValue(was.ExternalID), textValue(is.ExternalID))
	tell("problem_id", idValue(was.ProblemID), idValue(is.ProblemID))
	tell("due_at", timeValue(was.DueAt), timeValue(is.DueAt))
	tell("tags", listValue(was.Tags), listValue(is.Tags))
	for i, v := range is.CustomFields {
		var before any
		if !created {
			before = was.CustomFields[i].Value
		}
		if !same(before, v.Value) {
			tell(strconv.FormatInt(v.ID, 10), checkValue(before), checkValue(v.Value))
		}
	}
}

// Audits write all values as text or lists of it, and nothing as null.

func textValue(s *string) any {
	if s == nil || *s == "" {
		return nil
	}
	return *s
}

func idValue(n *int64) any {
	if n == nil || *n == 0 {
		return nil
	}
	return strconv.FormatInt(*n, 10)
}

func timeValue(t *time.Time) any {
	if t == nil {
		return nil
	}
	return stamp(*t)
}

func listValue(list []string) any {
	if len(list) == 0 {
		return nil
	}
	return list
}

// checkValue writes a checkbox as 1, and an empty one not at all.
func checkValue(v any) any {
	switch on := v.(type) {
	case bool:
		if !on {
			return nil
		}
		return "1"
	}
	return v
}

// same compares two values of a ticket.
func same(a, b any) bool {
	list, isList := a.([]string)
	other, isAlso := b.([]string)
	if isList || isAlso {
		return isList == isAlso && slices.Equal(list, other)
	}
	return a == b
}
