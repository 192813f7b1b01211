package zendesktest

import (
	"fmt"
	"net/http"
	"time"
)

// group is a team of agents.
type group struct {
	URL         string    `json:"url"`
	ID          int64     `json:"id"`
	IsPublic    bool      `json:"is_public"`
	Name        string    `json:"name"`
	Description string    `json:"description"`
	Default     bool      `json:"default"`
	Deleted     bool      `json:"deleted"`
	CreatedAt   time.Time `json:"created_at"`
	UpdatedAt   time.Time `json:"updated_at"`
}

// groupResult is a group among the results of a search.
type groupResult struct {
	group
	ResultType string `json:"result_type"`
}

func (g group) show(origin string) group {
	g.URL = fmt.Sprintf("%s/api/v2/groups/%d.json", origin, g.ID)
	return g
}

func (g group) index() *document {
	d := &document{
		kind: "group", id: g.ID, created: g.CreatedAt, updated: g.UpdatedAt,
		text:       textOf(g.Name, g.Description),
		properties: map[string]property{"name": textOf(g.Name), "description": textOf(g.Description)},
	}
	d.common()
	return d
}

// listGroups is GET /api/v2/groups.
func (z *Zendesk) listGroups(c *call) *reply {
	var all []group
	for g := range z.groups.all() {
		all = append(all, g)
	}
	return list(c, "groups", all, func(g group) int64 { return g.ID }, func(g group) any { return g.show(c.origin) })
}

// showGroup is GET /api/v2/groups/{id}.
func (z *Zendesk) showGroup(c *call) *reply {
	id, refused := c.id("id")
	if refused != nil {
		return refused
	}
	g, found := z.groups.get(id)
	if !found {
		return recordNotFound()
	}
	return answer(http.StatusOK, object{"group": g.show(c.origin)})
}
