package store

import (
	"bytes"
	"context"
	"time"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// NotedPerson is a user that was made, or is about to be, in a Zendesk whose search does not know of it yet.
type NotedPerson struct {
	ExternalID string    `json:"external_id,omitempty"` // that it is made with
	UserID     string    `json:"user_id,omitempty"`     // empty: whether it was made is not known
	Time       time.Time `json:"time"`                  // of the note
}

// PersonMemory is how long a noted person can be read: longer than Zendesk's index lags behind.
const PersonMemory = 15 * time.Minute

// NotePerson notes a person by what it is made for, numbers or addresses as texts, in the Zendesk at an origin. Notes that
// there are, are replaced.
func (s *Store) NotePerson(ctx context.Context, tenant, origin string, identities []string, p NotedPerson) error {
	p.Time = s.time()
	return s.update(ctx, tenant, func(w *writing) error {
		for _, identity := range identities {
			hashed := s.vault.hashPerson(tenant, origin, identity)
			key := personKey(tenant, hashed)
			values, err := w.kv.Get(key)
			if err != nil {
				return err
			}
			if values[0] == nil {
				w.due(p.Time.Add(PersonMemory), duePerson, hashed)
			}
			if err := w.save(key, p); err != nil {
				return err
			}
		}
		return nil
	})
}

// PersonNoted returns the note; found is false when there is none of the last [PersonMemory].
func (s *Store) PersonNoted(ctx context.Context, tenant, origin, identity string) (p NotedPerson, found bool, err error) {
	err = s.look(ctx, tenant, func(r *reading) error {
		p = NotedPerson{}
		found, err = r.load(personKey(tenant, s.vault.hashPerson(tenant, origin, identity)), &p)
		return err
	})
	if err != nil || !found || !p.Time.Add(PersonMemory).After(s.time()) {
		return NotedPerson{}, false, err
	}
	return p, true, nil
}

// ForgetPerson empties the notes of a person in the Zendesk at an origin: those by the identity, and those of the same user by
// others. It returns how many there were; dry only counts.
func (s *Store) ForgetPerson(ctx context.Context, tenant, origin, identity string, dry bool) (n int, err error) {
	p, found, err := s.PersonNoted(ctx, tenant, origin, identity)
	if err != nil || !found {
		return 0, err
	}
	same := func(other NotedPerson) bool {
		return other.UserID != "" && other.UserID == p.UserID || other.ExternalID != "" && other.ExternalID == p.ExternalID
	}
	own := personKey(tenant, s.vault.hashPerson(tenant, origin, identity))
	rest := kv.Prefix(kv.Key(tenant, "p"))
	for more := true; more; {
		var entries []kv.Entry
		if entries, more, err = s.scan(ctx, rest); err != nil {
			return n, err
		}
		for _, entry := range entries {
			rest.Start = kv.After(entry.Key)
			var noted NotedPerson
			if err := (&reading{vault: s.vault}).decodes(entry, &noted); err != nil {
				return n, err
			}
			if !same(noted) && !bytes.Equal(entry.Key, own) {
				continue
			}
			if n++; dry {
				continue
			}
			err := s.update(ctx, tenant, func(w *writing) error {
				found, err := w.load(entry.Key, new(NotedPerson))
				if err != nil || !found {
					return err
				}
				return w.save(entry.Key, NotedPerson{}) // the sweep takes it away
			})
			if err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

// sweepPerson forgets a note, unless it was renewed.
func sweepPerson(w *writing, hashed string, now time.Time) (next time.Time, err error) {
	key := personKey(w.tenant, hashed)
	var p NotedPerson
	found, err := w.load(key, &p)
	if err != nil || !found {
		return time.Time{}, err
	}
	if end := p.Time.Add(PersonMemory); end.After(now) {
		return end, nil
	}
	w.txn.Delete(key)
	return time.Time{}, nil
}
