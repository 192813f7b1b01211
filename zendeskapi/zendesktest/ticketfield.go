package zendesktest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// ticketField is a field that every ticket has, Zendesk's own or the account's.
type ticketField struct {
	URL                    string         `json:"url"`
	ID                     int64          `json:"id"`
	Type                   string         `json:"type"`
	Title                  string         `json:"title"`
	RawTitle               string         `json:"raw_title"`
	Key                    *string        `json:"key"`
	Description            string         `json:"description"`
	RawDescription         string         `json:"raw_description"`
	Position               int            `json:"position"`
	Active                 bool           `json:"active"`
	Required               bool           `json:"required"`
	CollapsedForAgents     bool           `json:"collapsed_for_agents"`
	RegexpForValidation    *string        `json:"regexp_for_validation"`
	TitleInPortal          string         `json:"title_in_portal"`
	RawTitleInPortal       string         `json:"raw_title_in_portal"`
	VisibleInPortal        bool           `json:"visible_in_portal"`
	EditableInPortal       bool           `json:"editable_in_portal"`
	RequiredInPortal       bool           `json:"required_in_portal"`
	AgentCanEdit           bool           `json:"agent_can_edit"`
	Tag                    *string        `json:"tag"`
	CreatedAt              time.Time      `json:"created_at"`
	UpdatedAt              time.Time      `json:"updated_at"`
	Removable              bool           `json:"removable"`
	AgentDescription       *string        `json:"agent_description"`
	CustomFieldOptions     []fieldOption  `json:"custom_field_options,omitempty"`
	SystemFieldOptions     []systemOption `json:"system_field_options,omitempty"`
	SubTypeID              *int           `json:"sub_type_id,omitempty"`
	CustomStatuses         []customStatus `json:"custom_statuses,omitempty"`
	RelationshipTargetType *string        `json:"relationship_target_type,omitempty"`
	RelationshipFilter     *object        `json:"relationship_filter,omitempty"`

	pattern *regexp.Regexp // of RegexpForValidation
}

// fieldOption is one choice of a tagger or multiselect field. Value is a tag.
type fieldOption struct {
	ID      int64  `json:"id"`
	Name    string `json:"name"`
	RawName string `json:"raw_name"`
	Value   string `json:"value"`
	Default bool   `json:"default"`
}

// systemOption is one choice of a system field.
type systemOption struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// customStatus is one status with its category.
type customStatus struct {
	URL                string    `json:"url"`
	ID                 int64     `json:"id"`
	StatusCategory     string    `json:"status_category"`
	AgentLabel         string    `json:"agent_label"`
	EndUserLabel       string    `json:"end_user_label"`
	Description        string    `json:"description"`
	EndUserDescription string    `json:"end_user_description"`
	Active             bool      `json:"active"`
	Default            bool      `json:"default"`
	CreatedAt          time.Time `json:"created_at"`
	UpdatedAt          time.Time `json:"updated_at"`
}

// fieldValue is the value of a custom field on a ticket: null, a string, a
// boolean (checkbox) or strings (multiselect).
type fieldValue struct {
	ID    int64 `json:"id"`
	Value any   `json:"value"`
}

func (f *ticketField) show(origin string) ticketField {
	shown := *f
	shown.URL = fmt.Sprintf("%s/api/v2/ticket_fields/%d.json", origin, f.ID)
	shown.CustomStatuses = slices.Clone(f.CustomStatuses)
	for i, s := range f.CustomStatuses {
		shown.CustomStatuses[i].URL = fmt.Sprintf("%s/api/v2/custom_statuses/%d.json", origin, s.ID)
	}
	return shown
}

// custom tells whether the account made the field; only these have values on
// tickets under custom_fields.
func (f *ticketField) custom() bool { return f.Key != nil }

// listTicketFields is GET /api/v2/ticket_fields.
func (z *Zendesk) listTicketFields(c *call) *reply {
	return list(c, "ticket_fields", z.fields, func(f *ticketField) int64 { return f.ID },
		func(f *ticketField) any { return f.show(c.origin) })
}

// showTicketField is GET /api/v2/ticket_fields/{id}.
func (z *Zendesk) showTicketField(c *call) *reply {
	id, refused := c.id("id")
	if refused != nil {
		return refused
	}
	f, found := z.field(id)
	if !found {
		return recordNotFound()
	}
	return answer(http.StatusOK, object{"ticket_field": f.show(c.origin)})
}

func (z *Zendesk) field(id int64) (*ticketField, bool) {
	i := slices.IndexFunc(z.fields, func(f *ticketField) bool { return f.ID == id })
	if i < 0 {
		return nil, false
	}
	return z.fields[i], true
}

// emptyValues are the custom fields of a new ticket.
func (z *Zendesk) emptyValues() []fieldValue {
	values := []fieldValue{}
	for _, f := range z.fields {
		if f.custom() && f.Active {
			values = append(values, fieldValue{f.ID, f.empty()})
		}
	}
	return values
}

// empty is what the field holds before anything was written to it.
func (f *ticketField) empty() any {
	if f.Type == "checkbox" {
		return false
	}
	return nil
}

var (
	integers = regexp.MustCompile(`^[-+]?\d+$`)
	decimals = regexp.MustCompile(`^[-+]?[0-9]*[.,]?[0-9]+$`)
	cards    = regexp.MustCompile(`^[X*\d][X*\d -]{6,}\d{4}$`)
)

// maxText is the longest text a field holds, in bytes.
const maxText = 64 << 10

// read turns what a request gives into what the ticket holds. The second
// result is false when the field does not take it.
func (f *ticketField) read(raw json.RawMessage, z *Zendesk) (any, bool) {
	if string(raw) == "null" || string(raw) == `""` {
		return f.empty(), true
	}
	switch f.Type {
	case "checkbox":
		var on bool
		if into(&on)(raw) {
			return on, true
		}
		var text string
		if !into(&text)(raw) {
			return nil, false
		}
		on, err := strconv.ParseBool(text)
		return on, err == nil
	case "multiselect":
		var options []string
		if !into(&options)(raw) {
			return nil, false
		}
		for _, o := range options {
			if !f.offers(o) {
				return nil, false
			}
		}
		return options, true
	}
	var text string
	if !into(&text)(raw) || len(text) > maxText {
		return nil, false
	}
	switch f.Type {
	case "tagger":
		return text, f.offers(text)
	case "date":
		_, err := time.Parse(time.DateOnly, text)
		return text, err == nil
	case "integer":
		return text, integers.MatchString(text)
	case "decimal":
		return text, decimals.MatchString(text)
	case "regexp":
		return text, f.pattern.MatchString(text)
	case "partialcreditcard":
		return text, cards.MatchString(text)
	case "lookup":
		id, err := strconv.ParseInt(text, 10, 64)
		return text, err == nil && z.users.has(id)
	}
	return text, true
}

func (f *ticketField) offers(value string) bool {
	return slices.ContainsFunc(f.CustomFieldOptions, func(o fieldOption) bool { return o.Value == value })
}

// tags are those that a value of the field puts on the ticket.
func (f *ticketField) tags(value any) []string {
	switch v := value.(type) {
	case string:
		if f.Type == "tagger" {
			return []string{v}
		}
	case []string:
		return v
	case bool:
		if v && f.Tag != nil {
			return []string{*f.Tag}
		}
	}
	return nil
}

// property is how search sees a value of the field.
func (f *ticketField) property(value any) property {
	text, _ := value.(string)
	switch f.Type {
	case "text", "textarea":
		return textOf(text)
	case "integer", "decimal":
		return number(text)
	case "date":
		day, err := time.Parse(time.DateOnly, text)
		if err != nil {
			return moment{}
		}
		return moment(day)
	case "multiselect":
		options, _ := value.([]string)
		return exactly(options...)
	case "checkbox":
		return exactly(fmt.Sprint(value))
	}
	return exactly(text)
}
