package writer

import (
	"testing"
	"time"
)

func TestSkew(t *testing.T) {
	zendesks := time.Date(2026, time.November, 26, 12, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		ahead time.Duration
		large bool
	}{
		{0, false}, {900 * time.Millisecond, false}, {59 * time.Second, false}, {-59 * time.Second, false},
		{time.Minute, true}, {-time.Minute, true}, {5 * time.Hour, true}, {-8 * 24 * time.Hour, true},
	} {
		ahead, large := skew(zendesks.Add(test.ahead), zendesks)
		if ahead != test.ahead.Round(time.Second) || large != test.large {
			t.Errorf("%v ahead: got %v, %v", test.ahead, ahead, large)
		}
	}
}
