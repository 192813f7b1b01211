package main

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/scenarioblocks/zendeskblocks/store"
)

// keepFlags bound what is kept: how much of each tenant, and how long.
type keepFlags struct {
	MaxAccounts          int64    `help:"How many accounts a tenant may have; 0: any number." default:"100" placeholder:"N"`
	MaxInteractions      int64    `help:"How many interactions of a tenant may be active at a time; 0: any number." default:"200000" placeholder:"N"`
	MaxPendingActivities int64    `help:"How many activities of a tenant may wait to be written; 0: any number." default:"100000" placeholder:"N"`
	MaxStored            byteSize `help:"How much may be stored of a tenant, as bytes or with a unit from KiB to TiB; 0: what there is room for." default:"20GiB" placeholder:"SIZE"`
	InteractionLife      lifetime `help:"How long an interaction is kept that nothing changes, unless its activity is PENDING or DEAD; 1h to 3650d." default:"7d" placeholder:"DURATION"`
	TombstoneLife        lifetime `help:"How long the id of an interaction is known after that; 1h to 3650d." default:"30d" placeholder:"DURATION"`
	ActivityLife         lifetime `help:"How long an activity is kept after it became WRITTEN, SKIPPED or DISCARDED; not less than --interaction-life, to 3650d." default:"90d" placeholder:"DURATION"`
}

func (f *keepFlags) quota() store.Usage {
	return store.Usage{
		Accounts: f.MaxAccounts, LiveInteractions: f.MaxInteractions, PendingActivities: f.MaxPendingActivities, StoredBytes: int64(f.MaxStored),
	}
}

const (
	day       = 24 * time.Hour
	leastLife = lifetime(time.Hour)
	mostLife  = lifetime(3650 * day)
)

func (f *keepFlags) problems() (problems []error) {
	for _, quota := range []struct {
		flag string
		n    int64
	}{{"max-accounts", f.MaxAccounts}, {"max-interactions", f.MaxInteractions}, {"max-pending-activities", f.MaxPendingActivities}} {
		if quota.n < 0 {
			problems = append(problems, fmt.Errorf("--%s must not be less than 0", quota.flag))
		}
	}
	for _, life := range []struct {
		flag  string
		value lifetime
	}{{"interaction-life", f.InteractionLife}, {"tombstone-life", f.TombstoneLife}, {"activity-life", f.ActivityLife}} {
		if life.value < leastLife || life.value > mostLife {
			problems = append(problems, fmt.Errorf("--%s must be 1h to 3650d, such as 7d", life.flag))
		}
	}
	if len(problems) == 0 && f.ActivityLife < f.InteractionLife {
		problems = append(problems, errors.New("--activity-life must not be less than --interaction-life"))
	}
	return problems
}

// lifetime is a duration that may be told in days: 7d, and else as Go tells it, such as 36h.
type lifetime time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (l *lifetime) UnmarshalText(text []byte) error {
	if days, ok := strings.CutSuffix(string(text), "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16) // at most what a Duration has room for
		if err != nil {
			return fmt.Errorf("%.40q is not a number of days, such as 7d", text)
		}
		*l = lifetime(time.Duration(n) * day)
		return nil
	}
	d, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%.40q is not a duration, such as 7d or 36h", text)
	}
	*l = lifetime(d)
	return nil
}

// byteSize is a number of bytes.
type byteSize int64

var sizePattern = regexp.MustCompile(`^([0-9]+) ?([KMGT]iB|B)?$`)

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *byteSize) UnmarshalText(text []byte) error {
	parts := sizePattern.FindStringSubmatch(string(text))
	if parts == nil {
		return fmt.Errorf("%.40q is not a size, such as 500MiB or 20GiB", text)
	}
	n, err := strconv.ParseInt(parts[1], 10, 64)
	shift := map[string]int{"KiB": 10, "MiB": 20, "GiB": 30, "TiB": 40}[parts[2]]
	if err != nil || n > math.MaxInt64>>shift {
		return fmt.Errorf("%.40q is more than can be counted", text)
	}
	*s = byteSize(n << shift)
	return nil
}

// String is in days where they are whole, as the flags have it.
func (l lifetime) String() string {
	if days := time.Duration(l) / day; days > 0 && time.Duration(l)%day == 0 {
		return fmt.Sprintf("%dd", days)
	}
	return time.Duration(l).String()
}

// String has the largest unit that leaves it whole.
func (s byteSize) String() string {
	units := []string{"", "KiB", "MiB", "GiB", "TiB"}
	n, unit := int64(s), 0
	for n != 0 && n%1024 == 0 && unit < len(units)-1 {
		n, unit = n/1024, unit+1
	}
	return fmt.Sprint(n) + units[unit]
}
