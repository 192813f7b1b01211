package zendesktest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// What people who watch the sandbox are shown: bounded, and with names beside
// the ids.

const (
	// usualTickets and maxTickets are how many tickets an overview has.
	usualTickets = 50
	maxTickets   = 500
	// maxHistory is how many comments, and how many audits, it has of a ticket:
	// the newest ones.
	maxHistory = 100
)

// named is a record that somebody is to recognize. The name is empty where the
// record is no more.
type named struct {
	ID   int64  `json:"id"`
	Name string `json:"name"`
}

// ticketOverview is a ticket with all that was said and done.
type ticketOverview struct {
	ID           int64             `json:"id"`
	Subject      string            `json:"subject"`
	Status       string            `json:"status"`
	Type         *string           `json:"type"`
	Priority     *string           `json:"priority"`
	ExternalID   *string           `json:"external_id"`
	Requester    named             `json:"requester"`
	Assignee     *named            `json:"assignee"`
	Tags         []string          `json:"tags"`
	Via          string            `json:"via"`
	CreatedAt    time.Time         `json:"created_at"`
	UpdatedAt    time.Time         `json:"updated_at"`
	CustomFields []valueOverview   `json:"custom_fields"` // those that have a value
	Comments     []commentOverview `json:"comments"`      // the newest, oldest first
	CommentCount int               `json:"comment_count"` // of all
	Audits       []auditOverview   `json:"audits"`        // the newest, oldest first
	AuditCount   int               `json:"audit_count"`   // of all
}

type valueOverview struct {
	ID    int64  `json:"id"`
	Title string `json:"title"`
	Value any    `json:"value"`
}

type commentOverview struct {
	ID        int64     `json:"id"`
	AuditID   int64     `json:"audit_id"`
	Author    named     `json:"author"`
	Public    bool      `json:"public"`
	HTMLBody  string    `json:"html_body"` // as it was given: nobody has looked what is in it
	PlainBody string    `json:"plain_body"`
	Via       string    `json:"via"`
	At        time.Time `json:"at"`
}

type auditOverview struct {
	ID       int64           `json:"id"`
	Author   named           `json:"author"`
	Changed  []string        `json:"changed"`            // names of fields
	Metadata json.RawMessage `json:"metadata,omitempty"` // that the request gave
	Via      string          `json:"via"`
	At       time.Time       `json:"at"`
}

// overview tells the tickets that were changed last, that one first.
func (z *Zendesk) overview(limit int) []ticketOverview {
	type place struct {
		id, audit int64
		at        time.Time
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	var places []place
	for t := range z.tickets.all() {
		p := place{id: t.ID, at: t.UpdatedAt}
		if audits := z.audits[t.ID]; len(audits) > 0 {
			p.audit = audits[len(audits)-1].ID // tells more than whole seconds do
		}
		places = append(places, p)
	}
	slices.SortFunc(places, func(a, b place) int {
		return cmp.Or(b.at.Compare(a.at), cmp.Compare(b.audit, a.audit), cmp.Compare(b.id, a.id))
	})
	list := []ticketOverview{}
	for _, p := range places[:min(limit, len(places))] {
		t, _ := z.tickets.get(p.id)
		list = append(list, z.ticketOverview(t))
	}
	return list
}

func (z *Zendesk) ticketOverview(t ticket) ticketOverview {
	audits := z.audits[t.ID]
	said := comments(audits)
	o := ticketOverview{
		ID: t.ID, Subject: t.Subject, Status: t.Status, Type: t.Type, Priority: t.Priority, ExternalID: t.ExternalID,
		Requester: z.person(t.RequesterID), Tags: t.Tags, Via: t.Via.Channel, CreatedAt: t.CreatedAt, UpdatedAt: t.UpdatedAt,
		CustomFields: []valueOverview{}, Comments: []commentOverview{}, CommentCount: len(said), Audits: []auditOverview{}, AuditCount: len(audits),
	}
	if t.AssigneeID != nil {
		o.Assignee = new(z.person(*t.AssigneeID))
	}
	for _, v := range t.CustomFields {
		if f, found := z.field(v.ID); found && v.set() {
			o.CustomFields = append(o.CustomFields, valueOverview{v.ID, f.Title, v.Value})
		}
	}
	for _, c := range last(said, maxHistory) {
		o.Comments = append(o.Comments, commentOverview{
			c.ID, c.AuditID, z.person(c.AuthorID), c.Public, c.HTMLBody, c.PlainBody, c.Via.Channel, c.CreatedAt,
		})
	}
	for _, a := range last(audits, maxHistory) {
		shown := auditOverview{ID: a.ID, Author: z.person(a.AuthorID), Changed: z.changed(a), Via: a.Via.Channel, At: a.CreatedAt}
		if !bytes.Equal(a.Metadata.Custom, []byte("{}")) {
			shown.Metadata = a.Metadata.Custom
		}
		o.Audits = append(o.Audits, shown)
	}
	return o
}

// set tells whether somebody has given a value.
func (v fieldValue) set() bool {
	switch value := v.Value.(type) {
	case nil:
		return false
	case bool:
		return value
	case string:
		return value != ""
	case []string:
		return len(value) > 0
	}
	return true
}

// changed names the fields that an audit gave values: custom ones by their
// titles.
func (z *Zendesk) changed(a audit) []string {
	names := []string{}
	for _, e := range a.Events {
		name := ""
		switch e := e.(type) {
		case createEvent:
			name = e.FieldName
		case changeEvent:
			name = e.FieldName
		default:
			continue
		}
		if id, err := strconv.ParseInt(name, 10, 64); err == nil {
			if f, found := z.field(id); found {
				name = f.Title
			}
		}
		names = append(names, name)
	}
	return names
}

// person names a user; -1 is Zendesk itself.
func (z *Zendesk) person(id int64) named {
	if id == -1 {
		return named{id, "Zendesk"}
	}
	u, _ := z.users.get(id)
	return named{id, u.Name}
}

// popOverview is a pop with the names of who saw it, and of what.
type popOverview struct {
	Pop
	Agent string `json:"agent"`
	Title string `json:"title"` // of the ticket, or the user's name
}

// popOverviews tells the newest pops, oldest first.
func (z *Zendesk) popOverviews(limit int) []popOverview {
	z.mu.Lock()
	defer z.mu.Unlock()
	list := []popOverview{}
	for _, p := range last(z.pops, limit) {
		shown := popOverview{Pop: p, Agent: z.person(p.AgentID).Name}
		if p.Type == "ticket" {
			t, _ := z.tickets.get(p.ID)
			shown.Title = t.Subject
		} else {
			shown.Title = z.person(p.ID).Name
		}
		list = append(list, shown)
	}
	return list
}

// last are the last n of a list, or all.
func last[T any](list []T, n int) []T { return list[max(0, len(list)-n):] }

// limitOf reads the parameter limit, which is the only one: from 1 to most.
func limitOf(query url.Values, usual, most int) (int, *reply) {
	for name, values := range query {
		if name != "limit" || len(values) > 1 {
			return 0, failure(http.StatusBadRequest, "InvalidQuery", fmt.Sprintf("the parameter %q is not known, or there twice: only limit is", name))
		}
	}
	if !query.Has("limit") {
		return usual, nil
	}
	limit, err := strconv.Atoi(query.Get("limit"))
	if err != nil || limit < 1 || limit > most {
		return 0, failure(http.StatusBadRequest, "InvalidQuery", fmt.Sprintf("limit %q is not a number from 1 to %d", query.Get("limit"), most))
	}
	return limit, nil
}

// listing answers a list of which the newest are told: usual ones without the
// parameter limit, and at most so many with it.
func listing[T any](usual, most int, newest func(int) []T) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		limit, refused := limitOf(r.URL.Query(), usual, most)
		if refused == nil {
			refused = answer(http.StatusOK, newest(limit))
		}
		refused.write(w)
	}
}
