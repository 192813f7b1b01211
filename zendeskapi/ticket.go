package zendeskapi

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
)

// Ticket is the part of a ticket that this product decides by.
type Ticket struct {
	ID          string
	Subject     string
	Status      string // new, open, pending, hold, solved, closed; others may come. A closed ticket cannot be changed
	ExternalID  string
	RequesterID string
	Stamp       string // updated_at as Zendesk wrote it, for TicketUpdate.Stamp
}

// UnmarshalJSON reads Zendesk's ticket object.
func (t *Ticket) UnmarshalJSON(data []byte) error {
	var wire struct {
		ID          id
		Subject     string
		Status      string
		ExternalID  string `json:"external_id"`
		RequesterID id     `json:"requester_id"`
		UpdatedAt   string `json:"updated_at"`
	}
	if err := json.Unmarshal(data, &wire); err != nil {
		return err
	}
	if wire.ID == "" {
		return errBadID
	}
	*t = Ticket{string(wire.ID), wire.Subject, wire.Status, wire.ExternalID, string(wire.RequesterID), wire.UpdatedAt}
	return nil
}

// CustomField is a value of a ticket's custom field.
type CustomField struct {
	ID    string // the field's id, decimal digits
	Value any    // as the field's type wants it: a string, a list of strings, a bool, a number; nil clears it
}

// TicketUpdate is one change of a ticket.
type TicketUpdate struct {
	Comment      string            // plain text, added as a private comment: no customer is mailed; empty: none
	CustomFields []CustomField     // those not listed stay
	Metadata     map[string]string // kept with the audit of this change; see Audit.Metadata
	Stamp        string            // Ticket.Stamp: refused as a Conflict if the ticket has changed since; empty: not compared
}

// TicketCreate is a new ticket.
type TicketCreate struct {
	Subject      string
	Comment      string // required; plain text, private like TicketUpdate.Comment
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
	Warnings []string // what Zendesk dropped silently (header x-zendesk-api-warn), sanitized
	Repeated bool     // CreateTicket only: the idempotency key was known, and this is the first call's ticket
}

// Ticket returns one ticket. Kinds of errors: those of a read; NotFound.
// https://developer.zendesk.com/api-reference/ticketing/tickets/tickets/#show-ticket
func (c *Client) Ticket(ctx context.Context, ticketID string) (Ticket, error) {
	const op = "ticket"
	if !isID(ticketID) {
		return Ticket{}, invalid(op, "the ticket's id must be digits")
	}
	var out ticketAnswer
	if _, err := c.get(ctx, op, apiPath("tickets", ticketID), nil, &out); err != nil {
		return Ticket{}, err
	}
	return *out.Ticket, nil
}

// TicketsByExternalID returns the tickets with that external id: fresh, unlike a search. None is an empty list.
// https://developer.zendesk.com/api-reference/ticketing/tickets/tickets/#list-tickets-by-external-id
func (c *Client) TicketsByExternalID(ctx context.Context, externalID string) ([]Ticket, error) {
	const op = "tickets_by_external_id"
	if externalID == "" {
		return nil, invalid(op, "the external id is empty")
	}
	found, err := listOf[Ticket](ctx, c, op, apiPath("tickets"), url.Values{"external_id": {externalID}}, "tickets")
	if err != nil {
		return nil, err
	}
	// A gateway or fake that ignores the parameter would list every ticket.
	exact := found[:0]
	for _, ticket := range found {
		if ticket.ExternalID == externalID {
			exact = append(exact, ticket)
		}
	}
	return exact, nil
}

// UpdateTicket changes a ticket, once: it is never repeated. Kinds of errors: those of a write; NotFound; Conflict;
// InvalidRequest, with a FieldError for "status" when the ticket is closed. After an error that is Unknown, look for
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
	return c.writeTicket(ctx, false, request{op: op, method: http.MethodPut, path: apiPath("tickets", ticketID)}, ticketBody{
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
	return c.writeTicket(ctx, idempotencyKey != "", r, body)
}

func (c *Client) writeTicket(ctx context.Context, idempotent bool, r request, body ticketBody) (TicketChange, error) {
	r.body = map[string]ticketBody{"ticket": body}
	var out ticketAnswer
	got, err := c.do(ctx, idempotent, r, &out)
	if err != nil {
		return TicketChange{}, err
	}
	change := TicketChange{
		Ticket:   *out.Ticket,
		AuditID:  string(out.Audit.ID),
		Repeated: got.header.Get("X-Idempotency-Lookup") == "hit",
	}
	for _, warning := range got.header.Values("X-Zendesk-Api-Warn") {
		change.Warnings = append(change.Warnings, sanitize(warning, maxDetailRunes))
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
	Body string `json:"body"`
	// Written always: Zendesk's default may be public, and mails the customer.
	Public bool `json:"public"`
}

func privateComment(text string) *comment {
	if text == "" {
		return nil
	}
	return &comment{Body: text}
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
	Ticket *Ticket
	Audit  struct{ ID id }
}

func (a *ticketAnswer) validate() error {
	if a.Ticket == nil {
		return errNoTicket
	}
	return nil
}
