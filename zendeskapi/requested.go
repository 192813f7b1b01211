package zendeskapi

import (
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// maxRequestedPages is how many pages of a user's tickets are read at most: nobody has so many that changed lately.
const maxRequestedPages = 5

// RequestedTickets returns the tickets that a user has requested, the one that changed last first: fresh, unlike a search.
// Of those that have not changed within a time, by Zendesk's clock, some or all are left out, and of more than 500 those that
// changed first. Kinds of errors: those of a read; NotFound.
// https://developer.zendesk.com/api-reference/ticketing/tickets/tickets/#list-tickets
func (c *Client) RequestedTickets(ctx context.Context, userID string, within time.Duration) ([]Ticket, error) {
	const op = "requested_tickets"
	if !isID(userID) {
		return nil, invalid(op, "the user's id must be digits")
	}
	tickets, pages, spoilt := []Ticket{}, 0, false
	query := url.Values{"sort_by": {"updated_at"}, "sort_order": {"desc"}, "per_page": {strconv.Itoa(pageSize)}}
	err := c.list(ctx, op, apiPath("users", userID, "tickets", "requested"), query, "tickets", func(got *answer, records []json.RawMessage) (bool, error) {
		page := readRecords(records, readTicket)
		spoilt = spoilt || len(page) < len(records)
		if spoilt && len(tickets)+len(page) == 0 {
			return false, errNoRecord // it may be the one
		}
		for i := range page {
			page[i].ReadAt = got.date
		}
		tickets = append(tickets, page...)
		pages++
		// A page that is not in order says nothing of what follows it.
		past := len(page) > 0 && slices.IsSortedFunc(page, lastChanged) && got.date.Sub(page[len(page)-1].UpdatedAt) > within
		return !past && pages < maxRequestedPages, nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(tickets, lastChanged)
	return tickets, nil
}

// lastChanged orders tickets by their last change, the latest first.
func lastChanged(a, b Ticket) int { return b.UpdatedAt.Compare(a.UpdatedAt) }
