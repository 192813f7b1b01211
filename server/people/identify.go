package people

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/scenarioblocks/zendeskblocks/server/credentials"
	"github.com/scenarioblocks/zendeskblocks/server/phone"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/limit"
)

const (
	// maxIdentityLookups is how many of those who were found, and have the number not on the profile, are asked for the others.
	maxIdentityLookups = 5
	// maxMatches is how many of those who match are kept.
	maxMatches = 100
	// maxRequesters is how many people are asked for their tickets at once.
	maxRequesters = 50
)

// Config is what a Directory depends on. All of it is required.
type Config struct {
	Store       *store.Store
	Credentials *credentials.Keeper
	Now         func() time.Time
}

// Directory knows people of Zendesk accounts. It is safe for concurrent use.
type Directory struct {
	store       *store.Store
	credentials *credentials.Keeper
	memory      *memory
}

// New makes a directory.
func New(c Config) *Directory {
	return &Directory{store: c.Store, credentials: c.Credentials, memory: newMemory(maxRemembered, c.Now)}
}

// Identify finds somebody in the Zendesk of an account; ticket ids find tickets. What is remembered of a match is asked of
// Zendesk, which returns the record, before it counts. No records and no error is a promise: Zendesk answered everything, and
// there is nobody. Errors: [ErrNothing]; those of [credentials.Keeper.Do].
func (d *Directory) Identify(ctx context.Context, tenant string, account *store.Account, sought Sought, policy Policy) (Found, error) {
	l := d.lookup(tenant, account, policy)
	return l.identify(ctx, sought.steps(account.DefaultRegion))
}

// Forget drops what is remembered and noted of a person in the Zendesks of a tenant's accounts, and returns how much that was.
// dry only counts.
func (d *Directory) Forget(ctx context.Context, tenant string, who Sought, dry bool) (n int, err error) {
	steps := who.steps("")
	for _, s := range steps {
		n += d.memory.forget(tenant, s.identity(), dry)
	}
	seen := make(map[string]bool) // accounts may be of one Zendesk
	last := ""
	for more := true; more; {
		var accounts []store.Account
		if accounts, more, err = d.store.ListAccounts(ctx, tenant, last, accountsAtOnce); err != nil {
			return n, err
		}
		for _, account := range accounts {
			if last = account.ID; seen[account.URL] {
				continue
			}
			seen[account.URL] = true
			for _, s := range steps {
				noted, err := d.store.ForgetPerson(ctx, tenant, account.URL, s.identity(), dry)
				if n += noted; err != nil {
					return n, err
				}
			}
		}
	}
	return n, nil
}

// accountsAtOnce are read in a transaction.
const accountsAtOnce = 100

// lookup is one look-up.
type lookup struct {
	*Directory
	tenant  string
	account *store.Account
	policy  Policy
	region  string
	fields  []string
	not     []string // ids of people who are no more, or not who is sought, whatever a search says
	said    zendeskapi.Said
	turns   []*store.Claim // of who is to be made
}

func (d *Directory) lookup(tenant string, account *store.Account, policy Policy) *lookup {
	return &lookup{
		Directory: d, tenant: tenant, account: account, policy: policy,
		region: account.DefaultRegion, fields: account.PhoneFields,
	}
}

// ask makes requests as the account.
func (l *lookup) ask(ctx context.Context, request func(*zendeskapi.Client) error) error {
	return l.credentials.Do(ctx, limit.Blocks, l.tenant, l.account, request)
}

func (l *lookup) identify(ctx context.Context, steps []step) (Found, error) {
	if len(steps) == 0 {
		return Found{}, ErrNothing
	}
	for _, s := range steps {
		found, err := l.find(ctx, s)
		if err != nil || found.Total > 0 {
			found.Said = l.said
			return found, err
		}
	}
	return Found{Said: l.said}, nil
}

// find takes one step.
func (l *lookup) find(ctx context.Context, s step) (Found, error) {
	var matches []match
	var err error
	switch s.by {
	case TicketID:
		return l.ticket(ctx, s.value)
	case ExternalID:
		matches, err = l.byExternalID(ctx, s.value)
	default:
		var known bool
		if matches, known, err = l.known(ctx, s); err == nil && !known {
			if s.by == Email {
				matches, err = l.byEmail(ctx, s.value)
			} else {
				matches, err = l.byNumber(ctx, s)
			}
		}
	}
	if err != nil {
		return Found{}, err
	}
	return l.choose(ctx, s, matches)
}

func (l *lookup) ticket(ctx context.Context, id string) (found Found, err error) {
	err = l.ask(ctx, func(client *zendeskapi.Client) error {
		record, said, err := client.TicketRecord(ctx, id)
		if l.missing(err) {
			return nil
		}
		if err == nil {
			l.said = said
			found = Found{Records: []json.RawMessage{record}, Total: 1, By: TicketID, Grade: phone.Exact, Field: "id"}
		}
		return err
	})
	return found, err
}

// missing tells an error that says that there is no such record, and keeps what was said.
func (l *lookup) missing(err error) bool {
	failed, ok := errors.AsType[*zendeskapi.Error](err)
	if !ok || !failed.Gone() {
		return false
	}
	l.said = zendeskapi.Said{StatusCode: failed.StatusCode, Body: failed.Body}
	return true
}

func (l *lookup) byExternalID(ctx context.Context, id string) (matches []match, err error) {
	err = l.ask(ctx, func(client *zendeskapi.Client) error {
		people, said, err := client.PeopleByExternalID(ctx, id)
		if err != nil {
			return err
		}
		l.said, matches = said, nil
		for _, p := range people {
			matches = append(matches, match{person: p, grade: phone.Exact, field: "external_id", query: "external_id=" + id})
		}
		return nil
	})
	return matches, err
}

func (l *lookup) byEmail(ctx context.Context, email string) (matches []match, err error) {
	err = l.ask(ctx, func(client *zendeskapi.Client) error {
		person, said, found, err := client.PersonByEmail(ctx, email)
		if err != nil {
			return err
		}
		l.said, matches = said, nil
		if found {
			m := match{person: person, grade: phone.Exact, field: emailField(person, email), query: "email:" + email}
			matches = append(matches, m)
		}
		return nil
	})
	return matches, err
}

// emailField is where a person has an address.
func emailField(p zendeskapi.Person, email string) string {
	if strings.EqualFold(p.Email, email) {
		return "email"
	}
	return identitiesField
}

// byNumber climbs the ladder until somebody has the number.
func (l *lookup) byNumber(ctx context.Context, s step) ([]match, error) {
	var suspended []match
	for _, r := range ladder(s.number, l.fields) {
		hits, err := l.search(ctx, r.query)
		if err != nil {
			return nil, err
		}
		matches, others := l.sift(hits, s.value, r)
		alive, onlySuspended := living(matches)
		if (len(alive) == 0 || onlySuspended) && r.field == phoneField {
			more, err := l.byIdentity(ctx, others, s, r)
			if err != nil {
				return nil, err
			}
			alive, onlySuspended = living(append(alive, more...))
		}
		if len(alive) > 0 && !onlySuspended {
			if alive, err = l.fresh(ctx, alive, s); err != nil || len(alive) > 0 {
				return alive, err
			}
		}
		suspended = append(suspended, alive...)
	}
	return suspended, nil
}

// sift parts hits into those who have the number on the profile, and others who may have it elsewhere: the profile does not say
// why they were found.
func (l *lookup) sift(hits []zendeskapi.Person, dialled string, r rung) (matches []match, others []zendeskapi.Person) {
	for _, p := range hits {
		if !p.Active || slices.Contains(l.not, p.ID) {
			continue
		}
		if m, ok := verify(p, dialled, l.region, l.fields); ok {
			m.query = r.query
			matches = append(matches, m)
		} else if !endsAlike(p.Phone, r.ends) {
			others = append(others, p)
		}
	}
	return matches, others
}

// errTooManyAlike says that nobody can tell who has the number.
var errTooManyAlike = &zendeskapi.Error{
	Op: "identify", Kind: zendeskapi.BadResponse, Detail: "too many people have numbers that end like this one to tell whose it is",
}

// search asks for people. All that are found are read, so that nobody is missing.
func (l *lookup) search(ctx context.Context, query string) (people []zendeskapi.Person, err error) {
	err = l.ask(ctx, func(client *zendeskapi.Client) error {
		found, err := client.Search(ctx, zendeskapi.SearchQuery{Query: query, Max: zendeskapi.MaxSearchResults})
		if err != nil {
			return err
		}
		defer found.Release()
		l.said = zendeskapi.Said{StatusCode: found.StatusCode, Body: found.Body}
		var readable bool
		if people, readable = zendeskapi.People(found.Records); !readable && len(people) == 0 || found.TotalCount > int64(len(found.Records)) {
			return errTooManyAlike
		}
		return nil
	})
	return people, err
}

// byIdentity asks those whom a search for the number has found, and who have it not on the profile, for their other numbers.
func (l *lookup) byIdentity(ctx context.Context, people []zendeskapi.Person, s step, r rung) (matches []match, err error) {
	if len(people) > maxIdentityLookups {
		return nil, errTooManyAlike // it may be any of them
	}
	for _, p := range people {
		grade, err := l.identityGrade(ctx, p.ID, s)
		if err != nil {
			return nil, err
		}
		if grade > phone.None {
			matches = append(matches, match{person: p, grade: grade, field: identitiesField, query: r.query})
		}
	}
	return matches, nil
}

// identityGrade is how well a number beside the one on the profile is the one that is sought.
func (l *lookup) identityGrade(ctx context.Context, userID string, s step) (best phone.Grade, err error) {
	err = l.ask(ctx, func(client *zendeskapi.Client) error {
		numbers, err := client.PhoneNumbers(ctx, userID)
		if l.missing(err) {
			return nil
		}
		best = l.bestGrade(numbers, s)
		return err
	})
	return best, err
}

// bestGrade is how well one of the numbers is the one that is sought.
func (l *lookup) bestGrade(numbers []string, s step) (best phone.Grade) {
	for _, number := range numbers {
		best = max(best, phone.Match(number, s.value, l.region))
	}
	return best
}

// fresh reads several who match anew: what a search says of them may be old, and one of them merged into another meanwhile.
func (l *lookup) fresh(ctx context.Context, matches []match, s step) ([]match, error) {
	if matches = ranked(matches); len(matches) == 1 || len(matches) > maxMatches {
		return matches, nil
	}
	ids := make([]string, len(matches))
	for i, m := range matches {
		ids[i] = m.person.ID
	}
	var people []zendeskapi.Person
	err := l.ask(ctx, func(client *zendeskapi.Client) (err error) {
		people, err = client.PeopleByID(ctx, ids)
		return err
	})
	if failed, ok := errors.AsType[*zendeskapi.Error](err); ok && failed.EndpointUnavailable() {
		return matches, nil // it only helps
	}
	if err != nil {
		return nil, err
	}
	var now []match
	for _, m := range matches {
		i := slices.IndexFunc(people, func(p zendeskapi.Person) bool { return p.ID == m.person.ID })
		if i < 0 {
			continue
		}
		again, ok := verify(people[i], s.value, l.region, l.fields)
		if !ok && m.field == identitiesField {
			again.grade, again.field, ok = m.grade, m.field, true
		}
		if ok {
			again.query = m.query
			now = append(now, again)
		}
	}
	now, _ = living(now)
	return now, nil
}

// known confirms who is remembered, or was made a short while ago, by reading the record. known is false when there is nobody,
// or not as he was.
func (l *lookup) known(ctx context.Context, s step) (matches []match, known bool, err error) {
	key := l.key(s)
	entry, _ := l.memory.get(key)
	l.not = append(l.not, entry.not...)
	switch {
	case entry.userID == "": // another process may have made somebody since
		made, noted, err := l.store.PersonNoted(ctx, l.tenant, l.account.URL, s.identity())
		if err != nil || !noted || made.UserID == "" || slices.Contains(l.not, made.UserID) {
			return nil, false, err
		}
		entry = remembered{userID: made.UserID, alone: true}
	case !entry.alone && l.policy != First:
		return nil, false, nil
	}
	person, numbers, err := l.read(ctx, entry.userID, entry.field == identitiesField)
	if err != nil {
		return nil, false, err
	}
	var m match
	ok := person != nil
	if ok {
		if m, ok, err = l.still(ctx, *person, numbers, entry, s); err != nil {
			return nil, false, err
		}
	}
	switch {
	case !ok:
		l.not = append(l.not, entry.userID)
		if len(l.not) > maxNot {
			l.not = l.not[1:]
		}
		l.memory.put(key, remembered{not: slices.Clone(l.not)})
		return nil, false, nil
	case person.Suspended: // there may be somebody else
		l.memory.drop(key)
		return nil, false, nil
	}
	return []match{m}, true, nil
}

// maxNot is how many are remembered who are not the ones.
const maxNot = 10

// still decides whether a person has what he was found by; numbers are those beside the one on the profile, nil if they are not
// known.
func (l *lookup) still(ctx context.Context, p zendeskapi.Person, numbers []string, entry remembered, s step) (match, bool, error) {
	if s.by == Email {
		field := emailField(p, s.value)
		same := field == "email" || entry.field == identitiesField && p.UpdatedAt.Equal(entry.updatedAt)
		return match{person: p, grade: phone.Exact, field: field}, same, nil
	}
	if m, ok := verify(p, s.value, l.region, l.fields); ok {
		return m, true, nil
	}
	if entry.field != identitiesField {
		return match{}, false, nil
	}
	grade := l.bestGrade(numbers, s)
	var err error
	if numbers == nil {
		grade, err = l.identityGrade(ctx, p.ID, s)
	}
	return match{person: p, grade: grade, field: identitiesField}, grade > phone.None, err
}

// read reads a person, nil if he is no more, and with whole also the numbers beside the one on the profile; nil if they are not
// told.
func (l *lookup) read(ctx context.Context, id string, whole bool) (person *zendeskapi.Person, numbers []string, err error) {
	err = l.ask(ctx, func(client *zendeskapi.Client) error {
		var p zendeskapi.Person
		var said zendeskapi.Said
		var err error
		if whole {
			p, said, err = client.PersonWithNumbers(ctx, id)
		} else {
			p, said, err = client.Person(ctx, id)
		}
		if l.missing(err) || err == nil && (p.ID != id || !p.Active) { // merged, or deleted
			return nil
		}
		if err == nil {
			l.said, person, numbers = said, &p, p.Numbers
		}
		return err
	})
	return person, numbers, err
}

func (l *lookup) key(s step) memoryKey {
	return memoryKey{l.tenant, l.account.Incarnation, s.identity()}
}

// choose takes the policy's choice of those who match, and remembers it.
func (l *lookup) choose(ctx context.Context, s step, matches []match) (Found, error) {
	alive, suspended := living(matches)
	if alive = ranked(alive); len(alive) > maxMatches {
		alive = alive[:maxMatches]
	}
	if len(alive) == 0 {
		return Found{}, nil
	}
	chosen := alive
	switch {
	case len(alive) == 1:
	case l.policy == First:
		chosen = alive[:1]
	case l.policy == MostRecent:
		candidates := best(alive)
		tickets, err := l.openTickets(ctx, candidates)
		if err != nil {
			return Found{}, err
		}
		chosen = []match{mostRecent(candidates, tickets)}
	}
	if one := chosen[0]; len(chosen) == 1 && !suspended && (len(alive) == 1 || l.policy == First) && (s.by == Phone || s.by == Email) {
		l.memory.put(l.key(s), remembered{
			userID: one.person.ID, not: slices.Clone(l.not), field: one.field, updatedAt: one.person.UpdatedAt, alone: len(alive) == 1,
		})
	}
	found := foundOf(s.by, chosen, suspended, l.policy)
	found.Total = len(alive)
	return found, nil
}

// openTickets asks for the tickets of people that are not solved, the last changed first.
func (l *lookup) openTickets(ctx context.Context, of []match) (tickets []zendeskapi.Ticket, err error) {
	query := openTicketsQuery(of)
	err = l.ask(ctx, func(client *zendeskapi.Client) error {
		found, err := client.Search(ctx, zendeskapi.SearchQuery{Query: query, SortBy: "updated_at", SortOrder: "desc", Max: 1})
		if err != nil {
			return err
		}
		defer found.Release()
		l.said = zendeskapi.Said{StatusCode: found.StatusCode, Body: found.Body}
		tickets = zendeskapi.FoundTickets(found.Records)
		return nil
	})
	return tickets, err
}

func openTicketsQuery(of []match) string {
	query := "type:ticket status<solved"
	for _, m := range of[:min(len(of), maxRequesters)] {
		query += " requester:" + m.person.ID
	}
	return query
}
