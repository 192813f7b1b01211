package credentials

import "sync"

const (
	// What runs at a time: of one account a few requests of administrators, and a renewal beside them. A tenant whose
	// Zendesks all hang leaves the others theirs.
	maxExchanges       = 1024
	maxTenantExchanges = 128
	maxAccountRequests = 4
)

// exchanges runs what outlives its caller.
type exchanges struct {
	mu       sync.Mutex
	all      int
	tenants  map[string]int
	accounts map[Key]int
	group    sync.WaitGroup
}

// start runs exchange in a goroutine of its own; false when atMost of the account, or too many of its tenant or of all, run
// already.
func (x *exchanges) start(key Key, atMost int, exchange func()) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.all == maxExchanges || x.tenants[key.Tenant] == maxTenantExchanges || x.accounts[key] >= atMost {
		return false
	}
	if x.tenants == nil {
		x.tenants, x.accounts = make(map[string]int), make(map[Key]int)
	}
	x.count(key, 1)
	x.group.Go(func() {
		defer func() {
			x.mu.Lock()
			defer x.mu.Unlock()
			x.count(key, -1)
		}()
		exchange()
	})
	return true
}

// count notes that one more runs, or one less. The lock is held.
func (x *exchanges) count(key Key, n int) {
	x.all += n
	if x.tenants[key.Tenant] += n; x.tenants[key.Tenant] == 0 {
		delete(x.tenants, key.Tenant)
	}
	if x.accounts[key] += n; x.accounts[key] == 0 {
		delete(x.accounts, key)
	}
}
