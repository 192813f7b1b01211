package zendesktest

import (
	"fmt"
	"net/http"
	"slices"
	"time"
)

// removal is what became of a person who is no more.
type removal struct {
	user user
	into int64 // whom the person was merged into; 0: deleted
}

// removeUser takes a person away, who may have been merged into another. Their
// addresses, numbers and external_id are free from then on.
func (z *Zendesk) removeUser(u user, into int64, now time.Time) {
	u.Active, u.UpdatedAt, u.identities = false, now, nil
	z.removed[u.ID] = removal{user: u, into: into}
	z.users.remove(u.ID, now, now.Add(-z.config.IndexLag))
}

// mergeUser gives one person's identities and tickets to another. The loser's
// notes, tags and fields are lost, as Zendesk loses them.
func (z *Zendesk) mergeUser(loser, winner user, now time.Time) {
	winner.identities = slices.Clip(winner.identities)
	for _, i := range loser.identities {
		i.UserID, i.Primary, i.UpdatedAt = winner.ID, false, now
		winner.identities = append(winner.identities, i)
	}
	winner.UpdatedAt = now
	z.removeUser(loser, winner.ID, now)
	z.putUser(winner, now)
	for t := range z.tickets.all() {
		if t.RequesterID != loser.ID {
			continue
		}
		t.RequesterID = winner.ID
		if t.SubmitterID == loser.ID {
			t.SubmitterID = winner.ID
		}
		z.putTicketSince(t, now, now)
	}
}

// mergeUsers is PUT /api/v2/users/{id}/merge: that person goes into the one
// whom the body names. Both are end users.
func (z *Zendesk) mergeUsers(c *call) *reply {
	loser, refused := z.user(c)
	if refused != nil {
		return refused
	}
	fields, refused := c.wrapped("user")
	if refused != nil {
		return refused
	}
	var id int64
	_ = into(&id)(fields["id"]) // 0 is nobody
	winner, found := z.users.get(id)
	switch {
	case !found:
		return recordNotFound()
	case loser.ID == winner.ID:
		return recordInvalid("base", "A user cannot be merged into the same user")
	case loser.Role != roleEndUser || winner.Role != roleEndUser:
		return forbidden()
	}
	z.mergeUser(loser, winner, c.now)
	winner, _ = z.users.get(id)
	return answer(http.StatusOK, object{"user": winner.show(c.origin)})
}

// deleteUser is DELETE /api/v2/users/{id}. It answers with who was deleted.
func (z *Zendesk) deleteUser(c *call) *reply {
	u, refused := z.user(c)
	switch {
	case refused != nil:
		return refused
	case u.ID == c.caller.user.ID, u.ID == Admin.ID:
		return forbidden() // nobody deletes themselves, or the owner
	}
	z.removeUser(u, 0, c.now)
	return answer(http.StatusOK, object{"user": z.removed[u.ID].user.show(c.origin)})
}

// showRemoved answers for the id of a person who is no more: one who was deleted
// can still be read, one who was merged is nowhere, or elsewhere.
func (z *Zendesk) showRemoved(c *call, r removal) *reply {
	switch {
	case r.into == 0:
		return answer(http.StatusOK, object{"user": r.user.show(c.origin)})
	case !z.config.MergedRedirects:
		return recordNotFound()
	}
	moved := text(http.StatusMovedPermanently, "")
	moved.header.Set("Location", fmt.Sprintf("%s/api/v2/users/%d.json", c.origin, r.into))
	return moved
}
