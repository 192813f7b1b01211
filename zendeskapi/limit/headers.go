package limit

import (
	"cmp"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// said is what the headers of an answer tell of limits. Zendesk has four families of them, and sends any, all or none:
//
//	x-rate-limit, x-rate-limit-remaining
//	ratelimit-limit, ratelimit-remaining, ratelimit-reset
//	rate-limit, rate-limit-remaining, rate-limit-reset
//	zendesk-ratelimit-<bucket>: total=20; remaining=19; resets=50
//
// See https://developer.zendesk.com/api-reference/introduction/rate-limits/.
type said struct {
	account figures
	buckets map[string]figures // by the name in the header
}

// figures are of one limit. What makes no sense is not known.
type figures struct {
	known     bool // limit and remaining are
	limit     int  // requests a minute; 0: not even that is known
	remaining int  // 0 to limit
	resets    time.Duration
}

const bucketPrefix = "Zendesk-Ratelimit-"

// maxFigure bounds what a header may claim.
const maxFigure = 1_000_000

func read(header http.Header) said {
	s := said{buckets: map[string]figures{}}
	var told, limits []figures // with what is left, and without
	for _, family := range [][3]string{
		{"X-Rate-Limit", "X-Rate-Limit-Remaining", ""},
		{"Ratelimit-Limit", "Ratelimit-Remaining", "Ratelimit-Reset"},
		{"Rate-Limit", "Rate-Limit-Remaining", "Rate-Limit-Reset"},
	} {
		switch f := newFigures(header.Get(family[0]), header.Get(family[1]), header.Get(family[2])); {
		case f.known:
			told = append(told, f)
		case f.limit > 0:
			limits = append(limits, f)
		}
	}
	// Where they contradict each other, the one in the middle counts; of two, the one that leaves less.
	slices.SortFunc(told, func(a, b figures) int { return cmp.Compare(a.remaining, b.remaining) })
	slices.SortFunc(limits, func(a, b figures) int { return cmp.Compare(a.limit, b.limit) })
	switch {
	case len(told) > 0:
		s.account = told[(len(told)-1)/2]
	case len(limits) > 0:
		s.account = limits[(len(limits)-1)/2]
	}
	for name, values := range header {
		bucket, ok := strings.CutPrefix(name, bucketPrefix)
		if !ok || len(values) == 0 || len(s.buckets) >= maxBuckets {
			continue
		}
		parts := map[string]string{}
		for part := range strings.SplitSeq(values[0], ";") {
			key, amount, _ := strings.Cut(part, "=")
			parts[strings.TrimSpace(key)] = amount
		}
		if f := newFigures(parts["total"], parts["remaining"], parts["resets"]); f.known {
			s.buckets[bucket] = f
		}
	}
	return s
}

func newFigures(limit, remaining, resets string) (f figures) {
	l, ok := figure(limit)
	if !ok || l < 1 {
		return f
	}
	f.limit = l
	if r, ok := figure(remaining); ok && r <= l {
		f.known, f.remaining = true, r
	}
	if seconds, ok := figure(resets); ok {
		f.resets = min(time.Duration(seconds)*time.Second, window)
	}
	return f
}

// figure reads a number that is not negative. Of a list, such as "200, 200;w=60", the first one counts.
func figure(text string) (int, bool) {
	text, _, _ = strings.Cut(text, ",")
	text, _, _ = strings.Cut(text, ";")
	n, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if err != nil || math.IsNaN(n) || n < 0 {
		return 0, false
	}
	return int(min(math.Ceil(n), maxFigure)), true
}
