package zendesktest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// user is a person: an end user, an agent or an administrator.
type user struct {
	ID                   int64          `json:"id"`
	URL                  string         `json:"url"`
	Name                 string         `json:"name"`
	Email                *string        `json:"email"`
	CreatedAt            time.Time      `json:"created_at"`
	UpdatedAt            time.Time      `json:"updated_at"`
	TimeZone             string         `json:"time_zone"`
	IANATimeZone         string         `json:"iana_time_zone"`
	Phone                *string        `json:"phone"`
	SharedPhoneNumber    *bool          `json:"shared_phone_number"`
	Photo                *attachment    `json:"photo"`
	LocaleID             int64          `json:"locale_id"`
	Locale               string         `json:"locale"`
	OrganizationID       *int64         `json:"organization_id"`
	Role                 string         `json:"role"`
	Verified             bool           `json:"verified"`
	ExternalID           *outsideID     `json:"external_id"`
	Tags                 []string       `json:"tags"`
	Alias                *string        `json:"alias"`
	Active               bool           `json:"active"`
	Shared               bool           `json:"shared"`
	SharedAgent          bool           `json:"shared_agent"`
	LastLoginAt          *time.Time     `json:"last_login_at"`
	TwoFactorAuthEnabled *bool          `json:"two_factor_auth_enabled"`
	Signature            *string        `json:"signature"`
	Details              *string        `json:"details"`
	Notes                *string        `json:"notes"`
	RoleType             *int           `json:"role_type"`
	CustomRoleID         *int64         `json:"custom_role_id"`
	Moderator            bool           `json:"moderator"`
	TicketRestriction    *string        `json:"ticket_restriction"`
	OnlyPrivateComments  bool           `json:"only_private_comments"`
	RestrictedAgent      bool           `json:"restricted_agent"`
	Suspended            bool           `json:"suspended"`
	ChatOnly             bool           `json:"chat_only"`
	DefaultGroupID       *int64         `json:"default_group_id"`
	ReportCSV            bool           `json:"report_csv"`
	UserFields           map[string]any `json:"user_fields"`

	identities []identity
	password   string
	noTalk     bool // an agent without the licence for screen pops
}

// attachment is a file, here always a photo.
type attachment struct {
	URL              string       `json:"url"`
	ID               int64        `json:"id"`
	FileName         string       `json:"file_name"`
	ContentURL       string       `json:"content_url"`
	MappedContentURL string       `json:"mapped_content_url"`
	ContentType      string       `json:"content_type"`
	Size             int64        `json:"size"`
	Width            int          `json:"width"`
	Height           int          `json:"height"`
	Inline           bool         `json:"inline"`
	Deleted          bool         `json:"deleted"`
	Thumbnails       []attachment `json:"thumbnails,omitempty"`
}

// identity is one way a person is known: an e-mail address or a phone number.
type identity struct {
	URL                string    `json:"url"`
	ID                 int64     `json:"id"`
	UserID             int64     `json:"user_id"`
	Type               string    `json:"type"`
	Value              string    `json:"value"`
	Verified           bool      `json:"verified"`
	Primary            bool      `json:"primary"`
	CreatedAt          time.Time `json:"created_at"`
	UpdatedAt          time.Time `json:"updated_at"`
	UndeliverableCount *int      `json:"undeliverable_count,omitempty"`
	DeliverableState   *string   `json:"deliverable_state,omitempty"`
}

// outsideID is the id of a person in another system. Some of those that are
// numbers are told as numbers.
type outsideID struct {
	value  string
	number bool
}

func (o *outsideID) text() string {
	if o == nil {
		return ""
	}
	return o.value
}

func (o *outsideID) MarshalJSON() ([]byte, error) {
	if o.number {
		return []byte(o.value), nil
	}
	return json.Marshal(o.value)
}

// UnmarshalJSON reads what a request gives: from then on it is a text.
func (o *outsideID) UnmarshalJSON(raw []byte) error { return json.Unmarshal(raw, &o.value) }

// userResult is a user among the results of a search.
type userResult struct {
	user
	ResultType string `json:"result_type"`
}

// The time zone of the account, as Zendesk and as the tz database call it.
const (
	timeZone     = "Eastern Time (US & Canada)"
	ianaTimeZone = "America/New_York"
)

// userFields are those that people have in every account, and oddUserFields
// those that hold numbers where [Config.OddPeople] are.
var (
	userFields = []profileField{
		{key: "crm_id", kind: "text"}, {key: "plan", kind: "dropdown", options: []string{"basic", "business", "enterprise"}},
		{key: "vip", kind: "checkbox"},
	}
	oddUserFields = []profileField{{key: MobileField, kind: "text"}, {key: OtherPhoneField, kind: "text"}}
)

// show fills in what depends on where the account is reached.
func (u user) show(origin string) user {
	u.URL = fmt.Sprintf("%s/api/v2/users/%d.json", origin, u.ID)
	if u.Photo != nil {
		photo := u.Photo.show(origin)
		photo.Thumbnails = []attachment{u.Photo.Thumbnails[0].show(origin)}
		u.Photo = &photo
	}
	return u
}

func (a attachment) show(origin string) attachment {
	a.URL = fmt.Sprintf("%s/api/v2/attachments/%d.json", origin, a.ID)
	a.ContentURL = fmt.Sprintf("%s/system/photos/%d/%s", origin, a.ID, a.FileName)
	a.MappedContentURL = a.ContentURL
	return a
}

func (u user) values(kind string) []string {
	var values []string
	for _, i := range u.identities {
		if i.Type == kind {
			values = append(values, i.Value)
		}
	}
	return values
}

func (u user) emails() []string { return u.values("email") }

// phones are all numbers of a person, the one on the profile first.
func (u user) phones() []string {
	numbers := u.values("phone_number")
	if u.Phone != nil && !slices.Contains(numbers, *u.Phone) {
		numbers = append([]string{*u.Phone}, numbers...)
	}
	return numbers
}

func (u user) index() *document {
	numbers := phonesOf(u.phones()...)
	text := append([]string{u.Name, deref(u.Alias), deref(u.Notes), deref(u.Details), u.ExternalID.text()}, u.emails()...)
	text = append(text, u.Tags...)
	text = append(text, numbers...)
	text = append(text, numbersIn(deref(u.Notes))...)
	text = append(text, numbersIn(deref(u.Details))...)
	d := &document{
		kind: "user", id: u.ID, created: u.CreatedAt, updated: u.UpdatedAt,
		properties: map[string]property{
			"name":         textOf(u.Name),
			"email":        exactly(u.emails()...),
			"phone":        numbers,
			"role":         exactly(u.Role),
			"notes":        textOf(deref(u.Notes)),
			"details":      textOf(deref(u.Details)),
			"external_id":  exactly(u.ExternalID.text()),
			"tags":         exactly(u.Tags...),
			"organization": referTo("organization", u.OrganizationID),
			"group":        referTo("group", u.DefaultGroupID),
			"suspended":    exactly(strconv.FormatBool(u.Suspended)),
			"verified":     exactly(strconv.FormatBool(u.Verified)),
		},
	}
	for key, value := range u.UserFields {
		s := ""
		if value != nil {
			s = fmt.Sprint(value)
		}
		d.properties[key] = profiled{exactly(s), textOf(s)}
		text = append(text, s)
		text = append(text, numbersIn(s)...)
	}
	d.text = textOf(text...)
	d.common()
	return d
}

// common adds the properties that records of all kinds have.
func (d *document) common() {
	d.properties["id"] = exactly(strconv.FormatInt(d.id, 10))
	d.properties["created"], d.properties["created_at"] = moment(d.created), moment(d.created)
	d.properties["updated"], d.properties["updated_at"] = moment(d.updated), moment(d.updated)
}

func (z *Zendesk) putUser(u user, now time.Time) {
	z.users.put(u.ID, u, u.UpdatedAt, now.Add(-z.config.IndexLag), u.index)
}

// userByEmail finds a person by any address, without regard to case.
func (z *Zendesk) userByEmail(email string) (user, bool) {
	for u := range z.users.all() {
		if slices.ContainsFunc(u.emails(), func(e string) bool { return strings.EqualFold(e, email) }) {
			return u, true
		}
	}
	return user{}, false
}

// userByLine finds the person whose direct line a number is: of the same
// digits, so that one written in another way may be somebody else's.
func (z *Zendesk) userByLine(number string) (user, bool) {
	line := digits(number)
	for u := range z.users.all() {
		if line != "" && slices.ContainsFunc(u.values("phone_number"), func(n string) bool { return digits(n) == line }) {
			return u, true
		}
	}
	return user{}, false
}

func (z *Zendesk) userByExternalID(id string) (user, bool) {
	for u := range z.users.all() {
		if id != "" && strings.EqualFold(u.ExternalID.text(), id) {
			return u, true
		}
	}
	return user{}, false
}

// listUsers is GET /api/v2/users, optionally of given roles.
func (z *Zendesk) listUsers(c *call) *reply {
	roles := append(c.query["role"], c.query["role[]"]...)
	var users []user
	for u := range z.users.all() {
		if len(roles) == 0 || slices.Contains(roles, u.Role) {
			users = append(users, u)
		}
	}
	return c.users(users)
}

func (c *call) users(users []user) *reply {
	return list(c, "users", users, func(u user) int64 { return u.ID }, func(u user) any { return u.show(c.origin) })
}

// searchUsers is GET /api/v2/users/search: by query, or by external_id.
func (z *Zendesk) searchUsers(c *call) *reply {
	switch {
	case c.query.Has("external_id"):
		var users []user
		if u, found := z.userByExternalID(c.query.Get("external_id")); found {
			users = append(users, u)
		}
		return c.users(users)
	case c.query.Has("query"):
		return c.users(z.matching(c, c.query.Get("query")))
	}
	return titled(http.StatusBadRequest, "Missing required parameter", "Parameter query or external_id is required")
}

// showManyUsers is GET /api/v2/users/show_many, by ids or external_ids. Those
// that nobody has are left out.
func (z *Zendesk) showManyUsers(c *call) *reply {
	users, refused := showMany(c, z.users.get, z.userByExternalID)
	if refused != nil {
		return refused
	}
	return c.users(users)
}

// showMe is GET /api/v2/users/me. Who sends no valid credentials is told, under
// status 200, that they are nobody.
func (z *Zendesk) showMe(c *call) *reply {
	u := c.caller.user
	switch {
	case !c.caller.known():
		nobody := user{
			Name: "Anonymous user", Email: new("invalid@example.com"), Role: roleEndUser,
			TimeZone: timeZone, IANATimeZone: ianaTimeZone, LocaleID: 1, Locale: "en-US",
		}.inPublic(c.origin)
		for _, key := range []string{"id", "url", "created_at", "updated_at"} {
			nobody[key] = nil
		}
		nobody["authenticity_token"] = z.random()
		return answer(http.StatusOK, object{"user": nobody})
	case u.Role == roleEndUser:
		public := u.inPublic(c.origin)
		public["authenticity_token"] = z.random()
		return answer(http.StatusOK, object{"user": public})
	}
	return answer(http.StatusOK, object{"user": struct {
		user
		AuthenticityToken string `json:"authenticity_token"`
	}{u.show(c.origin), z.random()}})
}

// inPublic is what people who are no agents see of themselves.
func (u user) inPublic(origin string) object {
	u = u.show(origin)
	return object{
		"id": u.ID, "url": fmt.Sprintf("%s/api/v2/end_users/%d.json", origin, u.ID), "name": u.Name, "email": u.Email,
		"created_at": u.CreatedAt, "updated_at": u.UpdatedAt, "time_zone": u.TimeZone, "iana_time_zone": u.IANATimeZone,
		"phone": u.Phone, "shared_phone_number": u.SharedPhoneNumber, "photo": u.Photo,
		"locale_id": u.LocaleID, "locale": u.Locale, "organization_id": u.OrganizationID, "role": u.Role,
		"verified": u.Verified,
	}
}

// user finds the person that the path names.
func (z *Zendesk) user(c *call) (user, *reply) {
	id, refused := c.id("id")
	if refused != nil {
		return user{}, refused
	}
	u, found := z.users.get(id)
	if !found {
		return user{}, recordNotFound()
	}
	return u, nil
}

// showUser is GET /api/v2/users/{id}, with the identities beside the person if
// they are to be included.
func (z *Zendesk) showUser(c *call) *reply {
	u, refused := z.user(c)
	if id, _ := c.id("id"); refused != nil {
		if r, removed := z.removed[id]; removed {
			return z.showRemoved(c, r)
		}
	}
	if refused != nil {
		return refused
	}
	shown := object{"user": u.show(c.origin)}
	if slices.Contains(strings.Split(c.query.Get("include"), ","), "identities") {
		identities := []identity{}
		for _, i := range u.identities {
			identities = append(identities, i.show(c.origin))
		}
		shown["identities"] = identities
	}
	return answer(http.StatusOK, shown)
}

// show fills in what depends on where the account is reached.
func (i identity) show(origin string) identity {
	i.URL = fmt.Sprintf("%s/api/v2/users/%d/identities/%d.json", origin, i.UserID, i.ID)
	return i
}

// listIdentities is GET /api/v2/users/{id}/identities.
func (z *Zendesk) listIdentities(c *call) *reply {
	u, refused := z.user(c)
	if refused != nil {
		return refused
	}
	return c.identities(u)
}

func (c *call) identities(u user) *reply {
	return list(c, "identities", u.identities, func(i identity) int64 { return i.ID }, func(i identity) any {
		return i.show(c.origin)
	})
}

// userRules read the fields of a person that a request may set.
func (z *Zendesk) userRules(u *user, v *verdict, now time.Time) rules {
	return rules{
		"name":                  into(&u.Name),
		"alias":                 into(&u.Alias),
		"details":               into(&u.Details),
		"notes":                 into(&u.Notes),
		"signature":             into(&u.Signature),
		"external_id":           into(&u.ExternalID),
		"locale":                into(&u.Locale),
		"locale_id":             into(&u.LocaleID),
		"time_zone":             into(&u.TimeZone),
		"suspended":             into(&u.Suspended),
		"verified":              into(&u.Verified),
		"moderator":             into(&u.Moderator),
		"only_private_comments": into(&u.OnlyPrivateComments),
		"ticket_restriction":    into(&u.TicketRestriction),
		"default_group_id":      optionalID(&u.DefaultGroupID, z.groups.has),
		"custom_role_id":        into(&u.CustomRoleID),
		"tags":                  tagsInto(&u.Tags),
		"user_fields":           v.profileInto(&u.UserFields, "user.user_fields", z.userFields),
		"phone":                 into(&u.Phone),
		"shared_phone_number":   into(&u.SharedPhoneNumber),
		"skip_verify_email":     func(json.RawMessage) bool { return true }, // no mail is sent anyway
		"identities": func(raw json.RawMessage) bool {
			var given []struct{ Type, Value string }
			if !into(&given)(raw) {
				return false
			}
			for _, i := range given {
				z.addIdentity(u, v, cmp.Or(i.Type, "identities"), i.Type, i.Value, now)
			}
			return true
		},
		"email": func(raw json.RawMessage) bool {
			var email string
			if string(raw) == "null" {
				return true // nothing to add
			}
			if !into(&email)(raw) || !isAddress(email) {
				return false
			}
			email = strings.ToLower(email)
			if u.Email == nil {
				u.Email = &email // on update Zendesk adds a second address
			}
			z.identify(u, "email", email, now)
			return true
		},
		"role": func(raw json.RawMessage) bool {
			var role string
			if !into(&role)(raw) || !slices.Contains([]string{roleEndUser, roleAgent, roleAdmin}, role) {
				return false
			}
			u.Role = role
			return true
		},
		"organization_id": optionalID(&u.OrganizationID, z.organizations.has),
	}
}

// addressForm is what Zendesk takes for an e-mail address: the end of its host
// is a word.
var addressForm = regexp.MustCompile(`^[^@\s"<>]+@(?:[\pL\pN-]+\.)+(?:\pL{2,}|xn--[a-zA-Z0-9-]+)$`)

func isAddress(email string) bool { return addressForm.MatchString(email) }

// createIdentity is POST /api/v2/users/{id}/identities: another address or
// number of a person.
func (z *Zendesk) createIdentity(c *call) *reply {
	u, refused := z.user(c)
	if refused != nil {
		return refused
	}
	fields, refused := c.wrapped("identity")
	if refused != nil {
		return refused
	}
	var kind, value string
	v := verdict{problems: problems{}}
	v.apply(rules{
		"type":     into(&kind),
		"value":    into(&value),
		"verified": func(json.RawMessage) bool { return true },
		"primary":  func(json.RawMessage) bool { return true },
	}, "identity", fields)
	i := z.addIdentity(&u, &v, "value", kind, value, c.now)
	if refused := v.problems.refusal(); refused != nil {
		return refused
	}
	u.UpdatedAt = c.now
	z.putUser(u, c.now)
	r := answer(http.StatusCreated, object{"identity": i})
	warn(r, v.dropped)
	return r
}

// identityAt finds the identity that the path names, among a person's own.
func (z *Zendesk) identityAt(c *call) (user, int, *reply) {
	u, refused := z.user(c)
	if refused != nil {
		return u, 0, refused
	}
	id, refused := c.id("identity_id")
	if refused != nil {
		return u, 0, refused
	}
	i := slices.IndexFunc(u.identities, func(i identity) bool { return i.ID == id })
	if i < 0 {
		return u, 0, recordNotFound()
	}
	u.identities, u.UpdatedAt = slices.Clone(u.identities), c.now
	return u, i, nil
}

// makeIdentityPrimary is PUT /api/v2/users/{id}/identities/{identity_id}/make_primary:
// the address or number is the one on the profile from then on.
func (z *Zendesk) makeIdentityPrimary(c *call) *reply {
	u, i, refused := z.identityAt(c)
	if refused != nil {
		return refused
	}
	kind, value := u.identities[i].Type, u.identities[i].Value
	for j := range u.identities {
		if u.identities[j].Type == kind {
			u.identities[j].Primary = j == i
		}
	}
	if kind == "email" {
		u.Email = &value
	} else {
		u.Phone, u.SharedPhoneNumber = &value, new(false)
	}
	z.putUser(u, c.now)
	return c.identities(u)
}

// verifyIdentity is PUT /api/v2/users/{id}/identities/{identity_id}/verify.
func (z *Zendesk) verifyIdentity(c *call) *reply {
	u, i, refused := z.identityAt(c)
	if refused != nil {
		return refused
	}
	u.identities[i].Verified, u.identities[i].UpdatedAt = true, c.now
	u.Verified = true
	z.putUser(u, c.now)
	return answer(http.StatusOK, object{"identity": u.identities[i]})
}

// deleteIdentity is DELETE /api/v2/users/{id}/identities/{identity_id}.
func (z *Zendesk) deleteIdentity(c *call) *reply {
	u, i, refused := z.identityAt(c)
	if refused != nil {
		return refused
	}
	gone := u.identities[i]
	u.identities = slices.Delete(u.identities, i, i+1)
	switch {
	case gone.Type == "email" && deref(u.Email) == gone.Value:
		u.Email = nil
	case gone.Type == "phone_number" && deref(u.Phone) == gone.Value:
		u.Phone, u.SharedPhoneNumber = nil, nil
	}
	z.putUser(u, c.now)
	return noContent()
}

// addIdentity adds an address or a direct line that a request gives, unless it
// is somebody else's. What is wrong with it is told of the part.
func (z *Zendesk) addIdentity(u *user, v *verdict, part, kind, value string, now time.Time) identity {
	var other user
	taken := false
	label := "Email"
	switch {
	case kind == "email" && isAddress(value):
		value = strings.ToLower(value)
		other, taken = z.userByEmail(value)
	case kind == "phone_number" && digits(value) != "":
		label = "Phone number"
		other, taken = z.userByLine(value)
	default:
		v.problems.add(part, "Value: is not properly formatted", "InvalidFormat")
		return identity{}
	}
	if taken && other.ID != u.ID {
		v.problems.add(part, fmt.Sprintf("%s: %s is already being used by another user", label, value), "DuplicateValue")
		return identity{}
	}
	return z.identify(u, kind, value, now)
}

// setPhone decides what a number that a request put on the profile is: the
// person's direct line, unless it is somebody else's or is said to be shared.
func (z *Zendesk) setPhone(u *user, shared bool, now time.Time) {
	if deref(u.Phone) == "" {
		u.Phone, u.SharedPhoneNumber = nil, nil
		return
	}
	other, taken := z.userByLine(*u.Phone)
	shared = shared || taken && other.ID != u.ID
	u.SharedPhoneNumber = &shared
	if shared {
		u.identities = slices.DeleteFunc(slices.Clone(u.identities), func(i identity) bool {
			return i.Type == "phone_number" && i.Value == *u.Phone
		})
		return
	}
	if digits(*u.Phone) != "" {
		z.identify(u, "phone_number", *u.Phone, now)
	}
}

// identify adds an identity to a person who has none of that value yet.
func (z *Zendesk) identify(u *user, kind, value string, now time.Time) identity {
	if i := slices.IndexFunc(u.identities, func(i identity) bool { return i.Type == kind && i.Value == value }); i >= 0 {
		return u.identities[i]
	}
	added := identity{
		ID: z.newID(), UserID: u.ID, Type: kind, Value: value, Verified: u.Verified,
		Primary:   !slices.ContainsFunc(u.identities, func(i identity) bool { return i.Type == kind }),
		CreatedAt: now, UpdatedAt: now,
	}
	if kind == "email" {
		added.UndeliverableCount, added.DeliverableState = new(0), new("deliverable")
	}
	u.identities = append(slices.Clip(u.identities), added)
	return added
}

func (z *Zendesk) newUser(now time.Time) user {
	fields := map[string]any{}
	for _, f := range z.userFields {
		fields[f.key] = nil
	}
	return user{
		ID: z.newID(), CreatedAt: now, UpdatedAt: now, Role: roleEndUser, Active: true,
		TimeZone: timeZone, IANATimeZone: ianaTimeZone,
		LocaleID: 1, Locale: "en-US", Tags: []string{}, TicketRestriction: new("requested"),
		UserFields: fields,
	}
}

// saveUser applies a request to a person, new or known.
func (z *Zendesk) saveUser(c *call, u user, fields map[string]json.RawMessage, status int) *reply {
	v := verdict{problems: problems{}}
	v.apply(z.userRules(&u, &v, c.now), "user", fields)
	if strings.TrimSpace(u.Name) == "" {
		v.problems.add("name", "Name: cannot be blank", "BlankValue")
	}
	for _, email := range u.emails() {
		if other, found := z.userByEmail(email); found && other.ID != u.ID {
			v.problems.add("email", fmt.Sprintf("Email: %s is already being used by another user", email), "DuplicateValue")
		}
	}
	if other, found := z.userByExternalID(u.ExternalID.text()); found && other.ID != u.ID {
		v.problems.add("external_id", fmt.Sprintf("External: %s has already been taken", u.ExternalID.text()), "DuplicateValue")
	}
	if refused := v.problems.refusal(); refused != nil {
		return refused
	}
	if fields["phone"] != nil || fields["shared_phone_number"] != nil {
		shared := false
		_ = into(&shared)(fields["shared_phone_number"]) // not given: not shared
		z.setPhone(&u, shared, c.now)
	}
	u.UpdatedAt = c.now
	z.putUser(u, c.now)
	r := answer(status, object{"user": u.show(c.origin)})
	warn(r, v.dropped)
	if status == http.StatusCreated {
		r.header.Set("Location", u.show(c.origin).URL)
	}
	return r
}

// createUser is POST /api/v2/users.
func (z *Zendesk) createUser(c *call) *reply {
	fields, refused := c.wrapped("user")
	if refused != nil {
		return refused
	}
	return z.saveUser(c, z.newUser(c.now), fields, http.StatusCreated)
}

// createOrUpdateUser is POST /api/v2/users/create_or_update: a person of that
// external id or e-mail address is updated, else there is a new one.
func (z *Zendesk) createOrUpdateUser(c *call) *reply {
	fields, refused := c.wrapped("user")
	if refused != nil {
		return refused
	}
	var externalID, email string
	if into(&externalID)(fields["external_id"]) && externalID != "" {
		if u, found := z.userByExternalID(externalID); found {
			return z.saveUser(c, u, fields, http.StatusOK)
		}
	}
	if into(&email)(fields["email"]) && email != "" {
		if u, found := z.userByEmail(email); found {
			return z.saveUser(c, u, fields, http.StatusOK)
		}
	}
	return z.saveUser(c, z.newUser(c.now), fields, http.StatusCreated)
}

// updateUser is PUT /api/v2/users/{id}.
func (z *Zendesk) updateUser(c *call) *reply {
	u, refused := z.user(c)
	if refused != nil {
		return refused
	}
	fields, refused := c.wrapped("user")
	if refused != nil {
		return refused
	}
	return z.saveUser(c, u, fields, http.StatusOK)
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
