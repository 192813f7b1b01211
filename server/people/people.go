// Package people recognises persons and makes them, in the Zendesk of an account.
//
// It hides how a telephone number is looked for, when a hit is a match, whom of several to take, what is remembered of those
// who were found and made, and how two calls at a time make one person. It knows nothing of gRPC.
//
//	directory := people.New(people.Config{...})
//	found, err := directory.Identify(ctx, tenant, &account, people.Sought{Phone: "+1 (513) 555-7611"}, people.First)
//	switch {
//	case errors.Is(err, people.ErrNothing): // a withheld number: nobody was asked
//	case err != nil:                        // credentials.FailureOf(err) says why
//	case len(found.Records) == 0:           // Zendesk knows nobody
//	}
package people

import (
	"cmp"
	"encoding/json"
	"errors"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/scenarioblocks/zendeskblocks/server/phone"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

// ErrNothing says that nothing was given by which anybody could be known: no request was sent.
var ErrNothing = errors.New("nothing that was given identifies anybody")

// Sought is by what somebody is to be found, with variables replaced. What is empty, or cannot identify anybody, is left out.
type Sought struct {
	TicketID   string // of a ticket, digits
	ExternalID string
	Email      string
	Phone      string // as the network gave it
}

// By is by what somebody was found.
type By int

// By what somebody is found; the first that finds somebody decides.
const (
	Nobody By = iota
	TicketID
	ExternalID
	Email
	Phone
)

// Policy is what to do when several match.
type Policy int

// Policies.
const (
	Refuse     Policy = iota // none of them
	First                    // the best match, and of those the one who was created first
	MostRecent               // of the best grade the one whose open ticket changed last, else who changed last
	All                      // all of them
)

// Found is what was found.
type Found struct {
	Records   []json.RawMessage // with their result_type, the best match first; empty: nobody, or Refuse
	Total     int               // how many match
	Several   bool              // they do, and the policy does not choose
	By        By
	Grade     phone.Grade // Exact where it is no number
	Field     string      // of the record that matched, such as "user_fields.mobile"; one that is not on the profile: "identities"
	Query     string      // that found it; empty: it was remembered
	Suspended bool        // found only since there is nobody else
	Created   bool
	Said      zendeskapi.Said // by the last answer
}

// step is one thing to look for.
type step struct {
	by     By
	value  string // as it is compared
	number phone.Number
}

// steps decides what is looked for, in this order.
func (s Sought) steps(region string) []step {
	var steps []step
	if id := strings.TrimSpace(s.TicketID); id != "" && len(id) <= 19 && strings.Trim(id, "0123456789") == "" {
		steps = append(steps, step{by: TicketID, value: id})
	}
	if id := strings.TrimSpace(s.ExternalID); id != "" {
		steps = append(steps, step{by: ExternalID, value: id})
	}
	if email := strings.TrimSpace(s.Email); zendeskapi.IsEmail(email) {
		steps = append(steps, step{by: Email, value: strings.ToLower(email)})
	}
	if number, ok := phone.ReadCaller(s.Phone, region); ok {
		steps = append(steps, step{by: Phone, value: s.Phone, number: number})
	}
	return steps
}

// identity tells what is sought by a step from all else: equal for two forms of a number.
func (s step) identity() string {
	switch s.by {
	case Phone:
		return "phone " + cmp.Or(s.number.E164, s.number.Digits)
	case Email:
		return "email " + s.value
	case ExternalID:
		return "external_id " + strings.ToLower(s.value)
	}
	return ""
}

// rung is one query of the ladder by which a number is looked for.
type rung struct {
	field string // that it searches
	ends  string // digits that what it finds ends with
	query string
}

// phoneField is where a profile has its number.
const phoneField = "phone"

// ladder decides how a number is looked for: by its end, which finds direct lines and every other form on profiles; then in
// the custom fields that hold numbers, as digits and as people write it.
func ladder(n phone.Number, fields []string) []rung {
	ends := n.Ends()
	rungs := []rung{{phoneField, ends, "type:user phone:*" + ends}}
	for _, field := range fields {
		query := "type:user " + field + ":*" + ends
		for _, words := range n.Written() {
			query += " " + field + `:"` + strings.Join(words, " ") + `"`
		}
		rungs = append(rungs, rung{field, ends, query})
	}
	return rungs
}

// match is somebody who was found.
type match struct {
	person zendeskapi.Person
	grade  phone.Grade
	field  string
	query  string
}

const (
	fieldsPrefix    = "user_fields."
	identitiesField = "identities"
)

// verify decides whether a person has the number, by what is on the profile: what a search found may only end alike, or stand
// in the notes. It returns the best grade.
func verify(p zendeskapi.Person, dialled, region string, fields []string) (m match, ok bool) {
	m = match{person: p, grade: storedGrade(p.Phone, dialled, region), field: phoneField}
	for _, key := range fields {
		if grade := storedGrade(p.Fields[key], dialled, region); grade > m.grade {
			m.grade, m.field = grade, fieldsPrefix+key
		}
	}
	return m, m.grade > phone.None
}

// between stands between two numbers in one field.
var between = regexp.MustCompile(`(?i)[;|]|\s/\s|\s(?:and|et|o|oder|or|ou|und|y)\s`)

// storedGrade is how well a stored text, which may hold several numbers, is the dialled one.
func storedGrade(stored, dialled, region string) phone.Grade {
	best := phone.Match(stored, dialled, region)
	if parts := between.Split(stored, -1); len(parts) > 1 {
		for _, part := range parts {
			best = max(best, phone.Match(part, dialled, region))
		}
	}
	return best
}

// endsAlike tells a stored number which a search for an end has found, though it is another.
func endsAlike(stored, ends string) bool {
	return strings.Contains(strings.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, stored), ends)
}

// living decides who of those who match counts: nobody who was deleted, and who is suspended only if all are.
func living(matches []match) (alive []match, suspended bool) {
	matches = slices.DeleteFunc(slices.Clone(matches), func(m match) bool { return !m.person.Active })
	alive = slices.DeleteFunc(slices.Clone(matches), func(m match) bool { return m.person.Suspended })
	if len(alive) > 0 || len(matches) == 0 {
		return alive, false
	}
	return matches, true
}

// ranked puts the best match first: by grade, then who was created first.
func ranked(matches []match) []match {
	return slices.SortedStableFunc(slices.Values(matches), func(a, b match) int {
		return cmp.Or(
			cmp.Compare(b.grade, a.grade), a.person.CreatedAt.Compare(b.person.CreatedAt),
			cmp.Compare(len(a.person.ID), len(b.person.ID)), cmp.Compare(a.person.ID, b.person.ID),
		)
	})
}

// best are those of the best grade.
func best(ranked []match) []match {
	for i, m := range ranked {
		if m.grade != ranked[0].grade {
			return ranked[:i]
		}
	}
	return ranked
}

// mostRecent decides whose ticket changed last; of people without one, who changed last.
func mostRecent(ranked []match, tickets []zendeskapi.Ticket) match {
	changed := func(m match) (last time.Time) {
		for _, ticket := range tickets {
			if ticket.RequesterID == m.person.ID && ticket.UpdatedAt.After(last) {
				last = ticket.UpdatedAt
			}
		}
		return last
	}
	if chosen := slices.MaxFunc(ranked, func(a, b match) int { return changed(a).Compare(changed(b)) }); !changed(chosen).IsZero() {
		return chosen
	}
	return slices.MaxFunc(ranked, func(a, b match) int { return a.person.UpdatedAt.Compare(b.person.UpdatedAt) })
}

// foundOf words matches, ranked, of which one was chosen or the policy has all.
func foundOf(by By, ranked []match, suspended bool, policy Policy) Found {
	if len(ranked) == 0 {
		return Found{}
	}
	f := Found{
		Total: len(ranked), By: by, Grade: ranked[0].grade, Field: ranked[0].field, Query: ranked[0].query, Suspended: suspended,
		Several: len(ranked) > 1,
	}
	if f.Several && policy == Refuse {
		return f
	}
	for _, m := range ranked {
		f.Records = append(f.Records, m.person.Record)
	}
	return f
}
