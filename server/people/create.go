package people

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/scenarioblocks/zendeskblocks/server/phone"
	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

// NewUser is what a user is made with, beside what he is sought by.
type NewUser struct {
	Name   string                     // empty: the number in international form, or the address
	Fields map[string]json.RawMessage // further members of Zendesk's user object; what he is sought by wins
}

// FindOrCreate finds somebody as Identify does with the policy All, and makes a user where there is nobody. Ticket ids count
// for nothing. One call at a time, of all processes, is about a number, an address or an external id of a Zendesk; who was made
// is noted before, and is found for as long as Zendesk's search may not know of him, also after a crash. A user who is made for a
// number has an external id that any service makes of it, so that two services make one. Errors: as of Identify.
func (d *Directory) FindOrCreate(ctx context.Context, tenant string, account *store.Account, sought Sought, user NewUser) (Found, error) {
	sought.TicketID = ""
	steps := sought.steps(account.DefaultRegion)
	if len(steps) == 0 {
		return Found{}, ErrNothing
	}
	l := d.lookup(tenant, account, All)
	identities := make([]string, len(steps))
	for i, s := range steps {
		identities[i] = s.identity()
	}
	// Who is remembered needs no turn.
	for _, s := range steps {
		if _, found := d.memory.get(l.key(s)); found {
			if found, err := l.identify(ctx, steps); err != nil || found.Total > 0 {
				return found, err
			}
			break
		}
	}
	var err error
	if l.turns, err = d.take(ctx, account.URL, identities); err != nil {
		return Found{}, busy(err)
	}
	defer release(l.turns)
	found, err := l.identify(ctx, steps)
	if err != nil || found.Total > 0 {
		return found, err
	}
	found, err = l.create(ctx, steps, identities, user)
	return found, busy(err)
}

// take waits until no other call, in any process, is about one of the identities in the Zendesk at an origin, or for ctx.
func (d *Directory) take(ctx context.Context, origin string, identities []string) (turns []*store.Claim, err error) {
	names := make([]string, len(identities))
	for i, identity := range identities {
		names[i] = d.store.HashedName("person", origin, identity)
	}
	slices.Sort(names) // so that no two wait for each other
	for _, name := range slices.Compact(names) {
		turn, err := d.store.AwaitClaim(ctx, "person", name)
		if err != nil {
			release(turns)
			return nil, err
		}
		turns = append(turns, turn)
	}
	return turns, nil
}

func release(turns []*store.Claim) {
	for _, turn := range turns {
		turn.Release()
	}
}

// busy words an error that says that others are about the same person.
func busy(err error) error {
	if !errors.Is(err, store.ErrClaimed) && !errors.Is(err, store.ErrClaimLost) {
		return err
	}
	return &zendeskapi.Error{
		Op: "find_or_create", Kind: zendeskapi.Timeout, Detail: "other calls about the same person took all the time", Err: err,
	}
}

// inTurn is for what is stored only while the turns are the call's.
func (l *lookup) inTurn(ctx context.Context) context.Context {
	for _, turn := range l.turns {
		ctx = store.Fenced(ctx, turn)
	}
	return ctx
}

// create makes a user, unless another service has.
func (l *lookup) create(ctx context.Context, steps []step, identities []string, user NewUser) (Found, error) {
	begun, err := l.begun(ctx, identities)
	if err != nil {
		return Found{}, err
	}
	externalID, earlier := externalIDOf(l.account.URL, steps, begun)
	for _, id := range earlier {
		matches, err := l.byExternalID(ctx, id)
		if err != nil {
			return Found{}, err
		}
		if alive, suspended := living(matches); len(alive) > 0 {
			found := foundOf(ExternalID, ranked(alive), suspended, All)
			found.Said = l.said
			for _, s := range steps {
				if m, ok := verify(alive[0].person, s.value, l.region, l.fields); ok && s.by == Phone {
					found.By, found.Grade, found.Field = Phone, m.grade, m.field
				}
			}
			return found, l.note(ctx, steps, identities, id, alive[0])
		}
	}
	fields, err := json.Marshal(fieldsOf(steps, externalID, user))
	if err != nil {
		return Found{}, fmt.Errorf("a user cannot be written as JSON: %w", err)
	}
	made := store.NotedPerson{ExternalID: externalID}
	if err := l.store.NotePerson(l.inTurn(ctx), l.tenant, l.account.URL, identities, made); err != nil {
		return Found{}, err
	}
	for _, s := range steps {
		if s.by != Email {
			continue
		}
		m, found, err := l.probe(ctx, s.value)
		if err != nil {
			return Found{}, err
		}
		if found {
			found := foundOf(Email, []match{m}, m.person.Suspended, All)
			found.Said = l.said
			return found, l.note(ctx, []step{s}, []string{s.identity()}, "", m)
		}
	}
	m := match{grade: phone.Exact}
	created := false
	err = l.ask(ctx, func(client *zendeskapi.Client) (err error) {
		m.person, created, l.said, err = client.SaveUser(ctx, fields)
		return err
	})
	if taken(err) {
		if found, holderErr := l.holder(ctx, steps, externalID); holderErr == nil && found.Total > 0 {
			return found, nil
		}
	}
	if err != nil {
		return Found{}, err
	}
	found := foundOf(Nobody, []match{m}, m.person.Suspended, All)
	found.Created, found.Said = created, l.said
	if !created {
		found.By, found.Field = steps[0].by, "external_id"
	}
	return found, l.note(ctx, steps, identities, externalID, m)
}

// probe finds who has an address, whether Zendesk's search knows of him or not: an update that changes nothing finds him, and
// makes nobody, for want of a name.
func (l *lookup) probe(ctx context.Context, email string) (m match, found bool, err error) {
	err = l.ask(ctx, func(client *zendeskapi.Client) error {
		person, created, said, err := client.SaveUser(ctx, probeOf(email))
		if failed, ok := errors.AsType[*zendeskapi.Error](err); ok && failed.Kind == zendeskapi.InvalidRequest {
			return nil
		}
		if err == nil && !created {
			l.said, found = said, true
			m = match{person: person, grade: phone.Exact, field: emailField(person, email)}
		}
		return err
	})
	return m, found, err
}

func probeOf(email string) json.RawMessage {
	fields, _ := json.Marshal(map[string]any{"email": email, "skip_verify_email": true}) // of texts: it cannot fail
	return fields
}

// begun returns the external ids that users were to be made with: whether they were is not known.
func (l *lookup) begun(ctx context.Context, identities []string) (externalIDs []string, err error) {
	for _, identity := range identities {
		noted, found, err := l.store.PersonNoted(ctx, l.tenant, l.account.URL, identity)
		if err != nil {
			return nil, err
		}
		if found && noted.ExternalID != "" && !slices.Contains(externalIDs, noted.ExternalID) {
			externalIDs = append(externalIDs, noted.ExternalID)
		}
	}
	return externalIDs, nil
}

// note remembers who was made.
func (l *lookup) note(ctx context.Context, steps []step, identities []string, externalID string, m match) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), store.OutcomeTime)
	defer cancel()
	for _, s := range steps {
		l.memory.put(l.key(s), remembered{userID: m.person.ID, updatedAt: m.person.UpdatedAt, alone: true})
	}
	return l.store.NotePerson(ctx, l.tenant, l.account.URL, identities, store.NotedPerson{ExternalID: externalID, UserID: m.person.ID})
}

// holder finds who has what only one may have, if that is who is sought.
func (l *lookup) holder(ctx context.Context, steps []step, externalID string) (Found, error) {
	if externalID != "" {
		steps = append([]step{{by: ExternalID, value: externalID}}, steps...)
	}
	return l.identify(ctx, steps)
}

// taken tells that Zendesk made no user since another has what only one may have.
func taken(err error) bool {
	failed, ok := errors.AsType[*zendeskapi.Error](err)
	return ok && slices.ContainsFunc(failed.Fields, func(f zendeskapi.FieldError) bool { return f.Code == "DuplicateValue" })
}

// externalIDOf decides which external id a user is made with: the one that is given, else one that an earlier call has begun
// with, else one of the number. Earlier are those by which the user may have been made already.
func externalIDOf(origin string, steps []step, begun []string) (id string, earlier []string) {
	earlier = slices.Clone(begun)
	for _, s := range steps {
		switch s.by {
		case ExternalID:
			id = s.value
		case Phone:
			if own := numberID(origin, s); !slices.Contains(earlier, own) {
				earlier = append(earlier, own)
			}
		}
	}
	if id == "" && len(earlier) > 0 {
		return earlier[0], earlier
	}
	return id, slices.DeleteFunc(earlier, func(other string) bool { return other == id }) // by that one was sought before
}

// numberID is the external id of a user who is made for a number. The key is the Zendesk's alone, so that every service makes
// the same.
func numberID(origin string, s step) string {
	key := sha256.Sum256([]byte("zendeskblocks users of numbers " + origin))
	mac := hmac.New(sha256.New, key[:])
	mac.Write([]byte(s.identity()))
	return "zendeskblocks:" + hex.EncodeToString(mac.Sum(nil)[:16])
}

// fieldsOf is Zendesk's user object of somebody who is to be made. Nobody is mailed.
func fieldsOf(steps []step, externalID string, user NewUser) map[string]any {
	fields := map[string]any{"skip_verify_email": true}
	for key, value := range user.Fields {
		fields[key] = value
	}
	name := user.Name
	for _, s := range slices.Backward(steps) {
		switch s.by {
		case Phone:
			number := cmp.Or(s.number.E164, s.number.Digits)
			fields["phone"], name = number, cmp.Or(name, number)
		case Email:
			fields["email"] = s.value
			name = cmp.Or(name, s.value)
		}
	}
	if externalID != "" {
		fields["external_id"] = externalID
	}
	if _, named := fields["name"]; !named || user.Name != "" {
		fields["name"] = cmp.Or(name, externalID)
	}
	return fields
}
