// Package compose decides what a finished interaction writes to its Zendesk ticket.
//
// It hides how a comment reads, which custom field a key of the attached data means, and what each type of field takes:
//
//	update := compose.Compose(details, attached, fields, compose.Left{})
//	// update.Comment:      <p>Inbound call from Maria Lopez (+1 513-555-7611) to +1 800-555-0199<br>24 Nov 2026, 14:03:20 …</p>
//	// update.CustomFields(): {45900000002101 sale}
//	// update.Rejected:     {Callback date, value is no date such as 2026-11-24}
//
// Nothing is lost and nothing is guessed: each key of the attached data fills exactly one field, or it is rejected with a
// reason and stands in the comment. Nothing fails: Compose makes an update of any input, and the same one of the same
// input. Fit makes any details such that they can be stored.
//
// Nothing here keeps state, reads a clock or talks to anyone.
package compose

import (
	"cmp"
	"strings"

	"github.com/scenarioblocks/zendeskblocks/zendeskapi"

	"github.com/scenarioblocks/zendeskblocks/store"
)

// Update is what is written to the ticket, in one request.
type Update struct {
	// Comment is HTML, UTF-8, at most MaxCommentBytes, never empty. Every value in it is escaped: it stands within its line,
	// and neither makes links and placeholders nor looks like what is said here.
	Comment string
	// Filled are the fields that are filled, in the order of their keys, no field twice.
	Filled []Filled
	// Rejected are the keys that filled no field, in order, and before them "requester" if that was left out. Reasons are for people,
	// and never hold the value.
	Rejected []store.Rejected
	// FieldsMayBeStale says that newer field definitions could accept what was rejected: the field is unknown, inactive or
	// not unique, the option is unknown or not unique, or the pattern does not match; or that the field is not known which a key
	// had filled. A caller whose definitions are not fresh reads them again and composes once more.
	FieldsMayBeStale bool
}

// CustomFields are those that are filled, as Zendesk takes them.
func (u *Update) CustomFields() []zendeskapi.CustomField {
	var fields []zendeskapi.CustomField
	for _, f := range u.Filled {
		if f.Field != nil {
			fields = append(fields, zendeskapi.CustomField{ID: f.Field.ID, Value: f.Value})
		}
	}
	return fields
}

// Filled is a key of the attached data that fills a field.
type Filled struct {
	Key   string
	Field *zendeskapi.TicketField // nil: a key had filled it that means no field any more
	Value any                     // a string, a list of strings (multiselect), or a bool (checkbox); nil without a field
}

// Left are the parts that are left out, because Zendesk refused them. What they hold stands in the comment.
type Left struct {
	Fields map[string]string // by the field's id: why
	All    string            // why no field is filled; empty: fields are filled
	// Requester is why a person is not the ticket's requester; empty: none was refused.
	Requester   string
	RequesterID string // the user that was refused, if it was known by its id
	NoRequester bool   // the person of the details was
	// Keys says of what is written already which keys filled no field: why. All others did. Nil: it is not written yet.
	Keys map[string]string
}

// LeftThen are the parts that were left out of what is written, as far as that is known: by its attached data, what was rejected of
// it, and the id of the user who was to be the requester of the ticket, if there was one. The person of the details may have been
// refused beside that user.
func LeftThen(attached map[string]string, rejected []store.Rejected, requesterID string) Left {
	left := Left{Keys: make(map[string]string)}
	if len(rejected) > 0 && rejected[0].Key == requesterKey && isRequester(attached, rejected) {
		left.Requester, left.RequesterID, left.NoRequester = rejected[0].Reason, requesterID, requesterID == ""
		rejected = rejected[1:]
	}
	for _, r := range rejected {
		left.Keys[r.Key] = r.Reason
	}
	return left
}

// isRequester tells whether the first of what was rejected, which is called as the requester is, is no key of the attached data:
// those are in order.
func isRequester(attached map[string]string, rejected []store.Rejected) bool {
	if _, isKey := attached[requesterKey]; !isKey || len(rejected) < 2 {
		return !isKey
	}
	_, isKey := attached[rejected[1].Key] // else it is a remark
	return isKey && rejected[1].Key <= requesterKey
}

// requesterKey is what a requester who was left out is called among rejected keys.
const requesterKey = "requester"

// Requester is the person of the details as one whom Zendesk can find or make a user of; nil if there is no e-mail address
// that could be one.
func Requester(d store.ActivityDetails) *zendeskapi.Requester {
	email := d.Requester.Email
	if !isEmail(email) {
		return nil
	}
	// Zendesk makes no user without a name.
	return &zendeskapi.Requester{Name: cmp.Or(oneLine(d.Requester.Name), email), Email: email}
}

// Compose makes the update, without the parts that are to be left out. Attached are the keys and values of the interaction's attached data; fields are the
// definitions of all ticket fields of the Zendesk account.
//
// A key names a custom field by its id or else by its title, without regard to case and white space. It is rejected when
// the field is one of Zendesk's own, is not active, shares its title with another active custom field, or is named by
// another key too, and when its type does not take the value:
//
//	text, textarea     any text that is not blank, up to 64 KiB; a text is one line, without runs of white space
//	regexp             a text that matches the field's pattern; Zendesk alone judges long values (over 1 KiB), and patterns that
//	                   are long (over 256 bytes) or that Go may read otherwise than Ruby
//	tagger             an option's value, name (A::B) or last part of its name (B), if that means one option
//	multiselect        the same, several of them between commas or line breaks; all must be options
//	checkbox           true, yes, y, on, 1, checked; false, no, n, off, 0, unchecked
//	date               2026-11-24, 2026/11/24, 20261124, 24 Nov 2026, Nov 24, 2026; 2026-11-24T23:30:00-05:00 is the 24th, as
//	                   written; never 03/04/2026
//	integer            digits with an optional sign, of 64 bits
//	decimal            up to 19 digits with an optional sign and decimal point; a comma only where it cannot group thousands
//	partialcreditcard  4 digits, or a whole or masked card number, of which only the last four digits are written
//	lookup             the record's id
//
// The value of a partialcreditcard field is not in the comment either when it is rejected.
// https://support.zendesk.com/hc/en-us/articles/203661866
func Compose(d store.ActivityDetails, attached map[string]string, fields []zendeskapi.TicketField, left Left) Update {
	entries := resolve(attached, fields)
	var u Update
	var lines []dataLine
	if left.Requester != "" {
		u.Rejected = append(u.Rejected, store.Rejected{Key: requesterKey, Reason: left.Requester})
	}
	if left.RequesterID != "" {
		lines = append(lines, newDataLine("Requester", "user "+left.RequesterID))
	}
	for _, e := range entries {
		left.takeOut(&e)
		if e.rejection == nil {
			u.Filled = append(u.Filled, Filled{Key: e.key, Field: e.field, Value: e.coerced})
			u.FieldsMayBeStale = u.FieldsMayBeStale || e.field == nil
			continue
		}
		u.Rejected = append(u.Rejected, store.Rejected{Key: e.key, Reason: e.rejection.reason})
		u.FieldsMayBeStale = u.FieldsMayBeStale || e.rejection.curable
		lines = append(lines, e.line())
	}
	u.Comment = comment(d, lines)
	return u
}

// takeOut rejects an entry that is left out.
func (l Left) takeOut(e *entry) {
	if l.Keys == nil {
		if why := l.of(e); why != "" {
			e.rejection = reject(why)
		}
		return
	}
	why, left := l.Keys[e.key]
	switch {
	case left:
		e.rejection = reject(why)
	case e.rejection != nil:
		e.rejection, e.field = nil, nil // the field that it filled is not there any more, or is another one
	}
}

// of tells why an entry is left out; empty: it is not, or has a reason of its own.
func (l Left) of(e *entry) string {
	switch {
	case e.field == nil && l.All != "" && e.rejection != nil && e.rejection.curable:
		return l.All // nothing is known of fields, maybe
	case e.rejection != nil:
		return ""
	case l.All != "":
		return l.All
	}
	return l.Fields[e.field.ID]
}

// Mark names one interaction of one installation among all that write to a Zendesk account. It is put into the metadata of
// the audit and, of a ticket that is created, into its external id, so that a repeat can find what was written. The
// instance id and the tenant hold no colon.
func Mark(instanceID, tenant, interactionID string) string {
	return strings.Join([]string{"zendeskblocks", instanceID, tenant, interactionID}, ":")
}
