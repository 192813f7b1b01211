package zendesktest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// closedByMerge is the tag of a ticket that went on in another.
const closedByMerge = "closed_by_merge"

// Merge closes tickets into another, as an agent does in the browser: Admin is
// the one. A ticket that is unknown or closed is an error, and then nothing is
// merged.
func (z *Zendesk) Merge(into int64, losers ...int64) error {
	z.mu.Lock()
	defer z.mu.Unlock()
	admin, _ := z.users.get(Admin.ID)
	return z.merge(merging{into: into, losers: losers, author: admin, now: z.now()})
}

// merging is one merge of tickets.
type merging struct {
	into           int64
	losers         []int64
	author         user
	now            time.Time
	custom         auditMetadata
	said, heard    string // on the losers, and on the ticket they went into; empty: Zendesk's own words
	public, listen bool   // whether customers see them
}

func (z *Zendesk) merge(m merging) error {
	target, found := z.tickets.get(m.into)
	if !found || target.Status == "closed" {
		return fmt.Errorf("ticket %d is unknown or closed", m.into)
	}
	var losers []ticket
	for _, id := range m.losers {
		loser, found := z.tickets.get(id)
		if !found || loser.Status == "closed" || id == m.into || slices.Contains(m.losers[:len(losers)], id) {
			return fmt.Errorf("ticket %d is unknown, closed, or named twice", id)
		}
		losers = append(losers, loser)
	}
	for _, loser := range losers {
		said := fmt.Sprintf("This request was closed and merged into request #%d %q.", target.ID, target.Subject)
		before := loser
		loser.Status, loser.Tags = "closed", tagSet(append(slices.Clone(loser.Tags), closedByMerge))
		z.tellMerge(&before, loser, m, cmp.Or(m.said, said), m.public)

		heard := fmt.Sprintf("Request #%d %q was closed and merged into this request. Last comment in request #%d:\n\n%s",
			loser.ID, loser.Subject, loser.ID, lastWords(z.audits[before.ID]))
		target, _ = z.tickets.get(m.into)
		before = target
		z.tellMerge(&before, target, m, cmp.Or(m.heard, heard), m.listen)
	}
	return nil
}

// lastWords is what was said last on a ticket before it was merged.
func lastWords(audits []audit) string {
	said := comments(audits)
	if len(said) < 2 {
		return ""
	}
	return said[len(said)-2].Body
}

// tellMerge writes one side of a merge.
func (z *Zendesk) tellMerge(before *ticket, after ticket, m merging, text string, public bool) {
	d := &draft{ticket: after}
	z.settle(d, m.now)
	a := audit{
		ID: z.newID(), TicketID: after.ID, CreatedAt: m.now, AuthorID: m.author.ID, Metadata: m.custom,
		Events: []any{}, Via: viaChannel("web"),
	}
	if a.Metadata.Custom == nil {
		a.Metadata.Custom = json.RawMessage("{}")
	}
	a.Via.Source.Rel = new("merge")
	said := (&draftComment{body: text, public: &public}).event(z.newID(), a.ID, m.author.ID, a.TicketID, public)
	a.Events = append(a.Events, said)
	z.change(&a, before, &d.ticket)
	z.audits[after.ID] = append(z.audits[after.ID], a)
	z.putTicket(d.ticket, m.now)
}

// mergeTickets is POST /api/v2/tickets/{id}/merge. Zendesk does it in the
// background; here it is done when the answer comes.
func (z *Zendesk) mergeTickets(c *call) *reply {
	target, refused := z.ticket(c)
	if refused != nil {
		return refused
	}
	var asked struct {
		IDs          []int64 `json:"ids"`
		Said         string  `json:"source_comment"`
		Heard        string  `json:"target_comment"`
		SaidPublic   bool    `json:"source_comment_is_public"`
		ListenPublic bool    `json:"target_comment_is_public"`
	}
	if err := json.Unmarshal(c.body, &asked); err != nil || len(asked.IDs) == 0 {
		return titled(http.StatusBadRequest, "Missing required parameter", "Parameter ids is required")
	}
	err := z.merge(merging{
		into: target.ID, losers: asked.IDs, author: c.caller.user, now: c.now,
		custom: z.auditOf(c, target.ID, nil).Metadata,
		said:   asked.Said, heard: asked.Heard, public: asked.SaidPublic, listen: asked.ListenPublic,
	})
	if err != nil {
		return recordInvalid("base", strings.ToUpper(err.Error()[:1])+err.Error()[1:])
	}
	id := z.random()[:32]
	return answer(http.StatusOK, object{"job_status": object{
		"id": id, "url": fmt.Sprintf("%s/api/v2/job_statuses/%s.json", c.origin, id), "total": len(asked.IDs), "progress": nil,
		"status": "queued", "message": nil, "results": nil,
	}})
}
