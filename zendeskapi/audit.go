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
	AuthorID  string // -1: the system
	CreatedAt time.Time
	ReadAt    time.Time      // Zendesk's clock when it was read, like Ticket.ReadAt
	Rel       string         // via.source.rel, such as "merge" or "follow_up"; often empty
	Metadata  map[string]any // metadata.custom: what the writer of the change attached; empty if nothing

	closes bool // the change closed the ticket
}

// readAudit reads Zendesk's audit object. Whoever looks for what a change was marked with must find it: metadata count
// wherever they stand, and the rest may be missing.
func readAudit(o object) (Audit, error) {
	a := Audit{
		ID: o.text("id"), AuthorID: o.text("author_id"), CreatedAt: o.time("created_at"),
		Rel: o.inner("via").inner("source").text("rel"),
	}
	var events []json.RawMessage
	if json.Unmarshal(o.lenient("events"), &events) == nil {
		for _, raw := range events {
			event, _ := partsOf(raw)
			a.closes = a.closes || event.text("field_name") == "status" && event.text("value") == "closed"
		}
	}
	for _, metadata := range o.all("metadata") {
		inner, err := readObject(metadata)
		if err != nil {
			continue // null, or odd
		}
		for _, custom := range inner.all("custom") {
			// Adds to what is there; what is no object changes nothing.
			_ = json.Unmarshal(custom, &a.Metadata)
		}
	}
	return a, nil
}

// TicketAudits returns the audits of a ticket that were written at since or later, or at a time that cannot be read, the
// newest first; with the zero time, all of them. Zendesk's clock counts, in whole seconds. Audits that cannot be read are
// left out; none that can is a BadResponse. Kinds of errors: those of a read; NotFound.
// https://developer.zendesk.com/api-reference/ticketing/tickets/ticket_audits/#list-audits-for-a-ticket
func (c *Client) TicketAudits(ctx context.Context, ticketID string, since time.Time) ([]Audit, error) {
	const op = "ticket_audits"
	if !isID(ticketID) {
		return nil, invalid(op, "the ticket's id must be digits")
	}
	query := url.Values{"page[size]": {strconv.Itoa(pageSize)}, "sort": {"-created_at"}}
	audits, undated := []Audit{}, []Audit{}
	descending := true
	err := c.list(ctx, op, apiPath("tickets", ticketID, "audits"), query, "audits", func(got *answer, records []json.RawMessage) (bool, error) {
		for _, a := range readRecords(records, readAudit) {
			a.ReadAt = got.date
			if a.CreatedAt.IsZero() {
				undated = append(undated, a)
				continue
			}
			if len(audits) > 0 && a.CreatedAt.After(audits[len(audits)-1].CreatedAt) {
				descending = false
			}
			audits = append(audits, a)
		}
		if len(audits) == 0 {
			if len(undated) == 0 && len(records) > 0 {
				return false, errNoRecord
			}
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
	return append(undated, audits...), nil
}
