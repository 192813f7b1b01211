package zendesktest

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxResults is how far into the results of one search Zendesk lets anyone look.
const maxResults = 1000

// exportCursorLife is how long a cursor of the export can be used.
const exportCursorLife = time.Hour

// searching is one evaluation of a query.
type searching struct {
	z       *Zendesk
	query   query
	clauses [][]term
	now     time.Time
	moment  time.Time // of the state that the index has
	caller  int64
	names   map[naming]map[int64]bool
}

// naming is how a term names records of a kind.
type naming struct {
	kind, value string
	quoted      bool
}

// named resolves the value of a term to the records it names: by id or name,
// people also by e-mail address or telephone number. "me" is the caller.
func (s *searching) named(kind string, t term) map[int64]bool {
	key := naming{kind, t.value, t.quoted}
	if ids, found := s.names[key]; found {
		return ids
	}
	ids := map[int64]bool{}
	s.names[key] = ids
	if id, err := strconv.ParseInt(t.value, 10, 64); err == nil {
		ids[id] = true
	}
	if kind == "user" && t.value == "me" {
		ids[s.caller] = true
		return ids
	}
	switch kind {
	case "user":
		addNamed(s, ids, t, &s.z.users)
	case "organization":
		addNamed(s, ids, t, &s.z.organizations)
	case "group":
		addNamed(s, ids, t, &s.z.groups)
	}
	return ids
}

func addNamed[T any](s *searching, ids map[int64]bool, t term, in *table[T]) {
	for v := range in.at(s.moment) {
		d := v.index()
		for _, keyword := range []string{"name", "email", "phone"} {
			if p, known := d.properties[keyword]; known && p.match(t, s) {
				ids[d.id] = true
			}
		}
	}
}

// searching starts the evaluation of a query. A keyword that no record has is
// a word like any other.
func (z *Zendesk) searching(c *call, q query) *searching {
	for i, t := range q.terms {
		if t.keyword != "" && !z.keyword(t.keyword) {
			q.terms[i] = term{value: t.keyword + " " + t.value, quoted: t.quoted, negated: t.negated}
			q.terms[i].read()
		}
	}
	return &searching{
		z: z, query: q, clauses: q.clauses(), now: c.now, moment: c.now.Add(-z.config.IndexLag),
		caller: c.caller.user.ID, names: map[naming]map[int64]bool{},
	}
}

// wants tells whether the terms about the type allow a kind of record.
func (q query) wants(kind string) bool {
	allowed, named := false, false
	for _, t := range q.terms {
		if t.keyword != "type" {
			continue
		}
		match := exact{kind}.match(t, nil)
		if t.negated && match {
			return false
		}
		if !t.negated {
			named, allowed = true, allowed || match
		}
	}
	return allowed || !named
}

// match tells whether a document of a wanted kind meets the whole query.
func (s *searching) match(d *document) bool {
	for _, clause := range s.clauses {
		if t := clause[0]; t.negated {
			// A keyword the kind does not know leaves it out, negated or not.
			if _, known := d.property(t.keyword); t.keyword != "" && !known || d.match(t, s) {
				return false
			}
			continue
		}
		if !slices.ContainsFunc(clause, func(t term) bool { return d.match(t, s) }) {
			return false
		}
	}
	return true
}

// hit is one result: what to sort it by, and how to show it.
type hit struct {
	*document
	show func(origin string) any
}

// findIn evaluates a query against one kind of records as the index has them.
func findIn[T any](s *searching, kind string, t *table[T], result func(T, string) any) []hit {
	if !s.query.wants(kind) {
		return nil
	}
	var hits []hit
	for v := range t.at(s.moment) {
		if d := v.index(); s.match(d) {
			hits = append(hits, hit{d, func(origin string) any { return result(v.value, origin) }})
		}
	}
	return hits
}

// find evaluates a query against the index.
func (z *Zendesk) find(c *call, q query) []hit {
	s := z.searching(c, q)
	hits := slices.Concat(
		findIn(s, "ticket", &z.tickets, func(t ticket, origin string) any { return ticketResult{t.show(origin), "ticket"} }),
		findIn(s, "user", &z.users, func(u user, origin string) any { return userResult{u.show(origin), "user"} }),
		findIn(s, "organization", &z.organizations, func(o organization, origin string) any {
			return organizationResult{o.show(origin), "organization"}
		}),
		findIn(s, "group", &z.groups, func(g group, origin string) any { return groupResult{g.show(origin), "group"} }),
	)
	sortHits(hits, q.orderBy, q.sort)
	return hits
}

// keyword tells whether any kind of record has such a property.
func (z *Zendesk) keyword(name string) bool {
	if id, custom := strings.CutPrefix(name, customKeyword); custom {
		return slices.ContainsFunc(z.fields, func(f *ticketField) bool { return strconv.FormatInt(f.ID, 10) == id })
	}
	return keywords[name] || slices.ContainsFunc(z.userFields, func(f profileField) bool { return f.key == name })
}

// keywords are those of all kinds of records, besides custom_field_{id} and the
// fields of people.
var keywords = map[string]bool{
	"type": true, "id": true, "created": true, "updated": true, "created_at": true, "updated_at": true,
	"name": true, "email": true, "phone": true, "role": true, "notes": true, "details": true,
	"external_id": true, "tags": true, "organization": true, "group": true, "suspended": true, "verified": true,
	"subject": true, "description": true, "comment": true, "status": true, "priority": true, "ticket_type": true,
	"requester": true, "submitter": true, "assignee": true, "cc": true, "commenter": true, "via": true,
	"solved": true, "due_date": true,
	"tier": true,
}

// sortHits orders results; relevance is the newest change first.
func sortHits(hits []hit, by, order string) {
	key := func(a, b hit) int { return a.updated.Compare(b.updated) }
	ranked := func(property string) func(a, b hit) int {
		place := func(h hit) int {
			r, _ := h.properties[property].(rank)
			return slices.Index(r.order, r.value)
		}
		return func(a, b hit) int { return cmp.Compare(place(a), place(b)) }
	}
	switch by {
	case "created", "created_at":
		key = func(a, b hit) int { return a.created.Compare(b.created) }
	case "priority", "status":
		key = ranked(by)
	case "ticket_type":
		kind := func(h hit) string {
			e, _ := h.properties["ticket_type"].(exact)
			return strings.Join(e, "")
		}
		key = func(a, b hit) int { return cmp.Compare(kind(a), kind(b)) }
	}
	sign := -1
	if order == "asc" {
		sign = 1
	}
	slices.SortStableFunc(hits, func(a, b hit) int {
		return cmp.Or(sign*key(a, b), cmp.Compare(a.id, b.id))
	})
}

// asked reads the query of a search, with the order that parameters give.
func (c *call) asked() (query, *reply) {
	if !c.query.Has("query") {
		return query{}, titled(http.StatusBadRequest, "Missing required parameter", "Parameter query is required")
	}
	q := parseQuery(c.query.Get("query"))
	if len(q.terms) == 0 {
		return query{}, failure(http.StatusUnprocessableEntity, "invalid", "Invalid search: query is empty")
	}
	if by := c.query.Get("sort_by"); by != "" && by != "relevance" {
		q.orderBy = by
	}
	if order := c.query.Get("sort_order"); order != "" {
		q.sort = order
	}
	return q, nil
}

// search is GET /api/v2/search.
func (z *Zendesk) search(c *call) *reply {
	if c.query.Has("page[size]") || c.query.Has("page[after]") {
		return invalidAttribute("page", "Invalid parameter: page must be an integer")
	}
	q, refused := c.asked()
	if refused != nil {
		return refused
	}
	page, perPage := c.offset()
	if page > maxResults/perPage {
		return failure(http.StatusUnprocessableEntity, "invalid",
			"Invalid search: Requested response size was greater than Search Response Limits")
	}
	hits := z.find(c, q)
	from := min((page-1)*perPage, len(hits))
	next, previous := c.around(page, perPage, len(hits))
	return answer(http.StatusOK, struct {
		Results  []any   `json:"results"`
		Facets   *string `json:"facets"`
		Next     *string `json:"next_page"`
		Previous *string `json:"previous_page"`
		Count    int     `json:"count"`
	}{
		Results: shown(hits[from:min(from+perPage, len(hits))], func(h hit) any { return h.show(c.origin) }),
		Next:    next, Previous: previous, Count: len(hits),
	})
}

// searchCount is GET /api/v2/search/count.
func (z *Zendesk) searchCount(c *call) *reply {
	q, refused := c.asked()
	if refused != nil {
		return refused
	}
	return answer(http.StatusOK, object{"count": len(z.find(c, q))})
}

// searchExport is GET /api/v2/search/export: all results of one kind, by cursor.
func (z *Zendesk) searchExport(c *call) *reply {
	kind := c.query.Get("filter[type]")
	if !slices.Contains([]string{"ticket", "user", "organization", "group"}, kind) {
		return invalidAttribute("filter[type]", "It must be ticket, user, organization or group")
	}
	size := positive(c.query, "page[size]", maxPage)
	if size > 1000 {
		return invalidAttribute("page[size]", "It must not be above 1000")
	}
	q, refused := c.asked()
	if refused != nil {
		return refused
	}
	q.orderBy, q.sort = "created_at", "asc"
	hits := slices.DeleteFunc(z.find(c, q), func(h hit) bool { return h.kind != kind })
	from := 0
	if cursor := c.query.Get("page[after]"); cursor != "" {
		id, made, ok := decodeExportCursor(cursor)
		if !ok || c.now.Sub(made) > exportCursorLife {
			return failure(http.StatusBadRequest, "invalid", "Invalid search: cursor is malformed or has expired")
		}
		from = slices.IndexFunc(hits, func(h hit) bool { return h.id == id }) + 1
	}
	to := min(from+size, len(hits))
	var after, next *string
	if from < to {
		after = new(encodeExportCursor(hits[to-1].id, c.now))
	}
	if to < len(hits) {
		next = new(c.address(c.with("page[after]", *after)))
	}
	return answer(http.StatusOK, object{
		"results": shown(hits[from:to], func(h hit) any { return h.show(c.origin) }),
		"facets":  nil,
		"meta":    object{"has_more": to < len(hits), "after_cursor": after, "before_cursor": nil},
		"links":   object{"next": next, "prev": nil},
	})
}

func encodeExportCursor(last int64, made time.Time) string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d.%d", last, made.Unix()))
}

func decodeExportCursor(cursor string) (last int64, made time.Time, ok bool) {
	raw, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return 0, time.Time{}, false
	}
	id, at, _ := strings.Cut(string(raw), ".")
	last, err = strconv.ParseInt(id, 10, 64)
	if err != nil {
		return 0, time.Time{}, false
	}
	seconds, err := strconv.ParseInt(at, 10, 64)
	return last, time.Unix(seconds, 0), err == nil
}

// matching lists the users that a look-up by query finds: as late as search
// does. Unlike search it takes a word for the start of one, and the digits of
// a number for any part of one, wherever it stands.
func (z *Zendesk) matching(c *call, text string) []user {
	q := parseQuery(text)
	for i, t := range q.terms {
		if t.keyword == "" && !t.quoted && !t.wild() && !strings.Contains(t.value, "@") {
			q.terms[i].value += "*"
			if number := digits(t.value); number == t.value && len(number) >= shortestNumber {
				q.terms[i].value = "*" + number + "*"
			}
			q.terms[i].read()
		}
	}
	var found []user
	if len(q.terms) == 0 || !q.wants("user") {
		return found
	}
	s := z.searching(c, q)
	for v := range z.users.at(s.moment) {
		if s.match(v.index()) {
			found = append(found, v.value)
		}
	}
	return found
}
