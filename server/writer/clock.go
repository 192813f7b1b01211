package writer

import (
	"time"

	"github.com/scenarioblocks/zendeskblocks/store"
)

const (
	// largeSkew is how far apart our clock and Zendesk's may be without anyone being told. Nothing that the writer does hangs on
	// our clock, but times that people read do, and when tokens are renewed.
	largeSkew = time.Minute
	// skewToldFor is how long a difference is not told again.
	skewToldFor = time.Hour
)

// skew is how far our clock is ahead of Zendesk's; large if someone should be told.
func skew(ours, zendesks time.Time) (ahead time.Duration, large bool) {
	ahead = ours.Sub(zendesks).Round(time.Second)
	return ahead, ahead.Abs() >= largeSkew
}

// compareClocks tells in the log when Zendesk's clock, as it was when it answered just now, and ours differ much.
func (w *Writer) compareClocks(account store.Account, zendesks time.Time) {
	ahead, large := skew(w.now(), zendesks)
	if _, told := w.skewTold.Get(account.URL); told || !large {
		return
	}
	w.skewTold.Put(account.URL, struct{}{})
	w.log.Warn("the clock differs from Zendesk's: set the machine's clock", "url", account.URL, "ahead", ahead)
}
