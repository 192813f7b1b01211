package zendeskapi

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"time"
)

// Ticket is the part of a ticket that this product decides by.
type Ticket struct {
	ID          string
	Subject     string
	Status      string // new, open, pending, hold, solved, closed; others may come. A closed ticket cannot be changed
	ExternalID  string
	RequesterID string
	Tags        []string
	Stamp       string    // updated_at as Zendesk wrote it, for TicketUpdate.Stamp
	UpdatedAt   time.Time // the same, in whole seconds; zero if it cannot be read
	ReadAt      time.Time // Zendesk's clock when it answered, in whole seconds (ours, if it did not tell)
}

// stampPrecision is how old a stamp must be to stand for one state of its ticket: both it and Zendesk's clock are told in
// whole seconds.
const stampPrecision = 2 * time.Second

// StampWait is how long to wait before the ticket is to be read again, because more may happen to it within the second
// that its Stamp names. Zero: the stamp stands for the ticket as it was read.
func (t Ticket) StampWait() time.Duration {
	// A stamp from beyond Zendesk's clock says nothing about when it will be older.
	return min(max(stampPrecision-t.ReadAt.Sub(t.UpdatedAt), 0), stampPrecision)
}

// closedByMerge is the tag of a ticket that was merged into another.
const closedByMerge = "closed_by_merge"

// readTicket reads Zendesk's ticket object, whose id alone it needs; it must not have two external ids.
func readTicket(o object) (Ticket, error) {
	id, err := o.id("id")
	if err == nil && id == "" {
		err = errBadID
	}
	if _, twice := o.get("external_id"); err == nil {
		err = twice
	}
	return Ticket{
		ID: id, Subject: o.text("subject"), Status: o.text("status"), ExternalID: o.text("external_id"), RequesterID: o.text("requester_id"),
		Tags: o.texts("tags"), Stamp: o.text("updated_at"), UpdatedAt: o.time("updated_at"),
	}, err
}

// CustomField is a value of a ticket's custom field.
type CustomField struct {
	ID    string // the field's id, decimal digits
	Value any    // as the field's type wants it: a string, a list of strings, a bool, a number; nil clears it
}

// TicketUpdate is one change of a ticket.
type TicketUpdate struct {
	Comment      string            // HTML, added as a private comment: no customer is mailed; empty: none
	CustomFields []CustomField     // those not listed stay
	Metadata     map[string]string // kept with the audit of this change; see Audit.Metadata
	Stamp        string            // Ticket.Stamp: refused as a Conflict if the ticket has changed since; empty: not compared
}

// TicketCreate is a new ticket.
type TicketCreate struct {
	Subject      string
	Comment      string // required; HTML, private like TicketUpdate.Comment
	RequesterID  string // a user's id; empty: Requester, or else the credential's own user
	Requester    *Requester
	ExternalID   string // finds the ticket again, see TicketsByExternalID
	FollowUpOf   string // id of a closed ticket that the new one follows up; empty: none
	CustomFields []CustomField
	Metadata     map[string]string // kept with the first audit
}

// Requester names a person by e-mail address. Zendesk makes a user of it when there is none.
type Requester struct {
	Name  string `json:"name,omitempty"`
	Email string `json:"email"`
}

// TicketChange is what a write to a ticket did.
type TicketChange struct {
	Ticket   Ticket   // as it is now
	AuditID  string   // the audit of the change; empty when nothing changed
	Warnings []string // what Zendesk dropped silently (header x-zendesk-api-warn): at most 20, one line each
	Repeated bool     // CreateTicket only: the idempotency key was known, and this is the first call's ticket
}

// Ticket returns one ticket. Kinds of errors: those of a read; NotFound; BadResponse also when its status or time is not
// readable, by which writes are decided.
// https://developer.zendesk.com/api-reference/ticketing/tickets/tickets/#show-ticket
func (c *Client) Ticket(ctx context.Context, ticketID string) (Ticket, error) {
	const op = "ticket"
	if !isID(ticketID) {
		return Ticket{}, invalid(op, "the ticket's id must be digits")
	}
	var out ticketAnswer
	got, err := c.get(ctx, op, apiPath("tickets", ticketID), nil, &out)
	if err != nil {
		return Ticket{}, err
	}
	ticket, err := readTicket(out.ticket)
	if err == nil && (ticket.Status == "" || ticket.UpdatedAt.IsZero()) {
		err = errBadTicket
	}
	if err != nil {
		return Ticket{}, c.badResponse(op, got, err)
	}
	ticket.ReadAt = got.date
	return ticket, nil
}

// TicketsByExternalID returns the tickets with that external id: fresh, unlike a search. None is an empty list.
// https://developer.zendesk.com/api-reference/ticketing/tickets/tickets/#list-tickets-by-external-id
func (c *Client) TicketsByExternalID(ctx context.Context, externalID string) ([]Ticket, error) {
	const op = "tickets_by_external_id"
	if externalID == "" {
		return nil, invalid(op, "the external id is empty")
	}
	found := []Ticket{}
	unsure := false
	err := c.list(ctx, op, apiPath("tickets"), url.Values{"external_id": {externalID}}, "tickets", func(_ *answer, records []json.RawMessage) (bool, error) {
		tickets := readRecords(records, readTicket)
		unsure = unsure || len(tickets) < len(records)
		for _, ticket := range tickets {
			// A gateway or fake that ignores the parameter would list every ticket.
			if ticket.ExternalID == externalID {
				found = append(found, ticket)
			}
		}
		if unsure && len(found) == 0 {
			return false, errNoRecord // it may be the one
		}
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// UpdateTicket changes a ticket, once: it is never repeated. Kinds of errors: those of a write; NotFound; Conflict;
// InvalidRequest, with a FieldError for each part that is refused: "status" when the ticket is closed, and also for other
// reasons. After an error that is Unknown, look for
// the change's metadata in TicketAudits before writing again.
// https://developer.zendesk.com/api-reference/ticketing/tickets/tickets/#update-ticket
func (c *Client) UpdateTicket(ctx context.Context, ticketID string, update TicketUpdate) (TicketChange, error) {
	const op = "update_ticket"
	if !isID(ticketID) {
		return TicketChange{}, invalid(op, "the ticket's id must be digits")
	}
	fields, err := customFields(op, update.CustomFields)
	if err != nil {
		return TicketChange{}, err
	}
	return c.writeTicket(ctx, false, request{op: op, method: http.MethodPut, path: apiPath("tickets", ticketID), record: ticketID}, ticketID, ticketBody{
		Comment: privateComment(update.Comment), CustomFields: fields, Metadata: update.Metadata,
		SafeUpdate: update.Stamp != "", UpdatedStamp: update.Stamp,
	})
}

// CreateTicket makes a ticket. With an idempotency key Zendesk makes one ticket however often it is asked within about
// two hours, so that a failed request is tried again like a read; without one it is sent once. Kinds of errors: those of
// a write; InvalidRequest, also when the key was used with other contents.
// https://developer.zendesk.com/api-reference/ticketing/tickets/tickets/#create-ticket
func (c *Client) CreateTicket(ctx context.Context, ticket TicketCreate, idempotencyKey string) (TicketChange, error) {
	const op = "create_ticket"
	for _, optional := range []string{ticket.RequesterID, ticket.FollowUpOf} {
		if optional != "" && !isID(optional) {
			return TicketChange{}, invalid(op, "ids of requester and followed ticket must be digits")
		}
	}
	fields, err := customFields(op, ticket.CustomFields)
	if err != nil {
		return TicketChange{}, err
	}
	body := ticketBody{
		Subject: ticket.Subject, Comment: privateComment(ticket.Comment), ExternalID: ticket.ExternalID,
		CustomFields: fields, Metadata: ticket.Metadata,
		RequesterID: number(ticket.RequesterID), FollowUpOf: number(ticket.FollowUpOf),
	}
	if ticket.RequesterID == "" {
		body.Requester = ticket.Requester
	}
	r := request{op: op, method: http.MethodPost, path: apiPath("tickets")}
	if idempotencyKey != "" {
		r.header = http.Header{"Idempotency-Key": {idempotencyKey}}
	}
	return c.writeTicket(ctx, idempotencyKey != "", r, "", body)
}

// writeTicket sends a write to a ticket, or to a new one, whose ticketID is empty.
func (c *Client) writeTicket(ctx context.Context, idempotent bool, r request, ticketID string, body ticketBody) (TicketChange, error) {
	r.body = map[string]ticketBody{"ticket": body}
	var out ticketAnswer
	got, err := c.do(ctx, idempotent, r, &out)
	if err != nil {
		return TicketChange{}, err
	}
	ticket, err := readTicket(out.ticket)
	if err != nil && ticketID == "" {
		e := c.badResponse(r.op, got, err)
		e.unknown = true
		return TicketChange{}, e
	}
	if ticketID != "" {
		ticket.ID = ticketID // what was asked for: an answer of success cannot be about another
	}
	ticket.ReadAt = got.date
	change := TicketChange{
		Ticket:   ticket,
		AuditID:  out.auditID,
		Warnings: c.warnings(got.header),
		Repeated: got.header.Get("X-Idempotency-Lookup") == "hit",
	}
	return change, nil
}

type ticketBody struct {
	Subject      string            `json:"subject,omitempty"`
	Comment      *comment          `json:"comment,omitempty"`
	RequesterID  json.RawMessage   `json:"requester_id,omitempty"`
	Requester    *Requester        `json:"requester,omitempty"`
	ExternalID   string            `json:"external_id,omitempty"`
	FollowUpOf   json.RawMessage   `json:"via_followup_source_id,omitempty"`
	CustomFields []customField     `json:"custom_fields,omitempty"`
	Metadata     map[string]string `json:"metadata,omitempty"`
	SafeUpdate   bool              `json:"safe_update,omitempty"`
	UpdatedStamp string            `json:"updated_stamp,omitempty"`
}

type comment struct {
	HTML string `json:"html_body"`
	// Written always: Zendesk's default may be public, and mails the customer.
	Public bool `json:"public"`
}

func privateComment(html string) *comment {
	if html == "" {
		return nil
	}
	return &comment{HTML: html}
}

type customField struct {
	ID    json.RawMessage `json:"id"`
	Value any             `json:"value"`
}

func customFields(op string, fields []CustomField) ([]customField, error) {
	var list []customField
	for _, f := range fields {
		if !isID(f.ID) {
			return nil, invalid(op, "ids of custom fields must be digits")
		}
		list = append(list, customField{ID: number(f.ID), Value: f.Value})
	}
	return list, nil
}

type ticketAnswer struct {
	ticket  object
	auditID string // of a write
}

func (a *ticketAnswer) read(o object) error {
	var err error
	if a.ticket, err = o.object("ticket"); err != nil {
		return err
	}
	if a.ticket == nil {
		return errNoTicket
	}
	a.auditID, _ = o.inner("audit").id("id")
	return nil
}
