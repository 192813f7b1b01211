package zendesktest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// request is a ticket as its requester sees it.
type request struct {
	URL              string       `json:"url"`
	ID               int64        `json:"id"`
	Status           string       `json:"status"`
	Priority         *string      `json:"priority"`
	Type             *string      `json:"type"`
	Subject          string       `json:"subject"`
	Description      string       `json:"description"`
	OrganizationID   *int64       `json:"organization_id"`
	Via              via          `json:"via"`
	CustomFields     []fieldValue `json:"custom_fields"`
	Fields           []fieldValue `json:"fields"` // the same as CustomFields
	RequesterID      int64        `json:"requester_id"`
	CollaboratorIDs  []int64      `json:"collaborator_ids"`
	EmailCCIDs       []int64      `json:"email_cc_ids"`
	IsPublic         bool         `json:"is_public"`
	DueAt            *time.Time   `json:"due_at"`
	CanBeSolvedByMe  bool         `json:"can_be_solved_by_me"`
	Solved           bool         `json:"solved"`
	TicketFormID     int64        `json:"ticket_form_id"`
	Recipient        *string      `json:"recipient"`
	FollowupSourceID *int64       `json:"followup_source_id"`
	AssigneeID       *int64       `json:"assignee_id"`
	CustomStatusID   int64        `json:"custom_status_id"`
	CreatedAt        time.Time    `json:"created_at"`
	UpdatedAt        time.Time    `json:"updated_at"`
}

// request is what requesters are shown of a ticket. To them one that waits for
// a third party is open.
func (t ticket) request(origin string) request {
	status := t.Status
	if status == "hold" {
		status = "open"
	}
	return request{
		URL: fmt.Sprintf("%s/api/v2/requests/%d.json", origin, t.ID), ID: t.ID, Status: status, Priority: t.Priority, Type: t.Type,
		Subject: t.Subject, Description: t.Description, OrganizationID: t.OrganizationID, Via: t.Via,
		CustomFields: t.CustomFields, Fields: t.Fields, RequesterID: t.RequesterID, CollaboratorIDs: t.CollaboratorIDs,
		EmailCCIDs: t.EmailCCIDs, IsPublic: t.IsPublic, DueAt: t.DueAt, CanBeSolvedByMe: t.AssigneeID != nil && t.solvedAt.IsZero(),
		Solved: !t.solvedAt.IsZero(), TicketFormID: t.TicketFormID, Recipient: t.Recipient, AssigneeID: t.AssigneeID,
		CustomStatusID: t.CustomStatusID, CreatedAt: t.CreatedAt, UpdatedAt: t.UpdatedAt,
	}
}

// requestKeys are what a requester may say of a ticket.
var requestKeys = map[string]bool{
	"subject": true, "comment": true, "priority": true, "type": true, "custom_fields": true, "fields": true, "due_at": true,
	"recipient": true, "ticket_form_id": true, "via_followup_source_id": true,
}

// asTicket turns the request of the body into the ticket of one.
func (c *call) asTicket() *reply {
	fields, refused := c.wrapped("request")
	if refused != nil {
		return refused
	}
	var solved bool
	if into(&solved)(fields["solved"]) && solved {
		fields["status"] = json.RawMessage(`"solved"`)
	}
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		switch {
		case requestKeys[key], key == "status" && solved:
			continue
		case key != "solved":
			c.dropped = append(c.dropped, "ticket."+key)
		}
		delete(fields, key)
	}
	c.body, _ = json.Marshal(object{"ticket": fields}) // it was JSON before
	return nil
}

// told is the answer of a write, for whom the ticket is a request.
func (t ticket) told(c *call, written *reply) *reply {
	if written.status >= http.StatusMultipleChoices {
		return written
	}
	r := answer(written.status, object{"request": t.request(c.origin)})
	if warning := written.header.Get("X-Zendesk-Api-Warn"); warning != "" {
		r.header.Set("X-Zendesk-Api-Warn", strings.ReplaceAll(warning, `"ticket.`, `"request.`))
	}
	if written.status == http.StatusCreated {
		r.header.Set("Location", t.request(c.origin).URL)
	}
	return r
}

// createRequest is POST /api/v2/requests: a ticket of the caller's own.
func (z *Zendesk) createRequest(c *call) *reply {
	if refused := c.asTicket(); refused != nil {
		return refused
	}
	var t ticket
	written := z.newTicket(c, func(made ticket) { t = made })
	return t.told(c, written)
}

// updateRequest is PUT /api/v2/requests/{id}.
func (z *Zendesk) updateRequest(c *call) *reply {
	if refused := c.asTicket(); refused != nil {
		return refused
	}
	t, refused := z.ownTicket(c)
	if refused != nil {
		return refused
	}
	written := z.updateTicket(c)
	t, _ = z.tickets.get(t.ID)
	return t.told(c, written)
}

// ownTicket finds the caller's own ticket that the path names.
func (z *Zendesk) ownTicket(c *call) (ticket, *reply) {
	t, refused := z.ticket(c)
	if refused == nil && t.RequesterID != c.caller.user.ID {
		refused = recordNotFound()
	}
	return t, refused
}

// listRequests is GET /api/v2/requests: those of the caller.
func (z *Zendesk) listRequests(c *call) *reply {
	all := z.ticketsOf(c, func(t ticket) bool { return t.RequesterID == c.caller.user.ID })
	return list(c, "requests", all, func(t ticket) int64 { return t.ID }, func(t ticket) any { return t.request(c.origin) })
}

// showRequest is GET /api/v2/requests/{id}.
func (z *Zendesk) showRequest(c *call) *reply {
	t, refused := z.ownTicket(c)
	if refused != nil {
		return refused
	}
	return answer(http.StatusOK, object{"request": t.request(c.origin)})
}

// listRequestComments is GET /api/v2/requests/{id}/comments.
func (z *Zendesk) listRequestComments(c *call) *reply {
	if _, refused := z.ownTicket(c); refused != nil {
		return refused
	}
	return z.listComments(c)
}
