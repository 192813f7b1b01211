package zendesktest

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Person is a seeded person that tests and demonstrations know by heart.
type Person struct {
	ID       int64
	Name     string
	Email    string
	Phone    string // as on the profile; empty = none
	APIToken string // for "{Email}/token:{APIToken}"; Zendesk takes any token with any person
	Password string // for the password grant; empty = none
}

// The seeded people of this account. Treat them as constants.
var (
	// Admin is the administrator and the owner of the OAuth client.
	Admin = Person{45_900_000_000_101, "Nora Becker", "nora.becker@sandbox.example", "", "sandbox-admin-api-token", "sandbox-admin-password"}
	// Agent and OtherAgent may have screens popped.
	Agent      = Person{45_900_000_000_102, "Sam Rivera", "sam.rivera@sandbox.example", "+1 513-555-0102", "sandbox-agent-api-token", "sandbox-agent-password"}
	OtherAgent = Person{45_900_000_000_103, "Priya Nair", "priya.nair@sandbox.example", "+1 513-555-0103", "sandbox-other-agent-api-token", ""}
	// UnlicensedAgent has no licence for screen pops: 403.
	UnlicensedAgent = Person{45_900_000_000_104, "Tom Okafor", "tom.okafor@sandbox.example", "", "sandbox-unlicensed-agent-api-token", ""}
	// EndUser may sign in, and reach nothing that is for agents.
	EndUser = Person{45_900_000_000_105, "Ella Fischer", "ella.fischer@example.com", "+49 30 901820", "sandbox-end-user-api-token", "sandbox-end-user-password"}
	// Caller is the customer of the demonstration, the only one whose number
	// ends in 5135557611. Of her three tickets ([CallerTickets]) two are open.
	Caller = Person{45_900_000_000_106, "Maria Lopez", "maria.lopez@example.com", "+1 513-555-7611", "", ""}
	// Precise is a person whose id no float64 holds.
	Precise = Person{9_007_199_254_740_993, "Ada Exact", "ada.exact@example.com", "+1 513-555-7688", "", ""}
)

// PhoneFormats are people whose numbers are written in the ways real data has;
// the first two share one number.
var PhoneFormats = []Person{
	{45_900_000_000_201, "Hugo Household", "hugo.household@example.com", "+1 513-555-7612", "", ""},
	{45_900_000_000_202, "Hanna Household", "hanna.household@example.com", "(513) 555 7612", "", ""},
	{45_900_000_000_203, "Dora Digits", "dora.digits@example.com", "5135557623", "", ""},
	{45_900_000_000_204, "Lena London", "lena.london@example.com", "+44 20 7946 0958", "", ""},
	{45_900_000_000_205, "Leo London", "leo.london@example.com", "+44 (0)20 7946 0011", "", ""},
	{45_900_000_000_206, "Dan Dots", "dan.dots@example.com", "513.555.7634", "", ""},
	{45_900_000_000_207, "Ines Extension", "ines.extension@example.com", "+1 (513) 555-7645 ext. 12", "", ""},
	{45_900_000_000_208, "Emil Extension", "emil.extension@example.com", "+15135557656x204", "", ""},
	{45_900_000_000_209, "Tilda Trunk", "tilda.trunk@example.com", "1-513-555-7667", "", ""},
	{45_900_000_000_210, "Zara Zeroes", "zara.zeroes@example.com", "0049 30 901822", "", ""},
	{45_900_000_000_211, "Norbert Nobody", "norbert.nobody@example.com", "", "", ""},
}

// The seeded OAuth client.
const (
	ClientID     = "zendeskblocks_sandbox"
	ClientName   = "Scenario blocks"
	ClientSecret = "sandbox-client-secret"
	RedirectURI  = "https://localhost/oauth/callback"
	// LoopbackRedirectURI is where a program on this machine receives codes.
	LoopbackRedirectURI = "http://127.0.0.1:50053/oauth/callback"
)

// PageRedirectURIs are where a page that a program on this machine serves
// receives codes.
var PageRedirectURIs = []string{"http://127.0.0.1:50090/redirect", "http://localhost:50090/redirect"}

// CallerTickets are the tickets of [Caller], oldest first: solved, open, open.
var CallerTickets = []int64{45_900_000_001_101, 45_900_000_001_102, 45_900_000_001_103}

// Ids of other seeded records.
const (
	// ClosedTicket is a ticket that can only be followed up.
	ClosedTicket int64 = 45_900_000_001_201
	// CallerOrganization is the one [Caller] belongs to.
	CallerOrganization int64 = 45_900_000_003_101

	formID  int64 = 45_900_000_004_101
	brandID int64 = 45_900_000_004_201
)

// Ids of the seeded custom fields of tickets.
const (
	DispositionField    int64 = 45_900_000_002_101 // tagger: sale, complaint, callback, wrong_number …
	ProductsField       int64 = 45_900_000_002_102 // multiselect: router, modem, tv_box, sim_card
	CallNotesField      int64 = 45_900_000_002_103 // textarea
	OrderNumberField    int64 = 45_900_000_002_104 // regexp: AB-123456
	CallbackDateField   int64 = 45_900_000_002_105 // date
	TalkTimeField       int64 = 45_900_000_002_106 // integer
	RefundField         int64 = 45_900_000_002_107 // decimal
	CallbackField       int64 = 45_900_000_002_108 // checkbox, with a tag
	CardField           int64 = 45_900_000_002_109 // partialcreditcard
	AccountManagerField int64 = 45_900_000_002_110 // lookup of a user
	CallerNumberField   int64 = 45_900_000_002_111 // text
	RecordingField      int64 = 45_900_000_002_112 // text
	QueueField          int64 = 45_900_000_002_113 // tagger
	LanguageField       int64 = 45_900_000_002_114 // tagger
	RegionField         int64 = 45_900_000_002_115 // tagger with nested names
	ScoreField          int64 = 45_900_000_002_116 // integer
	ResolvedField       int64 = 45_900_000_002_117 // checkbox, without a tag
	ReferenceField      int64 = 45_900_000_002_118 // text, of the same title as the next
	OtherReferenceField int64 = 45_900_000_002_119 // text
	LegacyField         int64 = 45_900_000_002_120 // text, not active: it takes no value
)

// How much is seeded beside the records above.
const (
	seededPeople  = 240
	seededTickets = 1_250
)

// seeding is the work of filling one account.
type seeding struct {
	z             *Zendesk
	now           time.Time
	groups        []int64
	organizations []int64
	agents        []int64
	people        []user
}

// seed fills the account. All of it follows from constants and the clock.
func (z *Zendesk) seed() {
	s := &seeding{z: z, now: z.now()}
	z.lastID = 46_000_000_000_000
	s.seedGroups()
	s.seedOrganizations()
	s.seedAgents()
	s.seedPeople()
	s.seedFields()
	s.seedTickets()
	z.clients[ClientID] = oauthClient{
		id: z.newID(), name: ClientName, secret: ClientSecret, owner: Admin.ID,
		redirectURIs: append([]string{RedirectURI, LoopbackRedirectURI}, PageRedirectURIs...),
	}
	if z.config.OddPeople {
		s.seedOddPeople() // last: nobody else's id depends on them
	}
}

// ago is a moment that many hours before the account was made.
func (s *seeding) ago(hours int) time.Time { return s.now.Add(-time.Duration(hours) * time.Hour) }

func (s *seeding) seedGroups() {
	for i, name := range []string{"Support", "Billing", "Field Service", "Sales", "Complaints"} {
		at := s.ago(20_000)
		g := group{
			ID: s.z.newID(), Name: name, IsPublic: true, Description: name + " team", Default: i == 0,
			CreatedAt: at, UpdatedAt: at,
		}
		s.groups = append(s.groups, g.ID)
		s.z.groups.put(g.ID, g, at, at, g.index)
	}
}

func (s *seeding) seedOrganizations() {
	names := []string{
		"Harbor Bakery", "Northwind Traders", "Alpine Outfitters", "Blue Ridge Clinics", "Cedar & Sons",
		"Delta Freight", "Evergreen Energy", "Foxglove Florists", "Granite Insurance", "Hilltop School District",
		"Ironwood Tools", "Juniper Hotels", "Kestrel Airways", "Lakeside Dental", "Mühlen Bäckerei GmbH",
		"Nimbus Telecom", "Orchard Foods", "Pioneer Realty", "Quarry Stone", "Riverbend Credit Union",
		"Société Lumière", "Tidewater Shipping", "Umbra Security", "Vista Cinemas",
	}
	for i, name := range names {
		o := s.z.newOrganization(s.ago(18_000 - i*97))
		o.Name = name
		if i == 0 {
			o.ID, o.ExternalID = CallerOrganization, new("crm-org-1000")
			o.Notes = new("Delivers to all shops before six in the morning.")
		} else if i%2 == 0 {
			o.ExternalID = new(fmt.Sprintf("crm-org-%d", 1000+i))
		}
		o.DomainNames = []string{strings.Join(words(strings.Trim(name, "&")), "") + ".example"}
		o.Tags = tagSet([]string{[]string{"gold", "silver", "bronze"}[i%3]})
		o.OrganizationFields["tier"] = []string{"gold", "silver", "bronze"}[i%3]
		if i%4 == 0 {
			o.GroupID = new(s.groups[i%len(s.groups)])
		}
		s.organizations = append(s.organizations, o.ID)
		s.z.putOrganization(o, s.now)
	}
}

// person makes the user that a Person is.
func (s *seeding) person(p Person, role string, created time.Time) user {
	u := s.z.newUser(created)
	u.ID, u.Name, u.Role, u.Verified, u.password = p.ID, p.Name, role, true, p.Password
	if p.Email != "" {
		u.Email = new(p.Email)
		s.z.identify(&u, "email", p.Email, created)
	}
	if p.Phone != "" {
		u.Phone, u.SharedPhoneNumber = new(p.Phone), new(false)
		s.z.identify(&u, "phone_number", p.Phone, created)
	}
	if role != roleEndUser {
		u.TicketRestriction, u.DefaultGroupID = nil, new(s.groups[0])
		u.TwoFactorAuthEnabled, u.LastLoginAt = new(false), new(s.ago(5))
		u.Signature = new("Kind regards, " + p.Name)
		u.Moderator = role == roleAdmin
		if role == roleAdmin {
			u.RoleType = new(4)
		}
	}
	if p.APIToken != "" {
		s.z.apiTokens[p.APIToken] = &apiToken{usedAt: s.now}
	}
	return u
}

func (s *seeding) seedAgents() {
	put := func(u user) {
		s.agents = append(s.agents, u.ID)
		s.z.putUser(u, s.now)
	}
	put(s.person(Admin, roleAdmin, s.ago(20_000)))
	put(s.person(Agent, roleAgent, s.ago(19_000)))
	put(s.person(OtherAgent, roleAgent, s.ago(18_000)))
	unlicensed := s.person(UnlicensedAgent, roleAgent, s.ago(17_000))
	unlicensed.noTalk = true
	put(unlicensed)
	for i, name := range []string{"Ana Petrova", "Ben Carter", "Chloé Martin", "Dmitri Sokolov"} {
		u := s.person(Person{ID: s.z.newID(), Name: name, Email: address(name, "sandbox.example")}, roleAgent, s.ago(16_000-i*500))
		u.DefaultGroupID = new(s.groups[(i+1)%len(s.groups)])
		u.RestrictedAgent, u.TicketRestriction = i == 3, nil
		put(u)
	}
}

// address is the e-mail address of a name.
func address(name, domain string) string {
	return strings.Join(words(name), ".") + "@" + domain
}

func (s *seeding) seedPeople() {
	caller := s.person(Caller, roleEndUser, s.ago(9_000))
	caller.OrganizationID, caller.ExternalID = new(CallerOrganization), &outsideID{value: "crm-2001"}
	caller.Notes = new("Prefers to be called before ten.")
	caller.Tags = tagSet([]string{"gold", "bakery"})
	caller.UserFields = map[string]any{"crm_id": "2001", "plan": "business", "vip": true}
	caller.Photo = s.photo()
	known := []user{
		caller,
		s.person(EndUser, roleEndUser, s.ago(8_000)),
		s.person(Precise, roleEndUser, s.ago(7_000)),
	}
	for i, p := range PhoneFormats {
		known = append(known, s.person(p, roleEndUser, s.ago(6_000-i*50)))
	}
	for _, u := range known {
		s.z.putUser(u, s.now)
	}

	first := []string{
		"James", "Aisha", "José", "Mei", "Oliver", "Zoë", "Łukasz", "Fatima", "Noah", "Ingrid",
		"Kofi", "Yuki", "Liam", "Renée", "Omar", "Sofía", "Björn", "Grace", "Tariq", "Anne-Marie",
	}
	last := []string{
		"Adams", "Núñez", "O'Brien", "Nakamura", "Schröder", "van der Berg", "Kowalski", "Haddad", "Smith",
		"Dubois", "Johansson", "Mensah", "Rossi", "Çelik", "Brown", "D'Angelo", "Ivanova",
	}
	plans := []any{"basic", "business", "enterprise", nil}
	areas := []string{"212", "303", "415", "513", "617", "702"}
	for i := range seededPeople {
		name := first[i%len(first)] + " " + last[(i*7+i/20)%len(last)]
		created := s.ago(17_000 - i*61)
		p := Person{ID: s.z.newID(), Name: name, Email: address(name, fmt.Sprintf("mail%d.example", i))}
		national := fmt.Sprintf("%s555%04d", areas[i%len(areas)], 1000+i*3)
		if i%6 != 5 {
			p.Phone = phoneFormat(i, national)
		}
		u := s.person(p, roleEndUser, created)
		u.Verified = i%5 != 4
		u.UserFields = map[string]any{"crm_id": fmt.Sprint(3000 + i), "plan": plans[i%len(plans)], "vip": i%11 == 0}
		if i%3 != 2 {
			u.OrganizationID = new(s.organizations[i%len(s.organizations)])
		}
		if i%4 == 0 {
			u.ExternalID = &outsideID{value: fmt.Sprintf("crm-%d", 3000+i)}
		}
		if i%6 == 1 {
			s.z.identify(&u, "phone_number", fmt.Sprintf("+44 7700 %06d", 900_000+i), created)
		}
		switch i % 40 {
		case 13: // known by telephone alone
			u.Email, u.identities = nil, slices.DeleteFunc(slices.Clone(u.identities), func(d identity) bool { return d.Type == "email" })
			u.Verified = false
		case 17:
			u.Suspended = true
		}
		u.Tags = tagSet([]string{[]string{"newsletter", "gold", "silver", "trial"}[i%4]})
		u.UpdatedAt = created.Add(time.Duration(i%90) * time.Hour)
		s.people = append(s.people, u)
		s.z.putUser(u, s.now)
	}
}

// phoneFormat writes a North American number in one of the ways people do.
func phoneFormat(i int, n string) string {
	a, b, c := n[:3], n[3:6], n[6:]
	return []string{
		"+1 " + a + "-" + b + "-" + c,
		"(" + a + ") " + b + " " + c,
		n,
		"+1" + n,
		a + "." + b + "." + c,
		"1-" + a + "-" + b + "-" + c,
		"+1 (" + a + ") " + b + "-" + c + " ext. 7",
	}[i%7]
}

func (s *seeding) photo() *attachment {
	thumb := attachment{ID: s.z.newID(), FileName: "profile_thumb.png", ContentType: "image/png", Size: 784, Width: 32, Height: 32}
	return &attachment{
		ID: s.z.newID(), FileName: "profile.png", ContentType: "image/png", Size: 1979, Width: 80, Height: 80,
		Thumbnails: []attachment{thumb},
	}
}

func (s *seeding) seedFields() {
	at := s.ago(20_000)
	add := func(f *ticketField) *ticketField {
		f.RawTitle, f.TitleInPortal, f.RawTitleInPortal = f.Title, f.Title, f.Title
		f.RawDescription = f.Description
		f.Position, f.AgentCanEdit, f.CreatedAt, f.UpdatedAt = len(s.z.fields), true, at, at
		s.z.fields = append(s.z.fields, f)
		return f
	}
	system := func(kind, title string, visible bool, options ...systemOption) *ticketField {
		return add(&ticketField{
			ID: s.z.newID(), Type: kind, Title: title, Description: "Request " + strings.ToLower(title), Active: true,
			VisibleInPortal: visible, EditableInPortal: visible, RequiredInPortal: visible, SystemFieldOptions: options,
		})
	}
	system("subject", "Subject", true)
	system("description", "Description", true)
	status := system("status", "Status", false, systemOptions("new", "open", "pending", "hold", "solved")...)
	status.SubTypeID = new(1)
	kind := system("tickettype", "Type", false, systemOptions("question", "incident", "problem", "task")...)
	kind.Removable = true
	priority := system("priority", "Priority", false, systemOptions("low", "normal", "high", "urgent")...)
	priority.SubTypeID, priority.Removable = new(0), true
	system("group", "Group", false)
	system("assignee", "Assignee", false).Required = true
	custom := system("custom_status", "Ticket status", false)
	for i, category := range statuses[:5] {
		label := title(category)
		custom.CustomStatuses = append(custom.CustomStatuses, customStatus{
			ID: 45_900_000_005_101 + int64(i), StatusCategory: category, AgentLabel: label, EndUserLabel: label,
			Description: "Tickets that are " + category, Active: true, Default: true, CreatedAt: at, UpdatedAt: at,
		})
	}

	account := func(id int64, kind, name string, options ...string) *ticketField {
		f := &ticketField{
			ID: id, Type: kind, Title: name, Key: new(fmt.Sprintf("custom_field_%d", id)), Description: name + " of the call",
			Active: true, Removable: true, AgentDescription: new("Filled by the contact centre"),
		}
		for _, o := range options {
			value := strings.Join(words(o), "_")
			f.CustomFieldOptions = append(f.CustomFieldOptions, fieldOption{ID: s.z.newID(), Name: o, RawName: o, Value: value})
		}
		return add(f)
	}
	validated := func(f *ticketField, pattern string) {
		f.RegexpForValidation, f.pattern = &pattern, regexp.MustCompile(pattern)
	}
	account(DispositionField, "tagger", "Disposition", "Sale", "Complaint", "Callback", "Wrong number", "Information given")
	account(ProductsField, "multiselect", "Products", "Router", "Modem", "TV box", "SIM card")
	account(CallNotesField, "textarea", "Call notes")
	validated(account(OrderNumberField, "regexp", "Order number"), `\A[A-Z]{2}-[0-9]{6}\z`)
	validated(account(CallbackDateField, "date", "Callback date"), `\A([0-9]{4})-(1[0-2]|0[1-9])-(3[01]|[12][0-9]|0[1-9])\z`)
	validated(account(TalkTimeField, "integer", "Talk time"), `\A[-+]?\d+\z`)
	validated(account(RefundField, "decimal", "Refund"), `\A[-+]?[0-9]*[.,]?[0-9]+\z`)
	account(CallbackField, "checkbox", "Callback requested").Tag = new("callback_requested")
	account(CardField, "partialcreditcard", "Card")
	manager := account(AccountManagerField, "lookup", "Account manager")
	manager.RelationshipTargetType, manager.RelationshipFilter = new("zen:user"), &object{}
	account(CallerNumberField, "text", "Caller number")
	account(RecordingField, "text", "Recording")
	account(QueueField, "tagger", "Queue", "Sales queue", "Service queue", "Billing queue")
	account(LanguageField, "tagger", "Language", "English", "Deutsch", "Español", "Français")
	account(RegionField, "tagger", "Region", "Europe::Germany", "Europe::Spain", "Americas::United States")
	account(ScoreField, "integer", "Score")
	account(ResolvedField, "checkbox", "Resolved on first call")
	account(ReferenceField, "text", "Reference")
	account(OtherReferenceField, "text", "Reference")
	account(LegacyField, "text", "Legacy code").Active = false
}

func systemOptions(values ...string) []systemOption {
	var options []systemOption
	for _, v := range values {
		options = append(options, systemOption{Name: title(v), Value: v})
	}
	return options
}

func title(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// customStatusID is the default custom status of a status category.
func (z *Zendesk) customStatusID(status string) int64 {
	if status == "closed" {
		status = "solved"
	}
	for _, f := range z.fields {
		for _, s := range f.CustomStatuses {
			if s.StatusCategory == status {
				return s.ID
			}
		}
	}
	return 0
}

func (z *Zendesk) statusCategory(id int64) (string, bool) {
	for _, f := range z.fields {
		for _, s := range f.CustomStatuses {
			if s.ID == id {
				return s.StatusCategory, true
			}
		}
	}
	return "", false
}

// story is what a seeded ticket is about.
type story struct {
	id        int64 // 0 = the next one
	requester user
	agent     int64 // 0 = nobody yet
	status    string
	priority  string
	kind      string
	subject   string
	said      []string // the requester's first words, then the agent's answers
	tags      []string
	created   time.Time
	step      time.Duration // between comments
	values    map[int64]any
	external  string
}

func (s *seeding) seedTickets() {
	caller, _ := s.z.users.get(Caller.ID)
	s.tell(story{
		id: CallerTickets[0], requester: caller, agent: Agent.ID, status: "solved", priority: "normal", kind: "question",
		subject: "Invoice for March shows an old address",
		said:    []string{"Our invoice still has the old address of the shop. Can you send a corrected one?", "Corrected and sent again."},
		tags:    []string{"invoice"}, created: s.ago(2_000), step: 3 * time.Hour,
		values: map[int64]any{DispositionField: "information_given", TalkTimeField: "184"},
	})
	s.tell(story{
		id: CallerTickets[1], requester: caller, agent: Agent.ID, status: "open", priority: "high", kind: "incident",
		subject: "Card terminal drops the connection",
		said:    []string{"The card terminal in the shop loses its connection several times a day.", "A technician will call back tomorrow."},
		tags:    []string{"terminal", "hardware"}, created: s.ago(70), step: 5 * time.Hour,
		values: map[int64]any{ProductsField: []string{"router"}, CallbackField: true, CallerNumberField: Caller.Phone},
	})
	s.tell(story{
		id: CallerTickets[2], requester: caller, agent: OtherAgent.ID, status: "open", priority: "normal", kind: "question",
		subject: "Second line for the new shop",
		said:    []string{"We open a second shop in May and need a line there."},
		tags:    []string{"sales"}, created: s.ago(26), step: time.Hour, external: "crm-case-77",
		values: map[int64]any{LanguageField: "english", RegionField: "americas_united_states"},
	})
	s.tell(story{
		id: ClosedTicket, requester: s.people[0], agent: Agent.ID, status: "closed", priority: "low", kind: "problem",
		subject: "Router restarts at night", said: []string{"It restarts every night at two.", "The router was replaced."},
		created: s.ago(9_000), step: 48 * time.Hour,
	})

	subjects := []string{
		"Router keeps restarting", "Question about my invoice", "Moving to a new address", "No dial tone since this morning",
		"Cancel my subscription", "Wrong amount charged", "Slow connection in the evening", "TV box shows error 401",
		"SIM card not recognised", "Please call me back", "Upgrade to the business plan", "Refund for the outage",
	}
	openings := []string{
		"Hello, since yesterday this happens every hour.", "I have tried everything in the manual.",
		"Could somebody call me about this?", "This is the second time this month.",
	}
	answers := []string{
		"Thank you for waiting. I have passed this on to our technicians.", "I called the customer back and left a message.",
		"We have credited the amount.",
	}
	kinds := []string{"question", "incident", "problem", "task", ""}
	ranks := []string{"normal", "low", "high", "urgent", ""}
	// Most tickets of a real account are done.
	states := []string{"closed", "solved", "closed", "open", "solved", "pending", "closed", "new", "closed", "hold"}
	dispositions := []string{"sale", "complaint", "callback", "wrong_number"}
	for i := range seededTickets {
		t := story{
			requester: s.people[(i*37)%len(s.people)], status: states[i%len(states)],
			priority: ranks[(i/3)%len(ranks)], kind: kinds[(i/7)%len(kinds)],
			subject: subjects[i%len(subjects)], said: []string{openings[i%len(openings)]},
			tags:    []string{[]string{"phone", "web", "chat"}[i%3]},
			created: s.ago(100 + (seededTickets-i)*12), step: time.Duration(1+i%40) * time.Hour, values: map[int64]any{},
		}
		if t.status != "new" {
			t.agent = s.agents[i%len(s.agents)]
			for j := range i % 3 {
				t.said = append(t.said, answers[(i+j)%len(answers)])
			}
			t.values[DispositionField] = dispositions[i%len(dispositions)]
			t.values[TalkTimeField] = fmt.Sprint(30 + i*17%900)
		}
		if i%5 == 0 {
			t.values[OrderNumberField] = fmt.Sprintf("ZB-%06d", 100_000+i)
			t.external = fmt.Sprintf("crm-case-%d", 1000+i)
		}
		if i%9 == 0 {
			t.values[RefundField] = fmt.Sprintf("%d.%02d", i%200, i%100)
		}
		s.tell(t)
	}
}

// tell makes a ticket with the audits that led to its state.
func (s *seeding) tell(y story) {
	z := s.z
	t := z.blankTicket(y.created)
	if y.id != 0 {
		t.ID = y.id
	}
	channel := "web"
	if slices.Contains(y.tags, "phone") {
		channel = "voice"
	}
	t.Via, t.Subject, t.RawSubject, t.Description = viaChannel(channel), y.subject, y.subject, y.said[0]
	t.RequesterID, t.SubmitterID, t.OrganizationID = y.requester.ID, y.requester.ID, y.requester.OrganizationID
	t.IsPublic, t.Tags = true, tagSet(y.tags)
	if y.kind != "" {
		t.Type = &y.kind
	}
	if y.kind == "task" {
		t.DueAt = new(y.created.Add(14 * 24 * time.Hour))
	}
	if y.priority != "" {
		t.Priority = &y.priority
	}
	if y.external != "" {
		t.ExternalID = &y.external
	}
	d := &draft{ticket: t}
	z.settle(d, y.created)
	opened := s.audit(t.ID, y.requester.ID, y.created, channel)
	opened.Events = append(opened.Events, (&draftComment{body: y.said[0]}).event(z.newID(), opened.ID, y.requester.ID, opened.TicketID, true))
	z.change(&opened, nil, &d.ticket)
	z.audits[t.ID] = []audit{opened}

	if y.agent != 0 {
		before := d.ticket
		agent, _ := z.users.get(y.agent)
		d.AssigneeID, d.GroupID, d.Status = &y.agent, agent.DefaultGroupID, "open"
		values := slices.Clone(d.CustomFields)
		for i, v := range values {
			if value, given := y.values[v.ID]; given {
				f, _ := z.field(v.ID)
				values[i].Value = value
				d.Tags = tagSet(slices.Concat(d.Tags, f.tags(value)))
			}
		}
		d.CustomFields, d.Fields = values, values
		at := y.created
		for i := range max(len(y.said)-1, 1) {
			at = at.Add(y.step)
			taken := s.audit(t.ID, y.agent, at, "web")
			if i+1 < len(y.said) {
				answered := (&draftComment{body: y.said[i+1]}).event(z.newID(), taken.ID, y.agent, taken.TicketID, i%2 == 0)
				taken.Events = append(taken.Events, answered)
			}
			if i == max(len(y.said)-1, 1)-1 {
				d.Status = y.status
			}
			z.settle(d, at)
			z.change(&taken, &before, &d.ticket)
			before = d.ticket
			z.audits[t.ID] = append(z.audits[t.ID], taken)
		}
	}
	z.putTicket(d.ticket, s.now)
}

// audit starts an audit that somebody made in a browser.
func (s *seeding) audit(ticketID, author int64, at time.Time, channel string) audit {
	return audit{
		ID: s.z.newID(), TicketID: ticketID, CreatedAt: at, AuthorID: author,
		Metadata: auditMetadata{
			System: systemMetadata{
				Client: "Mozilla/5.0", IPAddress: "203.0.113.7",
				Location: "Cincinnati, OH, United States", Latitude: 39.1031, Longitude: -84.512,
			},
			Custom: json.RawMessage("{}"),
		},
		Events: []any{}, Via: viaChannel(channel),
	}
}
