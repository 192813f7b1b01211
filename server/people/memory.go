package people

import (
	"container/list"
	"sync"
	"time"
)

const (
	// memoryLife is how long it is remembered who has a number.
	memoryLife = 10 * time.Minute
	// maxRemembered bounds what is remembered of all tenants.
	maxRemembered = 50_000
)

// memoryKey is what somebody was found by: of a tenant, an account's incarnation.
type memoryKey struct{ tenant, account, identity string }

// remembered is who was found.
type remembered struct {
	userID    string   // empty: nobody
	not       []string // ids of those whom a search that is late may show, and who are not the ones
	field     string
	updatedAt time.Time // of the user, then
	alone     bool      // nobody else matched
}

// memory remembers who was found by what, each for a while. Beyond its bound the tenant that has most forgets what it used
// least lately. The zero memory is ready for use, and safe for concurrent use.
type memory struct {
	bound int // 0: maxRemembered
	now   func() time.Time

	mu      sync.Mutex
	tenants map[string]*list.List // of *memoryEntry, the last used first
	entries map[memoryKey]*list.Element
}

type memoryEntry struct {
	key   memoryKey
	value remembered
	until time.Time
}

func newMemory(bound int, now func() time.Time) *memory {
	return &memory{bound: bound, now: now, tenants: make(map[string]*list.List), entries: make(map[memoryKey]*list.Element)}
}

func (m *memory) get(key memoryKey) (remembered, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := m.entries[key]
	if at == nil {
		return remembered{}, false
	}
	entry := at.Value.(*memoryEntry) //nolint:forcetypeassert // nothing else is in it
	if !m.now().Before(entry.until) {
		m.remove(at)
		return remembered{}, false
	}
	m.tenants[key.tenant].MoveToFront(at)
	return entry.value, true
}

func (m *memory) put(key memoryKey, value remembered) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if at := m.entries[key]; at != nil {
		m.remove(at)
	}
	if len(m.entries) >= m.bound {
		var most *list.List
		for _, of := range m.tenants {
			if most == nil || of.Len() > most.Len() {
				most = of
			}
		}
		m.remove(most.Back())
	}
	of := m.tenants[key.tenant]
	if of == nil {
		of = list.New()
		m.tenants[key.tenant] = of
	}
	m.entries[key] = of.PushFront(&memoryEntry{key, value, m.now().Add(memoryLife)})
}

func (m *memory) drop(key memoryKey) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if at := m.entries[key]; at != nil {
		m.remove(at)
	}
}

// forget drops what is remembered of those whom a tenant has found by the identity, by whatever they were found, and returns
// how much that was. dry only counts.
func (m *memory) forget(tenant, identity string, dry bool) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	type user struct{ account, id string }
	users := make(map[user]bool)
	of := m.tenants[tenant]
	if of == nil {
		return 0
	}
	all := make([]*list.Element, 0, of.Len())
	for at := of.Front(); at != nil; at = at.Next() {
		all = append(all, at)
		if entry := at.Value.(*memoryEntry); entry.key.identity == identity && entry.value.userID != "" { //nolint:forcetypeassert // nothing else is in it
			users[user{entry.key.account, entry.value.userID}] = true
		}
	}
	for _, at := range all {
		entry := at.Value.(*memoryEntry) //nolint:forcetypeassert // nothing else is in it
		if entry.key.identity != identity && !users[user{entry.key.account, entry.value.userID}] {
			continue
		}
		if n++; !dry {
			m.remove(at)
		}
	}
	return n
}

// remove removes an entry. The lock is held.
func (m *memory) remove(at *list.Element) {
	entry := at.Value.(*memoryEntry) //nolint:forcetypeassert // nothing else is in it
	delete(m.entries, entry.key)
	of := m.tenants[entry.key.tenant]
	if of.Remove(at); of.Len() == 0 {
		delete(m.tenants, entry.key.tenant)
	}
}
