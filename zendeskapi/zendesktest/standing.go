package zendesktest

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// standingFault is a fault that is set.
type standingFault struct {
	Fault
	id   int
	hits int
	// chance is the fault's own, so that others do not change what it hits.
	chance *rand.Rand
}

// AddFault sets a fault, and gives its id: 1 for the account's first, and one
// more each time. Requests under "/_sandbox/" have none.
func (z *Zendesk) AddFault(f Fault) int {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.lastFault++
	z.faults = append(z.faults, &standingFault{
		Fault: f, id: z.lastFault,
		chance: rand.New(rand.NewPCG(z.config.Seed, uint64(z.lastFault))), //nolint:gosec // it is to be foreseeable
	})
	return z.lastFault
}

// ClearFaults takes all faults away. Requests already waiting are not woken.
func (z *Zendesk) ClearFaults() {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.faults = nil
}

// RemoveFault takes one fault away; false when there is none with that id, or
// no more, since its Times are used up.
func (z *Zendesk) RemoveFault(id int) bool {
	z.mu.Lock()
	defer z.mu.Unlock()
	before := len(z.faults)
	z.faults = slices.DeleteFunc(z.faults, func(f *standingFault) bool { return f.id == id })
	return len(z.faults) < before
}

// hit uses up the fault for r, if there is one.
func (z *Zendesk) hit(r *http.Request) *Fault {
	for i, f := range z.faults {
		if f.Method != "" && !strings.EqualFold(f.Method, r.Method) || !strings.HasPrefix(r.URL.Path, f.PathPrefix) {
			continue
		}
		if f.Probability != nil && f.chance.Float64() >= *f.Probability {
			continue
		}
		f.hits++
		used := f.Fault
		switch f.Times {
		case 0:
		case 1:
			z.faults = slices.Delete(z.faults, i, i+1)
		default:
			f.Times--
		}
		return &used
	}
	return nil
}

func (z *Zendesk) serveAddFault(w http.ResponseWriter, r *http.Request) {
	var f Fault
	if err := json.NewDecoder(r.Body).Decode(&f); err != nil {
		failure(http.StatusBadRequest, "InvalidFault", err.Error()).write(w)
		return
	}
	answer(http.StatusOK, object{"id": z.AddFault(f)}).write(w)
}

// serveRemoveFaults takes away the fault that the parameter id names, or all.
func (z *Zendesk) serveRemoveFaults(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	for name := range query {
		if name != "id" {
			failure(http.StatusBadRequest, "InvalidFault", fmt.Sprintf("the parameter %q is not known: only id is", name)).write(w)
			return
		}
	}
	if !query.Has("id") {
		z.ClearFaults()
		w.WriteHeader(http.StatusNoContent)
		return
	}
	id, err := strconv.Atoi(query.Get("id"))
	switch {
	case err != nil || len(query["id"]) > 1:
		failure(http.StatusBadRequest, "InvalidFault", fmt.Sprintf("id %q is not one number", query["id"])).write(w)
	case !z.RemoveFault(id):
		failure(http.StatusNotFound, "RecordNotFound", fmt.Sprintf("there is no fault %d, or no more", id)).write(w)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

// serveFaults lists what is set, in the form it is set in, with its id, how
// often it has hit, and the times that are left.
func (z *Zendesk) serveFaults(w http.ResponseWriter, _ *http.Request) {
	type listed struct {
		ID   int `json:"id"`
		Hits int `json:"hits"`
		faultWire
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	list := []listed{}
	for _, f := range z.faults {
		list = append(list, listed{f.id, f.hits, f.wire()})
	}
	answer(http.StatusOK, list).write(w)
}

// wire is the opposite of UnmarshalJSON.
func (f *Fault) wire() faultWire {
	wire := faultWire{
		Method: f.Method, PathPrefix: f.PathPrefix, Status: f.Status, DelayMS: f.Delay.Milliseconds(),
		Drop: f.Drop, Act: f.Act, Hang: f.Hang, Reset: f.Reset, transferWire: f.Transfer.wire(),
		Echo: f.Echo, Times: f.Times, Probability: f.Probability,
	}
	if f.RetryAfter != "" {
		wire.RetryAfter = f.RetryAfter
	}
	if f.Body != nil {
		wire.Body = marshal(*f.Body)
	}
	if f.Edit != nil {
		wire.Header = f.Edit.Header
		wire.Set = map[string]json.RawMessage{}
		for path, value := range f.Edit.Set {
			if json.Valid(value) {
				wire.Set[path] = value
			} else {
				wire.Remove = append(wire.Remove, path)
			}
		}
		slices.Sort(wire.Remove)
	}
	return wire
}

// misfit says what is wrong with the parts of a fault that are about the
// connection and about chance.
func (f *Fault) misfit() error {
	t := f.Transfer
	switch {
	case f.Hang != "" && f.Hang != HangBefore && f.Hang != HangMiddle:
		return fmt.Errorf(`hang %q is neither "before" nor "middle"`, f.Hang)
	case f.Hang != "" && f.Drop != "":
		return fmt.Errorf("hang %q and drop %q exclude each other", f.Hang, f.Drop)
	case f.Reset && f.Drop == "":
		return errors.New("reset needs a drop")
	case t.Size < 0 || t.Size > maxSize:
		return fmt.Errorf("size %d is not between 0 and %d", t.Size, int64(maxSize))
	case t.SlowBytes < 0 || t.SlowEvery < 0 || (t.SlowBytes > 0) != (t.SlowEvery > 0):
		return fmt.Errorf("slow_bytes %d and slow_ms %d must both be positive, or be left out", t.SlowBytes, t.SlowEvery/time.Millisecond)
	case f.Probability != nil && (*f.Probability < 0 || *f.Probability > 1):
		return fmt.Errorf("probability %v is not between 0 and 1", *f.Probability)
	}
	return nil
}
