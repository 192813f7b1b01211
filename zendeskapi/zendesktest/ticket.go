package zendesktest

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ticket is one request of a customer.
type ticket struct {
	URL                  string       `json:"url"`
	ID                   int64        `json:"id"`
	ExternalID           *string      `json:"external_id"`
	Via                  via          `json:"via"`
	CreatedAt            time.Time    `json:"created_at"`
	UpdatedAt            time.Time    `json:"updated_at"`
	GeneratedTimestamp   int64        `json:"generated_timestamp"`
	Type                 *string      `json:"type"`
	Subject              string       `json:"subject"`
	RawSubject           string       `json:"raw_subject"`
	Description          string       `json:"description"`
	Priority             *string      `json:"priority"`
	Status               string       `json:"status"`
	Recipient            *string      `json:"recipient"`
	RequesterID          int64        `json:"requester_id"`
	SubmitterID          int64        `json:"submitter_id"`
	AssigneeID           *int64       `json:"assignee_id"`
	OrganizationID       *int64       `json:"organization_id"`
	GroupID              *int64       `json:"group_id"`
	CollaboratorIDs      []int64      `json:"collaborator_ids"`
	FollowerIDs          []int64      `json:"follower_ids"`
	EmailCCIDs           []int64      `json:"email_cc_ids"`
	ForumTopicID         *int64       `json:"forum_topic_id"`
	ProblemID            *int64       `json:"problem_id"`
	HasIncidents         bool         `json:"has_incidents"`
	IsPublic             bool         `json:"is_public"`
	DueAt                *time.Time   `json:"due_at"`
	Tags                 []string     `json:"tags"`
	CustomFields         []fieldValue `json:"custom_fields"`
	SatisfactionRating   object       `json:"satisfaction_rating"`
	SharingAgreementIDs  []int64      `json:"sharing_agreement_ids"`
	CustomStatusID       int64        `json:"custom_status_id"`
	EncodedID            string       `json:"encoded_id"`
	Fields               []fieldValue `json:"fields"` // the same as CustomFields
	FollowupIDs          []int64      `json:"followup_ids"`
	TicketFormID         int64        `json:"ticket_form_id"`
	BrandID              int64        `json:"brand_id"`
	AllowChannelback     bool         `json:"allow_channelback"`
	AllowAttachments     bool         `json:"allow_attachments"`
	FromMessagingChannel bool         `json:"from_messaging_channel"`

	solvedAt time.Time
}

// ticketResult is a ticket among the results of a search.
type ticketResult struct {
	ticket
	ResultType string `json:"result_type"`
}

// ticketTypes are the types a ticket may have.
var ticketTypes = []string{"problem", "incident", "question", "task"}

// maxComments is how many comments a ticket holds.
const maxComments = 5000

// idempotencyLife is how long an Idempotency-Key is remembered.
const idempotencyLife = 2 * time.Hour

// idempotent is what an Idempotency-Key was used for.
type idempotent struct {
	request [sha256.Size]byte
	reply   *reply
	at      time.Time
}

func (t ticket) show(origin string) ticket {
	t.URL = fmt.Sprintf("%s/api/v2/tickets/%d.json", origin, t.ID)
	return t
}

// indexTicket is what search knows of a ticket with the audits it had.
func (z *Zendesk) indexTicket(t ticket, audits []audit) *document {
	text := append([]string{t.Subject, strconv.FormatInt(t.ID, 10), deref(t.ExternalID)}, t.Tags...)
	var said []string
	var commenters []*int64
	for _, c := range comments(audits) {
		said = append(said, c.Body)
		commenters = append(commenters, &c.AuthorID)
	}
	var ccs []*int64
	for _, id := range t.EmailCCIDs {
		ccs = append(ccs, &id)
	}
	d := &document{
		kind: "ticket", id: t.ID, created: t.CreatedAt, updated: t.UpdatedAt,
		properties: map[string]property{
			"subject":      textOf(t.Subject),
			"description":  textOf(t.Description),
			"comment":      textOf(said...),
			"status":       rank{statuses, t.Status},
			"priority":     rank{priorities, deref(t.Priority)},
			"ticket_type":  exactly(deref(t.Type)),
			"requester":    referTo("user", &t.RequesterID),
			"submitter":    referTo("user", &t.SubmitterID),
			"assignee":     referTo("user", t.AssigneeID),
			"cc":           referTo("user", ccs...),
			"commenter":    referTo("user", commenters...),
			"organization": referTo("organization", t.OrganizationID),
			"group":        referTo("group", t.GroupID),
			"tags":         exactly(t.Tags...),
			"external_id":  exactly(deref(t.ExternalID)),
			"via":          exactly(t.Via.Channel),
			"solved":       moment(t.solvedAt),
		},
	}
	if t.DueAt != nil {
		d.properties["due_date"] = moment(*t.DueAt)
	} else {
		d.properties["due_date"] = moment{}
	}
	for _, v := range t.CustomFields {
		if v.Value == nil {
			continue
		}
		f, _ := z.field(v.ID)
		d.properties[customKeyword+strconv.FormatInt(v.ID, 10)] = f.property(v.Value)
		if s, is := v.Value.(string); is {
			text = append(text, s)
		}
	}
	d.text = textOf(append(text, said...)...)
	d.common()
	return d
}

func (z *Zendesk) putTicket(t ticket, now time.Time) { z.putTicketSince(t, t.UpdatedAt, now) }

// putTicketSince is for changes that do not count as updates of the ticket.
func (z *Zendesk) putTicketSince(t ticket, since, now time.Time) {
	audits := z.audits[t.ID] // as many as there are now: later ones are behind its end
	z.tickets.put(t.ID, t, since, now.Add(-z.config.IndexLag), func() *document { return z.indexTicket(t, audits) })
}

// ticket finds the one that the path names.
func (z *Zendesk) ticket(c *call) (ticket, *reply) {
	id, refused := c.id("id")
	if refused != nil {
		return ticket{}, refused
	}
	t, found := z.tickets.get(id)
	if !found || !c.caller.sees(t) {
		return ticket{}, recordNotFound()
	}
	return t, nil
}

// showTicket is GET /api/v2/tickets/{id}.
func (z *Zendesk) showTicket(c *call) *reply {
	t, refused := z.ticket(c)
	if refused != nil {
		return refused
	}
	return answer(http.StatusOK, object{"ticket": t.show(c.origin)})
}

// ticketsOf finds the tickets that meet a condition and are the caller's to
// see, in the order asked for.
func (z *Zendesk) ticketsOf(c *call, meets func(ticket) bool) []ticket {
	var all []ticket
	for t := range z.tickets.all() {
		if meets(t) && c.caller.sees(t) {
			all = append(all, t)
		}
	}
	c.sortTickets(all)
	return all
}

func (z *Zendesk) ticketsWhere(c *call, meets func(ticket) bool) *reply {
	all := z.ticketsOf(c, meets)
	return list(c, "tickets", all, func(t ticket) int64 { return t.ID }, func(t ticket) any { return t.show(c.origin) })
}

// sortTickets puts tickets into the order that the caller asked for, which is
// that of creation otherwise.
func (c *call) sortTickets(all []ticket) {
	by, reverse := c.query.Get("sort_by"), c.query.Get("sort_order") == "desc"
	if c.byCursor() { // which knows sort alone
		by, reverse = strings.CutPrefix(c.query.Get("sort"), "-")
	}
	var at func(ticket) time.Time
	switch by {
	case "created_at":
		at = func(t ticket) time.Time { return t.CreatedAt }
	case "updated_at":
		at = func(t ticket) time.Time { return t.UpdatedAt }
	default:
		return
	}
	slices.SortStableFunc(all, func(a, b ticket) int {
		if reverse {
			a, b = b, a
		}
		return cmp.Or(at(a).Compare(at(b)), cmp.Compare(a.ID, b.ID))
	})
}

// listTickets is GET /api/v2/tickets, optionally those of an external_id.
func (z *Zendesk) listTickets(c *call) *reply {
	externalID, given := c.query.Get("external_id"), c.query.Has("external_id")
	return z.ticketsWhere(c, func(t ticket) bool { return !given || t.ExternalID != nil && *t.ExternalID == externalID })
}

// listRequestedTickets is GET /api/v2/users/{id}/tickets/requested.
func (z *Zendesk) listRequestedTickets(c *call) *reply {
	u, refused := z.user(c)
	if refused != nil {
		return refused
	}
	if c.query.Get("sort_by") != "updated_at" || c.query.Has("page[size]") {
		return z.ticketsWhere(c, func(t ticket) bool { return t.RequesterID == u.ID })
	}
	var all []ticket
	for t := range z.tickets.all() {
		if t.RequesterID == u.ID {
			all = append(all, t)
		}
	}
	slices.SortStableFunc(all, func(a, b ticket) int { return a.UpdatedAt.Compare(b.UpdatedAt) })
	if c.query.Get("sort_order") == "desc" {
		slices.Reverse(all)
	}
	return list(c, "tickets", all, func(t ticket) int64 { return t.ID }, func(t ticket) any { return t.show(c.origin) })
}

// draft is a ticket with the changes of a request, before they are checked as
// a whole.
type draft struct {
	ticket
	comment  *draftComment
	metadata json.RawMessage
	dropped  []string
	problems problems
	followUp int64
	safe     bool // safe_update was given
	stamp    time.Time
}

// ticketRules read the fields of a ticket that a request may set.
func (z *Zendesk) ticketRules(d *draft) rules {
	fields := func(raw json.RawMessage) bool { return z.readValues(d, raw) }
	return rules{
		"subject":     func(raw json.RawMessage) bool { return into(&d.Subject)(raw) && into(&d.RawSubject)(raw) },
		"raw_subject": func(raw json.RawMessage) bool { return into(&d.Subject)(raw) && into(&d.RawSubject)(raw) },
		"external_id": into(&d.ExternalID),
		"recipient":   into(&d.Recipient),
		"due_at":      into(&d.DueAt),
		"type":        oneOf(ticketTypes, &d.Type),
		"priority":    oneOf(priorities, &d.Priority),
		"status": func(raw json.RawMessage) bool {
			var status *string
			if !oneOf(statuses, &status)(raw) || status == nil {
				return false
			}
			d.Status = *status
			return true
		},
		"custom_status_id": func(raw json.RawMessage) bool {
			var id int64
			if !into(&id)(raw) {
				return false
			}
			category, found := z.statusCategory(id)
			if found {
				d.Status = category
			}
			return found
		},
		"additional_tags": func(raw json.RawMessage) bool {
			var tags []string
			ok := tagsInto(&tags)(raw)
			d.Tags = tagSet(slices.Concat(d.Tags, tags))
			return ok
		},
		"remove_tags": func(raw json.RawMessage) bool {
			var tags []string
			ok := tagsInto(&tags)(raw)
			d.Tags = without(d.Tags, tags)
			return ok
		},
		"requester_id":    func(raw json.RawMessage) bool { return into(&d.RequesterID)(raw) && z.users.has(d.RequesterID) },
		"submitter_id":    func(raw json.RawMessage) bool { return into(&d.SubmitterID)(raw) && z.users.has(d.SubmitterID) },
		"assignee_id":     optionalID(&d.AssigneeID, z.isAgent),
		"group_id":        optionalID(&d.GroupID, z.groups.has),
		"organization_id": optionalID(&d.OrganizationID, z.organizations.has),
		"problem_id":      optionalID(&d.ProblemID, z.tickets.has),
		"assignee_email": func(raw json.RawMessage) bool {
			var email string
			if !into(&email)(raw) {
				return false
			}
			u, found := z.userByEmail(email)
			d.AssigneeID = &u.ID
			return found && u.Role != roleEndUser
		},
		"collaborator_ids": idsInto(&d.CollaboratorIDs),
		"follower_ids":     idsInto(&d.FollowerIDs),
		"email_cc_ids":     idsInto(&d.EmailCCIDs),
		"brand_id":         into(&d.BrandID),
		"ticket_form_id":   into(&d.TicketFormID),
		"via_id":           viaInto(&d.Via),
		"custom_fields":    fields,
		"fields":           fields,
		"comment": func(raw json.RawMessage) bool {
			read, dropped, ok := readComment(raw)
			d.comment, d.dropped = read, append(d.dropped, dropped...)
			return ok && (read.author == nil || z.users.has(*read.author))
		},
		"metadata": func(raw json.RawMessage) bool {
			var given object
			d.metadata = raw
			return json.Unmarshal(raw, &given) == nil && given != nil
		},
		"via_followup_source_id": into(&d.followUp),
		"safe_update": func(json.RawMessage) bool {
			d.safe = true // whatever its value
			return true
		},
		"updated_stamp": into(&d.stamp),
	}
}

// oneOf reads a value of a list, or null.
func oneOf(list []string, target **string) func(json.RawMessage) bool {
	return func(raw json.RawMessage) bool {
		var value *string
		if !into(&value)(raw) || value != nil && !slices.Contains(list, *value) {
			return false
		}
		*target = value
		return true
	}
}

// viaInto reads the id of a channel: those of calls are known by name.
func viaInto(target *via) func(json.RawMessage) bool {
	return func(raw json.RawMessage) bool {
		var id int64
		if !into(&id)(raw) {
			return false
		}
		rel, isCall := map[int64]string{44: "voicemail", 45: "inbound", 46: "outbound"}[id]
		if isCall {
			*target = viaChannel("voice")
			target.Source.Rel = &rel
		}
		return true
	}
}

func idsInto(target *[]int64) func(json.RawMessage) bool {
	return func(raw json.RawMessage) bool {
		ids := []int64{}
		if !into(&ids)(raw) || ids == nil {
			return false
		}
		*target = ids
		return true
	}
}

// without is the tags less the removed ones.
func without(tags, removed []string) []string {
	return slices.DeleteFunc(slices.Clone(tags), func(t string) bool { return slices.Contains(removed, t) })
}

func (z *Zendesk) isAgent(id int64) bool {
	u, found := z.users.get(id)
	return found && u.Role != roleEndUser && u.Active
}

// givenValue is a custom field of a request.
type givenValue struct {
	ID    json.Number     `json:"id"`
	Value json.RawMessage `json:"value"`
}

// readValues reads custom fields, as a list of {id, value} or an object by id.
// What a field does not take is dropped without an error, as Zendesk does.
func (z *Zendesk) readValues(d *draft, raw json.RawMessage) bool {
	var given []givenValue
	if err := json.Unmarshal(raw, &given); err != nil {
		var byID map[string]json.RawMessage
		if json.Unmarshal(raw, &byID) != nil {
			return false
		}
		for _, id := range slices.Sorted(maps.Keys(byID)) {
			given = append(given, givenValue{json.Number(id), byID[id]})
		}
	}
	values := slices.Clone(d.CustomFields)
	for _, g := range given {
		id, _ := g.ID.Int64() // 0 names no field
		i := slices.IndexFunc(values, func(v fieldValue) bool { return v.ID == id })
		f, _ := z.field(id)
		if i < 0 {
			d.dropped = append(d.dropped, "ticket.custom_fields."+g.ID.String())
			continue
		}
		value, ok := f.read(g.Value, z)
		if !ok {
			d.dropped = append(d.dropped, "ticket.custom_fields."+g.ID.String())
			continue
		}
		d.Tags = tagSet(slices.Concat(without(d.Tags, f.tags(values[i].Value)), f.tags(value)))
		values[i].Value = value
	}
	d.CustomFields, d.Fields = values, values
	return true
}

// readTicket applies the fields of a request to a draft, and notes what is wrong
// with them.
func (z *Zendesk) readTicket(c *call, d *draft, fields map[string]json.RawMessage) {
	// The set of tags comes first: other keys add to it and take from it.
	tags, given := fields["tags"]
	if given && !tagsInto(&d.Tags)(tags) {
		d.problems.invalid([]string{"tags"})
	}
	delete(fields, "tags")
	if c.caller.public() {
		for _, key := range []string{"requester_id", "submitter_id", "assignee_id", "assignee_email", "group_id", "organization_id"} {
			if _, given := fields[key]; given {
				delete(fields, key)
				d.dropped = append(d.dropped, "ticket."+key)
			}
		}
	}
	before := d.RequesterID
	dropped, wrong := z.ticketRules(d).apply("ticket", fields)
	d.dropped = append(d.dropped, dropped...)
	for _, key := range wrong {
		part := partOf(key)
		label := strings.ToUpper(part[:1]) + part[1:]
		switch key {
		case "status", "priority", "type":
			d.problems.add(part, fmt.Sprintf("%s: %s is not included in the list", label, fields[key]), "InvalidValue")
		default:
			d.problems.add(part, label+": is invalid", "InvalidValue")
		}
	}
	if u, _ := z.users.get(d.RequesterID); d.RequesterID != before {
		z.mayRequest(d, u)
	}
	if c.caller.public() && d.comment != nil {
		d.comment.public, d.comment.author = new(true), nil
	}
}

// partOf is the name Zendesk has for what a key is about.
func partOf(key string) string {
	switch key {
	case "requester_id", "submitter_id", "assignee_id", "group_id", "organization_id", "problem_id":
		return strings.TrimSuffix(key, "_id")
	case "assignee_email":
		return "assignee"
	}
	return key
}

// mayRequest refuses people who are suspended.
func (z *Zendesk) mayRequest(d *draft, u user) {
	if u.Suspended {
		d.problems.add("requester", "Requester: "+u.Name+" is suspended.", "")
	}
}

// mustHave refuses a solved ticket without a field that solved ones need.
func (z *Zendesk) mustHave(d *draft) {
	if d.Status != "solved" {
		return
	}
	for _, v := range d.CustomFields {
		f, _ := z.field(v.ID)
		if f.Required && f.Active && (v.Value == nil || v.Value == "" || v.Value == false) {
			d.problems["base"] = append(d.problems["base"], problem{
				Description: f.Title + ": is required when solving a ticket", Error: "BlankValue", TicketFieldID: f.ID,
			})
		}
	}
}

// RequireField makes a custom field one that tickets need to be solved, or one
// that they do not. An unknown field is an error.
func (z *Zendesk) RequireField(id int64, required bool) error {
	z.mu.Lock()
	defer z.mu.Unlock()
	f, found := z.field(id)
	if !found {
		return fmt.Errorf("field %d is unknown", id)
	}
	f.Required = required
	return nil
}

// settle derives what follows from the values given.
func (z *Zendesk) settle(d *draft, now time.Time) {
	if d.Status == "new" && d.AssigneeID != nil {
		d.Status = "open"
	}
	solved := d.Status == "solved" || d.Status == "closed"
	switch {
	case solved && d.solvedAt.IsZero():
		d.solvedAt = now
	case !solved:
		d.solvedAt = time.Time{}
	}
	d.CustomStatusID = z.customStatusID(d.Status)
	d.UpdatedAt, d.GeneratedTimestamp = now, now.Unix()
}

// describedRequester makes the person whom a request describes as {name, email}
// the draft's requester: one who is known, or a new one. A new one is there when
// save is called: with the ticket.
func (z *Zendesk) describedRequester(c *call, d *draft, raw json.RawMessage) (save func()) {
	save = func() {}
	var given struct{ Name, Email string }
	if !into(&given)(raw) || given.Email == "" {
		d.problems.add("requester", "Requester: Email: cannot be blank", "BlankValue")
		return save
	}
	if u, found := z.userByEmail(given.Email); found {
		d.RequesterID = u.ID
		z.mayRequest(d, u)
		return save
	}
	if !isAddress(given.Email) {
		d.problems.add("requester", "Requester: Email: "+given.Email+" is not properly formatted", "InvalidFormat")
	}
	if strings.TrimSpace(given.Name) == "" {
		d.problems.add("requester", "Requester: Name: is too short (minimum one character)", "BlankValue")
	}
	u := z.newUser(c.now)
	u.Name, u.Email = given.Name, new(strings.ToLower(given.Email))
	z.identify(&u, "email", *u.Email, c.now)
	d.RequesterID = u.ID
	return func() { z.putUser(u, c.now) }
}

// createTicket is POST /api/v2/tickets.
func (z *Zendesk) createTicket(c *call) *reply {
	key := c.Header.Get("Idempotency-Key")
	if key == "" {
		return z.newTicket(c, nil)
	}
	for k, used := range z.idempotency {
		if c.now.Sub(used.at) >= idempotencyLife {
			delete(z.idempotency, k)
		}
	}
	request := sha256.Sum256(c.body)
	if used, found := z.idempotency[key]; found {
		if used.request != request {
			return failure(http.StatusBadRequest, "IdempotentRequestError",
				"Request parameters differ from those the idempotency key was first used with")
		}
		again := *used.reply
		again.header = again.header.Clone()
		again.header.Set("X-Idempotency-Lookup", "hit")
		return &again
	}
	r := z.newTicket(c, nil)
	if r.status == http.StatusCreated {
		z.idempotency[key] = idempotent{request: request, reply: r, at: c.now}
	}
	r.header.Set("X-Idempotency-Lookup", "miss")
	return r
}

// newTicket makes the ticket that a request describes; made is told of it.
func (z *Zendesk) newTicket(c *call, made func(ticket)) *reply {
	fields, refused := c.wrapped("ticket")
	if refused != nil {
		return refused
	}
	d := &draft{ticket: z.blankTicket(c.now), problems: problems{}, dropped: c.dropped}
	d.RequesterID, d.SubmitterID = c.caller.user.ID, c.caller.user.ID
	saveRequester := func() {}
	if raw, given := fields["requester"]; given && !c.caller.public() {
		delete(fields, "requester")
		saveRequester = z.describedRequester(c, d, raw)
	}
	if text, given := fields["description"]; given && fields["comment"] == nil {
		delete(fields, "description")
		fields["comment"] = text // the older name of a first comment
	}
	z.readTicket(c, d, fields)
	if d.comment == nil || d.comment.blank() {
		d.problems.add("base", "Description: cannot be blank", "BlankValue")
	}
	z.mustHave(d)
	source, found := z.tickets.get(d.followUp)
	if d.followUp != 0 && (!found || source.Status != "closed") {
		d.problems.add("base", "Via followup source: is not a closed ticket", "InvalidValue")
	}
	if refused := d.problems.refusal(); refused != nil {
		return refused
	}
	saveRequester()
	if d.followUp != 0 {
		z.follow(d, source, c.now)
	}
	if requester, _ := z.users.get(d.RequesterID); fields["organization_id"] == nil {
		d.OrganizationID = requester.OrganizationID
	}
	if d.Subject == "" {
		d.Subject = firstWords(d.comment.body)
		d.RawSubject = d.Subject
	}
	z.settle(d, c.now)

	a := z.auditOf(c, d.ID, d.metadata)
	a.Via = d.Via
	said := d.comment.event(z.newID(), a.ID, d.SubmitterID, a.TicketID, true)
	a.Events = append(a.Events, said)
	z.change(&a, nil, &d.ticket)
	d.Description, d.IsPublic = said.Body, said.Public
	z.audits[d.ID] = []audit{a}
	z.putTicket(d.ticket, c.now)
	if made != nil {
		made(d.ticket)
	}
	r := answer(http.StatusCreated, struct {
		Ticket ticket `json:"ticket"`
		Audit  audit  `json:"audit"`
	}{d.show(c.origin), a})
	r.header.Set("Location", d.show(c.origin).URL)
	warn(r, d.dropped)
	return r
}

// blankTicket is a ticket before anybody described it.
func (z *Zendesk) blankTicket(now time.Time) ticket {
	id := z.newID()
	t := ticket{
		ID: id, Via: viaChannel("api"), CreatedAt: now, Status: "new",
		CollaboratorIDs: []int64{}, FollowerIDs: []int64{}, EmailCCIDs: []int64{},
		Tags: []string{}, CustomFields: z.emptyValues(), SatisfactionRating: object{"score": "unoffered"},
		SharingAgreementIDs: []int64{}, FollowupIDs: []int64{},
		EncodedID:    strings.ToUpper(strconv.FormatInt(id, 36)),
		TicketFormID: formID, BrandID: brandID, AllowAttachments: true,
	}
	t.Fields = t.CustomFields
	return t
}

// firstWords is the subject of a ticket that got none.
func firstWords(text string) string {
	runes := []rune(strings.Join(strings.Fields(text), " "))
	return string(runes[:min(len(runes), 80)])
}

// follow makes the draft a follow-up of a closed ticket.
func (z *Zendesk) follow(d *draft, source ticket, now time.Time) {
	d.Via.Source.Rel = new("follow_up")
	d.Via.Source.From = object{"ticket_id": source.ID, "subject": source.Subject, "channel": source.Via.Channel}
	source.FollowupIDs = append(slices.Clone(source.FollowupIDs), d.ID)
	z.putTicket(source, now)
}

// updateTicket is PUT /api/v2/tickets/{id}.
func (z *Zendesk) updateTicket(c *call) *reply {
	t, refused := z.ticket(c)
	if refused != nil {
		return refused
	}
	fields, refused := c.wrapped("ticket")
	if refused != nil {
		return refused
	}
	if refused := z.limitUpdate(updateKey{c.caller.user.ID, t.ID}, c.now); refused != nil {
		return refused
	}
	if t.Status == "closed" {
		return recordInvalid("status", "Status: closed prevents ticket update")
	}
	d := &draft{ticket: t, problems: problems{}, dropped: c.dropped}
	delete(fields, "via_followup_source_id") // of new tickets only, as is via_id
	delete(fields, "via_id")
	z.readTicket(c, d, fields)
	if d.safe && (d.stamp.IsZero() || t.UpdatedAt.After(d.stamp)) {
		return failure(http.StatusConflict, "UpdateConflict",
			"Safe Update prevented the update due to outdated ticket data. Please fetch the latest ticket data and try again.")
	}
	says := d.comment != nil && !d.comment.blank()
	if says && len(comments(z.audits[t.ID])) >= maxComments {
		d.problems.add("base", fmt.Sprintf("Comments: a ticket holds at most %d", maxComments), "TooManyComments")
	}
	z.mustHave(d)
	if refused := d.problems.refusal(); refused != nil {
		return refused
	}
	z.settle(d, c.now)

	a := z.auditOf(c, t.ID, d.metadata)
	if says {
		said := d.comment.event(z.newID(), a.ID, c.caller.user.ID, a.TicketID, t.IsPublic)
		a.Events = append(a.Events, said)
		d.IsPublic = d.IsPublic || said.Public
	}
	z.change(&a, &t, &d.ticket)
	z.audits[t.ID] = append(z.audits[t.ID], a)
	z.putTicket(d.ticket, c.now)
	r := answer(http.StatusOK, struct {
		Ticket ticket `json:"ticket"`
		Audit  audit  `json:"audit"`
	}{d.show(c.origin), a})
	warn(r, d.dropped)
	return r
}
