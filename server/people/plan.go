package people

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"

	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

// Planned is a request that would be sent.
type Planned struct {
	Method    string
	Path      string
	Query     string
	Body      json.RawMessage
	Condition string // for people; empty: always
}

// Identifies tells whether anything that is sought can identify anybody.
func (s Sought) Identifies(region string) bool { return len(s.steps(region)) > 0 }

const whenNobody = "when those before find nobody"

// Plan is what Identify would send, unless somebody is remembered.
func (s Sought) Plan(account store.Account) []Planned {
	var all []Planned
	add := func(path string, query url.Values) {
		p := Planned{Method: http.MethodGet, Path: path, Query: zendeskapi.EncodeQuery(query)}
		if len(all) > 0 {
			p.Condition = whenNobody
		}
		all = append(all, p)
	}
	users := zendeskapi.PathOf("users", "search")
	for _, step := range s.steps(account.DefaultRegion) {
		switch step.by {
		case TicketID:
			add(zendeskapi.PathOf("tickets", step.value), nil)
		case ExternalID:
			add(users, externalIDQuery(step.value))
		case Email:
			add(users, url.Values{"query": {"email:" + step.value}, "per_page": {"100"}})
		case Phone:
			for _, rung := range ladder(step.number, account.PhoneFields) {
				add(zendeskapi.PathOf("search"), url.Values{"query": {rung.query}, "page": {"1"}, "per_page": {strconv.Itoa(pageSize)}})
			}
		}
	}
	return all
}

const pageSize = 100

func externalIDQuery(id string) url.Values {
	return url.Values{"external_id": {id}, "per_page": {strconv.Itoa(pageSize)}}
}

// PlanCreate is what FindOrCreate would send after that, unless somebody is found or noted.
func (s Sought) PlanCreate(account store.Account, user NewUser) []Planned {
	s.TicketID = ""
	steps := s.steps(account.DefaultRegion)
	externalID, earlier := externalIDOf(account.URL, steps, nil)
	var all []Planned
	for _, id := range earlier {
		all = append(all, Planned{Method: http.MethodGet, Path: zendeskapi.PathOf("users", "search"), Query: zendeskapi.EncodeQuery(externalIDQuery(id)), Condition: whenNobody})
	}
	for _, step := range steps {
		if step.by == Email {
			method, path, body := zendeskapi.SaveUserRequest(probeOf(step.value))
			all = append(all, Planned{Method: method, Path: path, Body: body, Condition: whenNobody})
		}
	}
	fields, err := json.Marshal(fieldsOf(steps, externalID, user))
	if err != nil {
		return all // cannot happen: it is made of texts
	}
	method, path, body := zendeskapi.SaveUserRequest(fields)
	return append(all, Planned{Method: method, Path: path, Body: body, Condition: whenNobody})
}
