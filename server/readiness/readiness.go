// Package readiness knows whether the service can do its work, check by check: what /readyz, /livez, gRPC's health and the
// metrics say is said here once.
//
// Asking is cheap, however often: a check's state is told to it as it changes, or is found by a function that asks neither the
// disk nor the network.
//
//	ready := readiness.New()                          // all checks say that the service is starting
//	ready.Set(readiness.Store, nil)                   // it can be written
//	ready.Ask(readiness.Writer, writer.Stalled)       // asked each time
//	for _, check := range ready.Checks() { ... }
package readiness

import (
	"errors"
	"slices"
	"sync"
)

// The checks.
const (
	Store   = "store"   // the data can be written
	Standby = "standby" // the database has a synchronous standby, where one is asked for
	Writer  = "writer"  // what writes activities makes its rounds
	Access  = "access"  // what says who may call can be read
	Keys    = "keys"    // there is every key that values are sealed with
	Drain   = "drain"   // the service is not about to end
)

// known are all checks, in their order.
var known = []string{Store, Standby, Writer, Access, Keys, Drain}

// live are those that a restart would mend.
var live = []string{Writer}

// ErrStarting is why a check fails that nothing has been said about.
var ErrStarting = errors.New("the service is starting")

// Check is a check and its state.
type Check struct {
	Name string
	Live bool  // liveness has it too: while it fails, a restart may help
	Err  error // what fails; nil: nothing does
}

// Registry holds the checks. It is safe for concurrent use.
type Registry struct {
	mu      sync.Mutex
	state   map[string]func() error
	changed chan struct{}
}

// New makes a registry whose checks all fail with [ErrStarting], but for Drain, which passes.
func New() *Registry {
	r := &Registry{state: make(map[string]func() error), changed: make(chan struct{}, 1)}
	for _, name := range known {
		r.state[name] = constant(ErrStarting)
	}
	r.state[Drain] = constant(nil)
	return r
}

func constant(err error) func() error { return func() error { return err } }

// Set says what fails of a check; nil: nothing does. It is to be one of the constants.
func (r *Registry) Set(name string, err error) { r.Ask(name, constant(err)) }

// Ask has a check's state be what a function returns whenever it is asked for. The function is to be quick and safe for
// concurrent use.
func (r *Registry) Ask(name string, state func() error) {
	r.mu.Lock()
	r.state[name] = state
	r.mu.Unlock()
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// Changed tells that Set or Ask was called. It has one reader.
func (r *Registry) Changed() <-chan struct{} { return r.changed }

// Checks returns all checks as they are now, always the same ones in the same order.
func (r *Registry) Checks() []Check {
	checks := make([]Check, 0, len(known))
	for _, name := range known {
		r.mu.Lock()
		state := r.state[name]
		r.mu.Unlock()
		checks = append(checks, Check{Name: name, Live: slices.Contains(live, name), Err: state()})
	}
	return checks
}

// Live returns the checks that liveness has. While the service starts they pass: a restart would begin it anew.
func (r *Registry) Live() []Check {
	checks := slices.DeleteFunc(r.Checks(), func(c Check) bool { return !c.Live })
	for i := range checks {
		if errors.Is(checks[i].Err, ErrStarting) {
			checks[i].Err = nil
		}
	}
	return checks
}

// Ready reports whether all checks pass.
func (r *Registry) Ready() bool {
	return !slices.ContainsFunc(r.Checks(), func(c Check) bool { return c.Err != nil })
}
