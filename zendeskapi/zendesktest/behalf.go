package zendesktest

import (
	"net/http"
	"strconv"
)

// impersonate lets an administrator act as the end user whom the header
// X-On-Behalf-Of names, by id or e-mail address, where end users may act. Its
// result is the refusal.
// https://developer.zendesk.com/documentation/ticketing/using-the-zendesk-api/making-api-requests-on-behalf-of-end-users/
func (z *Zendesk) impersonate(c *call, a access, name string) *reply {
	if c.caller.token == nil || !c.caller.token.allows([]string{"impersonate"}) {
		return failure(http.StatusForbidden, "Forbidden", "You are missing the following required scopes: impersonate")
	}
	id, err := strconv.ParseInt(name, 10, 64)
	u, found := z.users.get(id)
	if err != nil {
		u, found = z.userByEmail(name)
	}
	switch {
	case c.caller.user.Role != roleAdmin:
		return forbidden()
	case !found:
		return invalidToken() // as Zendesk has it
	case u.Role != roleEndUser, u.Suspended, !u.Verified, !a.behalf && a.role != roleEndUser:
		return forbidden()
	}
	c.caller.user = u
	return nil
}

// public tells whether the caller is a customer, who sees and writes only what
// is public, and only of their own tickets.
func (c caller) public() bool { return c.user.Role == roleEndUser }

func (c caller) sees(t ticket) bool { return !c.public() || t.RequesterID == c.user.ID }
