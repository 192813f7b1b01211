package zendeskapi

import (
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// Audit is the record of one change of a ticket.
type Audit struct {
	ID        string
	AuthorID  string
	CreatedAt time.Time
	Metadata  map[string]any // metadata.custom: what the writer of the change attached; empty if nothing
}

// UnmarshalJSON reads Zendesk's audit object.
func (a *Audit) UnmarshalJSON(data []byte) error {
	var wire struct {
		ID        id
		AuthorID  id        `json:"author_id"`
		CreatedAt time.Time `json:"created_at"`
		Metadata  struct{ Custom json.RawMessage }
	}
	if err := json.Unmarshal(data, &wire); err != nil {
		return err
	}
	if wire.ID == "" {
		return errBadID
	}
	*a = Audit{ID: string(wire.ID), AuthorID: string(wire.AuthorID), CreatedAt: wire.CreatedAt}
	if isObject(wire.Metadata.Custom) {
		return json.Unmarshal(wire.Metadata.Custom, &a.Metadata)
	}
	return nil
}

// TicketAudits returns the audits of a ticket that were written at since or later, the newest first; with the zero time,
// all of them. Zendesk's clock counts, in whole seconds. Kinds of errors: those of a read; NotFound.
// https://developer.zendesk.com/api-reference/ticketing/tickets/ticket_audits/#list-audits-for-a-ticket
func (c *Client) TicketAudits(ctx context.Context, ticketID string, since time.Time) ([]Audit, error) {
	const op = "ticket_audits"
	if !isID(ticketID) {
		return nil, invalid(op, "the ticket's id must be digits")
	}
	query := url.Values{"page[size]": {strconv.Itoa(pageSize)}, "sort": {"-created_at"}}
	audits := []Audit{}
	descending := true
	err := c.list(ctx, op, apiPath("tickets", ticketID, "audits"), query, "audits", func(records []json.RawMessage) (bool, error) {
		for _, raw := range records {
			var a Audit
			if err := decode(raw, &a); err != nil {
				return false, err
			}
			if len(audits) > 0 && a.CreatedAt.After(audits[len(audits)-1].CreatedAt) {
				descending = false
			}
			audits = append(audits, a)
		}
		if len(audits) == 0 {
			return true, nil
		}
		// Archived tickets are listed whole and in their own order: only what is seen to descend may end early.
		newest, oldest := audits[0].CreatedAt, audits[len(audits)-1].CreatedAt
		return !descending || !newest.After(oldest) || !oldest.Before(since), nil
	})
	if err != nil {
		return nil, err
	}
	audits = slices.DeleteFunc(audits, func(a Audit) bool { return a.CreatedAt.Before(since) })
	slices.SortStableFunc(audits, func(a, b Audit) int { return b.CreatedAt.Compare(a.CreatedAt) })
	return audits, nil
}
