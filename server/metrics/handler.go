package metrics

import (
	"bytes"
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/common/expfmt"
)

const (
	// maxScrapes are answered at a time; others are told to come again.
	maxScrapes = 16
	// A page is made anew when its making took less than a part of its age, one in pageShare, or it is older than pageLife.
	pageShare = 100
	pageLife  = 3 * time.Second
)

// Handler answers scrapes, in the format that is asked for, packed by gzip where that is taken.
func (m *Metrics) Handler() http.Handler {
	return &scrapes{
		make:  promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError, EnableOpenMetrics: true}),
		room:  make(chan struct{}, maxScrapes),
		pages: make(map[pageKey]*madePage),
	}
}

// scrapes keeps the pages that were made: however many scrapers there are, and however impatient, they cost no more than one.
type scrapes struct {
	make http.Handler
	room chan struct{}

	mu    sync.Mutex
	pages map[pageKey]*madePage
}

// pageKey tells pages apart: there are few.
type pageKey struct {
	format expfmt.Format
	packed bool
}

// madePage is a page as it was made.
type madePage struct {
	status int
	header http.Header
	body   bytes.Buffer

	until time.Time // it is served
}

// ServeHTTP implements [http.Handler].
func (s *scrapes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	select {
	case s.room <- struct{}{}:
		defer func() { <-s.room }()
	default:
		http.Error(w, "too many scrapes at a time", http.StatusServiceUnavailable)
		return
	}
	page := s.page(r)
	maps.Copy(w.Header(), page.header)
	w.WriteHeader(page.status)
	_, _ = w.Write(page.body.Bytes()) // who has gone needs none
}

// page returns the page that a scraper asks for.
func (s *scrapes) page(r *http.Request) *madePage {
	key := pageKey{expfmt.NegotiateAccept(r.Header, expfmt.DefaultOpenMetricsAcceptedFormats()...), takesGzip(r.Header)}
	s.mu.Lock()
	defer s.mu.Unlock()
	begun := time.Now()
	if page := s.pages[key]; page != nil && begun.Before(page.until) {
		return page
	}
	asked := r.Clone(r.Context())
	asked.Header.Del("Accept-Encoding")
	if key.packed {
		asked.Header.Set("Accept-Encoding", "gzip")
	}
	page := &madePage{status: http.StatusOK, header: make(http.Header)}
	s.make.ServeHTTP(page, asked)
	page.until = begun.Add(min(pageShare*time.Since(begun), pageLife))
	s.pages[key] = page
	return page
}

// takesGzip says whether what is packed by gzip is taken (RFC 9110, 12.5.3).
func takesGzip(header http.Header) bool {
	for _, part := range strings.Split(strings.Join(header.Values("Accept-Encoding"), ","), ",") {
		name, weight, _ := strings.Cut(part, ";")
		if name = strings.TrimSpace(name); name != "gzip" && name != "*" {
			continue
		}
		_, q, weighed := strings.Cut(weight, "=")
		return !weighed || strings.Trim(strings.TrimSpace(q), "0.") != ""
	}
	return false
}

// Header implements [http.ResponseWriter].
func (p *madePage) Header() http.Header { return p.header }

// WriteHeader implements [http.ResponseWriter].
func (p *madePage) WriteHeader(status int) { p.status = status }

// Write implements [http.ResponseWriter].
func (p *madePage) Write(text []byte) (int, error) { return p.body.Write(text) }
