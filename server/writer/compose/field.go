package compose

import (
	"maps"
	"slices"
	"strings"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

// entry is one key of the attached data and what became of it: a coerced value for the field, or a rejection.
type entry struct {
	key, value string
	field      *zendeskapi.TicketField // nil: the key means no one field
	coerced    any
	rejection  *rejection
	secret     bool // the value may be a card number
}

// rejection says why a value goes into no field.
type rejection struct {
	reason  string
	curable bool // newer field definitions could accept it
}

// resolve finds the field of each key and coerces its value. Entries are in the order of their keys.
func resolve(attached map[string]string, fields []zendeskapi.TicketField) []entry {
	index := newFieldIndex(fields)
	entries := make([]entry, 0, len(attached))
	keys := make(map[string]int) // of each field's id
	for _, key := range slices.Sorted(maps.Keys(attached)) {
		e := entry{key: key, value: attached[key]}
		e.field, e.secret, e.rejection = index.find(key)
		if e.rejection == nil {
			keys[e.field.ID]++
		}
		entries = append(entries, e)
	}
	for i := range entries {
		e := &entries[i]
		switch {
		case e.rejection != nil:
		case keys[e.field.ID] > 1:
			e.rejection = reject("another key names the same field")
		default:
			e.coerced, e.rejection = coerce(e.field, e.value)
		}
	}
	return entries
}

// fieldIndex finds fields by what a key may hold.
type fieldIndex struct {
	byID    map[string]*zendeskapi.TicketField
	byTitle map[string][]*zendeskapi.TicketField
}

func newFieldIndex(fields []zendeskapi.TicketField) fieldIndex {
	index := fieldIndex{map[string]*zendeskapi.TicketField{}, map[string][]*zendeskapi.TicketField{}}
	for i := range fields {
		f := &fields[i]
		index.byID[f.ID] = f
		if title := fold(f.Title); title != "" {
			index.byTitle[title] = append(index.byTitle[title], f)
		}
	}
	return index
}

// find returns the field that a key means. secret tells whether any field that it could mean is for card numbers.
func (x fieldIndex) find(key string) (field *zendeskapi.TicketField, secret bool, why *rejection) {
	if f, ok := x.byID[strings.TrimSpace(key)]; ok {
		secret = f.Type == cardType
		switch {
		case !isCustom(f):
			return nil, secret, reject("is one of Zendesk's own fields; only custom fields take attached data")
		case !f.Active:
			return f, secret, &rejection{reason: "field is not active", curable: true}
		}
		return f, secret, nil
	}
	named := x.byTitle[fold(key)]
	var custom, active []*zendeskapi.TicketField
	for _, f := range named {
		if !isCustom(f) {
			continue
		}
		secret = secret || f.Type == cardType
		custom = append(custom, f)
		if f.Active {
			active = append(active, f)
		}
	}
	switch {
	case len(active) == 1:
		return active[0], secret, nil
	case len(active) > 1:
		return nil, secret, &rejection{reason: "several active fields have this title; use the field's id", curable: true}
	case len(custom) > 0:
		return nil, secret, &rejection{reason: "field is not active", curable: true}
	case len(named) > 0:
		return nil, secret, reject("is one of Zendesk's own fields; only custom fields take attached data")
	}
	return nil, secret, &rejection{reason: "no custom field has this id or title", curable: true}
}

// systemTypes are those of the fields that every account has. A type that is neither here nor known to coerce is refused
// there. https://developer.zendesk.com/api-reference/ticketing/tickets/ticket_fields/
var systemTypes = map[string]bool{
	"subject": true, "description": true, "status": true, "custom_status": true, "tickettype": true,
	"priority": true, "basic_priority": true, "group": true, "assignee": true,
}

// isCustom tells whether the account made the field. Zendesk keeps fields of ordinary types for itself too, under keys
// that begin with standard::.
func isCustom(f *zendeskapi.TicketField) bool {
	return !systemTypes[f.Type] && !strings.HasPrefix(f.Key, "standard::")
}

// fold makes texts equal that people take for the same: case, white space and composition do not count.
func fold(text string) string {
	return norm.NFC.String(cases.Fold().String(strings.Join(strings.Fields(text), " ")))
}

// label is what the comment calls the entry.
func (e *entry) label() string {
	if e.field != nil && e.field.Title != "" && fold(e.field.Title) != fold(e.key) {
		return e.field.Title + " (" + e.key + ")"
	}
	return e.key
}

// line is the entry as the comment shows it.
func (e *entry) line() dataLine {
	value := e.value
	if e.secret {
		value = "(not shown: the field is for card numbers)"
	}
	return newDataLine(e.label(), value)
}
