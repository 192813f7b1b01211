package credentials

import (
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"time"
)

// Backoff is how long to wait after a number of failures in a row: what Zendesk asks for, or twice as long each time,
// up to 5 minutes; a random half of it is left out, so that not all come at once.
func Backoff(failures int, asked time.Duration) time.Duration {
	const longest = 5 * time.Minute
	wait := min(time.Second<<min(failures-1, 20), longest)
	return max(asked, wait/2) + rand.N(wait/2) //nolint:gosec // jitter is no secret
}

// recovered turns a panic into an error with its stack, for the log: no interceptor stands around what runs by itself.
func recovered(p any) error { return fmt.Errorf("panic: %v\n%s", p, debug.Stack()) }
