// Package recordset turns the records of a Zendesk search into columns and scenario variables.
//
// It hides the shapes of Zendesk's JSON. A record is one raw JSON object, as Zendesk sent it; its columns are strings
// under names that scenario authors can guess:
//
//	{"id": 35436, "via": {"channel": "voice"}, "tags": ["vip", "de"], "custom_fields": [{"id": 360001, "value": null}]}
//
//	id = 35436    via.channel = voice    tags = vip,de    custom_fields.360001 =
//
// Numbers never go through a float: an id is exact to its last digit. Nothing that Zendesk sends panics: what is not one
// valid JSON object is an error that says no more of it than the character where it breaks. Records are never modified.
package recordset

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
)

// Type is what a record is.
type Type int

// Types of records. Other is a type that this package does not know, or none.
const (
	Other Type = iota
	Ticket
	User
	Organization
	Group
)

var types = map[string]Type{"ticket": Ticket, "user": User, "organization": Organization, "group": Group}

// Identify tells what a record is by its result_type, which search results have, and its id in decimal digits, exactly
// as Zendesk wrote it; empty if it has none. Of what is no record it returns Other and no id.
func Identify(record json.RawMessage) (kind Type, id string) {
	if check(record) != nil {
		return Other, ""
	}
	var writtenType, writtenID []byte
	for name, value := range membersIn(record) {
		switch {
		case isName(name, "result_type"):
			writtenType = value
		case isName(name, "id"):
			writtenID = value
		}
	}
	var name string
	if json.Unmarshal(writtenType, &name) == nil {
		kind = types[name]
	}
	// A json.Number takes numbers and numeric strings.
	var number json.Number
	if json.Unmarshal(writtenID, &number) == nil && isDigits(number.String()) {
		id = number.String()
	}
	return kind, id
}

func isDigits(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' })
}

// CountColumn stands for the number of records.
const CountColumn = "__count__"

// Variables returns all variables of a recordset: <name>.<column> for each column of the current record, an empty one for
// each column that was ever set and that the current record lacks, and <name>.__count__, which wins over a column of that
// name. Nothing of an earlier record survives an assignment of them all.
func Variables(name string, current map[string]string, ever []string, count string) map[string]string {
	vars := make(map[string]string, len(current)+len(ever)+1)
	for _, column := range ever {
		vars[name+"."+column] = ""
	}
	for column, value := range current {
		vars[name+"."+column] = value
	}
	vars[name+"."+CountColumn] = count
	return vars
}

// Union adds a record's columns to those that were ever set; sorted, each once. It does not modify ever.
func Union(ever []string, current map[string]string) []string {
	all := slices.Grow(slices.Clone(ever), len(current))
	for column := range current {
		all = append(all, column)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

var errNotObject = errors.New("record is not a valid JSON object")
