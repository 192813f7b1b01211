package admin

import (
	"bytes"
	"context"
	"net/http"
	"sync"
	"time"
)

const (
	// scrapeLife is for how long what was gathered is answered again, to whoever asks alike.
	scrapeLife = time.Second
	// maxScrapes are gathered in that time at most, for those who ask differently, such as for other formats.
	maxScrapes = 4
)

// scrapes answers from what a handler has answered a moment ago, so that what metrics cost has a bound, however many ask for them
// and how often.
type scrapes struct {
	handler http.Handler

	mu      sync.Mutex
	begun   time.Time
	kept    map[scrapeKey]*scrape
	running int // that are being gathered, kept or not
}

// scrapeKey is what an answer depends on.
type scrapeKey struct{ accept, encoding, query string }

// scrape is an answer.
type scrape struct {
	done   chan struct{} // closed once it was gathered
	status int
	said   bool // the status is the handler's
	header http.Header
	body   bytes.Buffer
}

func newScrapes(handler http.Handler) *scrapes { return &scrapes{handler: handler} }

// ServeHTTP implements [http.Handler].
func (s *scrapes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	one, fresh := s.of(scrapeKey{r.Header.Get("Accept"), r.Header.Get("Accept-Encoding"), r.URL.RawQuery})
	switch {
	case fresh:
		s.gather(one, r)
	case one != nil:
		select {
		case <-one.done:
		case <-r.Context().Done():
			return
		}
	default:
		w.Header().Set("Retry-After", "1")
		answer(w, http.StatusServiceUnavailable, "too many ask for metrics in too many ways\n")
		return
	}
	for name, values := range one.header {
		w.Header()[name] = values
	}
	w.WriteHeader(one.status)
	_, _ = w.Write(one.body.Bytes()) // who has hung up is told nothing
}

// gather has the handler answer.
func (s *scrapes) gather(one *scrape, r *http.Request) {
	defer func() {
		close(one.done)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.running--
	}()
	one.status = http.StatusInternalServerError // should it panic
	// Who asked first may hang up, and others wait for the same.
	s.handler.ServeHTTP(one, r.WithContext(context.WithoutCancel(r.Context())))
	one.WriteHeader(http.StatusOK) // of one that says nothing
}

// of returns the answer for a key, which whoever gets it fresh has to gather; nil when there is no room for one.
func (s *scrapes) of(key scrapeKey) (one *scrape, fresh bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); s.kept == nil || now.Sub(s.begun) >= scrapeLife {
		s.begun, s.kept = now, make(map[scrapeKey]*scrape)
	}
	if one = s.kept[key]; one != nil {
		return one, false
	}
	if len(s.kept) == maxScrapes || s.running == maxScrapes {
		return nil, false
	}
	one = &scrape{done: make(chan struct{}), header: make(http.Header)}
	s.kept[key] = one
	s.running++
	return one, true
}

// Header implements [http.ResponseWriter].
func (s *scrape) Header() http.Header { return s.header }

// WriteHeader implements [http.ResponseWriter].
func (s *scrape) WriteHeader(status int) {
	if !s.said {
		s.status, s.said = status, true
	}
}

// Write implements [http.ResponseWriter].
func (s *scrape) Write(p []byte) (int, error) {
	s.WriteHeader(http.StatusOK)
	return s.body.Write(p)
}
