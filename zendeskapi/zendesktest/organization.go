package zendesktest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// organization is a company that people belong to.
type organization struct {
	URL                string         `json:"url"`
	ID                 int64          `json:"id"`
	Name               string         `json:"name"`
	SharedTickets      bool           `json:"shared_tickets"`
	SharedComments     bool           `json:"shared_comments"`
	ExternalID         *string        `json:"external_id"`
	CreatedAt          time.Time      `json:"created_at"`
	UpdatedAt          time.Time      `json:"updated_at"`
	DomainNames        []string       `json:"domain_names"`
	Details            *string        `json:"details"`
	Notes              *string        `json:"notes"`
	GroupID            *int64         `json:"group_id"`
	Tags               []string       `json:"tags"`
	OrganizationFields map[string]any `json:"organization_fields"`
}

// organizationResult is an organization among the results of a search.
type organizationResult struct {
	organization
	ResultType string `json:"result_type"`
}

// organizationFields are the custom fields of an organization.
var organizationFields = []profileField{{key: "tier", kind: "dropdown", options: []string{"gold", "silver", "bronze"}}}

func (o organization) show(origin string) organization {
	o.URL = fmt.Sprintf("%s/api/v2/organizations/%d.json", origin, o.ID)
	return o
}

func (o organization) index() *document {
	text := append([]string{o.Name, deref(o.Details), deref(o.Notes), deref(o.ExternalID)}, o.DomainNames...)
	d := &document{
		kind: "organization", id: o.ID, created: o.CreatedAt, updated: o.UpdatedAt,
		text: textOf(append(text, o.Tags...)...),
		properties: map[string]property{
			"name":        textOf(o.Name),
			"notes":       textOf(deref(o.Notes)),
			"details":     textOf(deref(o.Details)),
			"external_id": exactly(deref(o.ExternalID)),
			"tags":        exactly(o.Tags...),
			"group":       referTo("group", o.GroupID),
		},
	}
	for key, value := range o.OrganizationFields {
		s := ""
		if value != nil {
			s = fmt.Sprint(value)
		}
		d.properties[key] = exactly(s)
	}
	d.common()
	return d
}

func (z *Zendesk) putOrganization(o organization, now time.Time) {
	z.organizations.put(o.ID, o, o.UpdatedAt, now.Add(-z.config.IndexLag), o.index)
}

// organizationWhere finds the first organization that meets a condition.
func (z *Zendesk) organizationWhere(meets func(organization) bool) (organization, bool) {
	for o := range z.organizations.all() {
		if meets(o) {
			return o, true
		}
	}
	return organization{}, false
}

func (o organization) named(name string) bool { return strings.EqualFold(o.Name, name) }

func (o organization) known(externalID string) bool {
	return externalID != "" && strings.EqualFold(deref(o.ExternalID), externalID)
}

func (c *call) organizations(all []organization) *reply {
	return list(c, "organizations", all, func(o organization) int64 { return o.ID },
		func(o organization) any { return o.show(c.origin) })
}

// listOrganizations is GET /api/v2/organizations.
func (z *Zendesk) listOrganizations(c *call) *reply {
	var all []organization
	for o := range z.organizations.all() {
		all = append(all, o)
	}
	return c.organizations(all)
}

// searchOrganizations is GET /api/v2/organizations/search, by exact name or
// external_id.
func (z *Zendesk) searchOrganizations(c *call) *reply {
	name, externalID := c.query.Get("name"), c.query.Get("external_id")
	if name == "" && externalID == "" {
		return titled(http.StatusBadRequest, "Missing required parameter", "Parameter name or external_id is required")
	}
	var found []organization
	if o, ok := z.organizationWhere(func(o organization) bool {
		return o.known(externalID) || externalID == "" && o.named(name)
	}); ok {
		found = append(found, o)
	}
	return c.organizations(found)
}

// showManyOrganizations is GET /api/v2/organizations/show_many, by ids or
// external_ids.
func (z *Zendesk) showManyOrganizations(c *call) *reply {
	all, refused := showMany(c, z.organizations.get, func(id string) (organization, bool) {
		return z.organizationWhere(func(o organization) bool { return o.known(id) })
	})
	if refused != nil {
		return refused
	}
	return c.organizations(all)
}

// organization finds the one that the path names.
func (z *Zendesk) organization(c *call) (organization, *reply) {
	id, refused := c.id("id")
	if refused != nil {
		return organization{}, refused
	}
	o, found := z.organizations.get(id)
	if !found {
		return organization{}, recordNotFound()
	}
	return o, nil
}

// showOrganization is GET /api/v2/organizations/{id}.
func (z *Zendesk) showOrganization(c *call) *reply {
	o, refused := z.organization(c)
	if refused != nil {
		return refused
	}
	return answer(http.StatusOK, object{"organization": o.show(c.origin)})
}

func (z *Zendesk) newOrganization(now time.Time) organization {
	fields := map[string]any{}
	for _, f := range organizationFields {
		fields[f.key] = nil
	}
	return organization{
		ID: z.newID(), CreatedAt: now, UpdatedAt: now,
		DomainNames: []string{}, Tags: []string{}, OrganizationFields: fields,
	}
}

// saveOrganization applies a request to an organization, new or known.
func (z *Zendesk) saveOrganization(c *call, o organization, fields map[string]json.RawMessage, status int) *reply {
	v := verdict{problems: problems{}}
	v.apply(rules{
		"name":                into(&o.Name),
		"external_id":         into(&o.ExternalID),
		"domain_names":        into(&o.DomainNames),
		"details":             into(&o.Details),
		"notes":               into(&o.Notes),
		"group_id":            optionalID(&o.GroupID, z.groups.has),
		"shared_tickets":      into(&o.SharedTickets),
		"shared_comments":     into(&o.SharedComments),
		"tags":                tagsInto(&o.Tags),
		"organization_fields": v.profileInto(&o.OrganizationFields, "organization.organization_fields", organizationFields),
	}, "organization", fields)
	if strings.TrimSpace(o.Name) == "" {
		v.problems.add("name", "Name: cannot be blank", "BlankValue")
	}
	if other, found := z.organizationWhere(func(x organization) bool { return x.named(o.Name) && x.ID != o.ID }); found {
		v.problems.add("name", "Name: "+other.Name+" has already been taken", "DuplicateValue")
	}
	if _, found := z.organizationWhere(func(x organization) bool { return x.known(deref(o.ExternalID)) && x.ID != o.ID }); found {
		v.problems.add("external_id", "External: "+*o.ExternalID+" has already been taken", "DuplicateValue")
	}
	if refused := v.problems.refusal(); refused != nil {
		return refused
	}
	if o.DomainNames == nil {
		o.DomainNames = []string{}
	}
	o.UpdatedAt = c.now
	z.putOrganization(o, c.now)
	r := answer(status, object{"organization": o.show(c.origin)})
	warn(r, v.dropped)
	if status == http.StatusCreated {
		r.header.Set("Location", o.show(c.origin).URL)
	}
	return r
}

// createOrganization is POST /api/v2/organizations.
func (z *Zendesk) createOrganization(c *call) *reply {
	fields, refused := c.wrapped("organization")
	if refused != nil {
		return refused
	}
	return z.saveOrganization(c, z.newOrganization(c.now), fields, http.StatusCreated)
}

// createOrUpdateOrganization is POST /api/v2/organizations/create_or_update:
// one of that id, external id or name is updated, else there is a new one.
func (z *Zendesk) createOrUpdateOrganization(c *call) *reply {
	fields, refused := c.wrapped("organization")
	if refused != nil {
		return refused
	}
	var id int64
	var externalID, name string
	_ = into(&id)(fields["id"]) // each of the three may be missing
	_ = into(&externalID)(fields["external_id"])
	_ = into(&name)(fields["name"])
	delete(fields, "id")
	o, found := z.organizationWhere(func(o organization) bool {
		return o.ID == id || o.known(externalID) || name != "" && o.named(name)
	})
	if found {
		return z.saveOrganization(c, o, fields, http.StatusOK)
	}
	return z.saveOrganization(c, z.newOrganization(c.now), fields, http.StatusCreated)
}

// updateOrganization is PUT /api/v2/organizations/{id}.
func (z *Zendesk) updateOrganization(c *call) *reply {
	o, refused := z.organization(c)
	if refused != nil {
		return refused
	}
	fields, refused := c.wrapped("organization")
	if refused != nil {
		return refused
	}
	return z.saveOrganization(c, o, fields, http.StatusOK)
}
