package zendesktest

import "net/http"

// noContent is the answer of what was deleted: no body at all.
func noContent() *reply { return &reply{status: http.StatusNoContent} }

// deleteTicket is DELETE /api/v2/tickets/{id}.
func (z *Zendesk) deleteTicket(c *call) *reply {
	t, refused := z.ticket(c)
	if refused != nil {
		return refused
	}
	z.tickets.remove(t.ID, c.now, c.now.Add(-z.config.IndexLag))
	return noContent()
}

// deleteOrganization is DELETE /api/v2/organizations/{id}: its people belong to
// none from then on.
func (z *Zendesk) deleteOrganization(c *call) *reply {
	o, refused := z.organization(c)
	if refused != nil {
		return refused
	}
	z.organizations.remove(o.ID, c.now, c.now.Add(-z.config.IndexLag))
	for u := range z.users.all() {
		if u.OrganizationID != nil && *u.OrganizationID == o.ID {
			u.OrganizationID, u.UpdatedAt = nil, c.now
			z.putUser(u, c.now)
		}
	}
	return noContent()
}
