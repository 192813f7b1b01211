package credentials

import (
	"testing"
	"time"
)

func TestBackoff(t *testing.T) {
	for _, tt := range []struct {
		failures       int
		asked          time.Duration
		least, longest time.Duration
	}{
		{1, 0, time.Second / 2, time.Second},
		{2, 0, time.Second, 2 * time.Second},
		{5, 0, 8 * time.Second, 16 * time.Second},
		{100, 0, 150 * time.Second, 5 * time.Minute},
		{1, time.Minute, time.Minute, time.Minute + time.Second/2},
		{10, time.Minute, 150 * time.Second, 5 * time.Minute},
	} {
		for range 100 {
			if got := Backoff(tt.failures, tt.asked); got < tt.least || got > tt.longest {
				t.Errorf("backoff after %d failures, asked for %v, is %v, want %v to %v", tt.failures, tt.asked, got, tt.least, tt.longest)
			}
		}
	}
}
