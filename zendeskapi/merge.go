package zendeskapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	maxMerges       = 5  // in a row that are followed
	maxMergeTargets = 3  // that are asked about, when the comment names several tickets
	mergeComments   = 5  // of a closed ticket that are read: its last one tells
	maxCommentPages = 10 // of the other ticket that are read, newest first
	mergeLeeway     = time.Minute
)

// ticketComment is what somebody said on a ticket.
type ticketComment struct {
	body      string
	createdAt time.Time
}

func readComment(o object) (ticketComment, error) {
	return ticketComment{body: first(o.text("body"), o.text("plain_body")), createdAt: o.time("created_at")}, nil
}

// MergedInto tells where a closed ticket went on that was merged into another, and into a third perhaps; at most five
// merges are followed. into is closed if its own story ended otherwise. found is false for a ticket that is not closed, or
// that was closed for other reasons. ticket is what Ticket returned. Nothing in Zendesk's API says it outright: such a
// ticket has a tag or an audit that tells of the merge, and its last comment names the other by its number; that is
// believed when the other exists and has a comment that names this one. Most often it sends no request for tickets that are
// not closed, one for other closed ones, and three for merged ones. Kinds of errors: those of a read.
// https://developer.zendesk.com/api-reference/ticketing/tickets/tickets/#merge-tickets-into-target-ticket
func (c *Client) MergedInto(ctx context.Context, ticket Ticket) (into Ticket, found bool, err error) {
	seen := []string{ticket.ID}
	for range maxMerges {
		next, merged, err := c.mergedInto(ctx, ticket)
		if err != nil {
			return Ticket{}, false, err
		}
		if !merged || slices.Contains(seen, next.ID) {
			break
		}
		ticket, found = next, true
		seen = append(seen, next.ID)
	}
	if !found {
		return Ticket{}, false, nil
	}
	return ticket, true, nil
}

// mergedInto follows one merge.
func (c *Client) mergedInto(ctx context.Context, ticket Ticket) (Ticket, bool, error) {
	if ticket.Status != "closed" {
		return Ticket{}, false, nil
	}
	newest, err := c.newestComments(ctx, ticket.ID)
	if err != nil || len(newest) == 0 {
		return Ticket{}, false, err
	}
	since := newest[0].createdAt.Add(-mergeLeeway)
	var audits []Audit
	if !slices.Contains(ticket.Tags, closedByMerge) && len(mergeTargets(ticket.ID, newest)) > 0 {
		if audits, err = c.TicketAudits(ctx, ticket.ID, since); err != nil {
			return Ticket{}, false, err
		}
	}
	for _, id := range mergeCandidates(ticket, newest, audits) {
		other, err := c.Ticket(ctx, id)
		if failed, ok := errors.AsType[*Error](err); ok && failed.RecordMissing() {
			continue
		}
		if err != nil {
			return Ticket{}, false, err
		}
		told, pages := false, 0
		err = c.comments(ctx, id, func(page []ticketComment) bool {
			pages++
			told = told || slices.ContainsFunc(page, func(said ticketComment) bool {
				return slices.Contains(ticketsNamed(said.body), ticket.ID)
			})
			// Both comments are written in one go.
			early := descending(page) && page[len(page)-1].createdAt.Before(since)
			return !told && !early && pages < maxCommentPages
		})
		if err != nil || told {
			return other, told, err
		}
	}
	return Ticket{}, false, nil
}

// mergeCandidates decides by what stands on a ticket which others it may have been merged into, the likeliest first.
func mergeCandidates(ticket Ticket, newest []ticketComment, audits []Audit) []string {
	// Both sides of a merge may have such an audit: one of them was closed by it.
	merged := slices.Contains(ticket.Tags, closedByMerge) ||
		slices.ContainsFunc(audits, func(a Audit) bool { return a.Rel == "merge" && a.closes })
	if ticket.Status != "closed" || !merged {
		return nil
	}
	return mergeTargets(ticket.ID, newest)
}

// mergeTargets are the other tickets that the newest comment names that names any. Comments before it may name tickets
// that were merged into this one.
func mergeTargets(ticketID string, newest []ticketComment) []string {
	var targets []string
	for _, said := range newest {
		for _, id := range ticketsNamed(said.body) {
			if id != ticketID && !slices.Contains(targets, id) && len(targets) < maxMergeTargets {
				targets = append(targets, id)
			}
		}
		if len(targets) > 0 {
			break
		}
	}
	return targets
}

// Each language words it differently; all write the number behind a hash, some with marks of direction between.
var namedTicket = regexp.MustCompile(`[#\x{ff03}][\s\p{Cf}]*([0-9]{1,19})`)

// ticketsNamed are the tickets that a comment names, in its order.
func ticketsNamed(body string) []string {
	var ids []string
	for _, match := range namedTicket.FindAllStringSubmatch(body, -1) {
		if id := strings.TrimLeft(match[1], "0"); id != "" {
			ids = append(ids, id)
		}
	}
	return ids
}

// newestComments returns the last comments of a ticket, the newest first.
func (c *Client) newestComments(ctx context.Context, ticketID string) ([]ticketComment, error) {
	var all []ticketComment
	pages := 0
	err := c.comments(ctx, ticketID, func(page []ticketComment) bool {
		pages++
		all = append(all, page...)
		// Archived tickets may be listed in an order of their own.
		return !descending(all) && pages < maxCommentPages
	})
	slices.SortStableFunc(all, func(a, b ticketComment) int { return b.createdAt.Compare(a.createdAt) })
	return all[:min(len(all), mergeComments)], err
}

// descending tells whether comments are seen to stand the newest first.
func descending(list []ticketComment) bool {
	return len(list) > 1 && list[0].createdAt.After(list[len(list)-1].createdAt) &&
		slices.IsSortedFunc(list, func(a, b ticketComment) int { return b.createdAt.Compare(a.createdAt) })
}

// comments reads the comments of a ticket page by page, the newest first, as long as visit says so.
// https://developer.zendesk.com/api-reference/ticketing/tickets/ticket_comments/#list-comments
func (c *Client) comments(ctx context.Context, ticketID string, visit func([]ticketComment) (more bool)) error {
	query := url.Values{"page[size]": {strconv.Itoa(pageSize)}, "sort": {"-created_at"}}
	return c.list(ctx, "ticket_comments", apiPath("tickets", ticketID, "comments"), query, "comments", func(_ *answer, records []json.RawMessage) (bool, error) {
		page := readRecords(records, readComment)
		if len(page) == 0 && len(records) > 0 {
			return false, errNoRecord
		}
		return visit(page), nil
	})
}
