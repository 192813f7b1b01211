package main

import (
	"strings"
	"testing"
	"time"
)

func TestLifetime(t *testing.T) {
	for text, want := range map[string]time.Duration{ // 0: refused
		"7d": 7 * day, "1d": day, "36h": 36 * time.Hour, "1h30m": 90 * time.Minute, "3650d": 3650 * day, "65535d": 65535 * day,
		"": 0, "d": 0, "-7d": 0, "1.5d": 0, "7": 0, "7 d": 0, "7D": 0, "1d12h": 0, "65536d": 0, "99999999999999d": 0, "week": 0,
	} {
		var got lifetime
		if err := got.UnmarshalText([]byte(text)); (err == nil) != (want != 0) || time.Duration(got) != want {
			t.Errorf("%q: got %v, %v; want %v", text, time.Duration(got), err, want)
		}
	}
}

func TestByteSize(t *testing.T) {
	for text, want := range map[string]int64{ // -1: refused
		"0": 0, "1": 1, "4096": 4096, "4096B": 4096, "4KiB": 4 << 10, "500MiB": 500 << 20, "20GiB": 20 << 30, "20 GiB": 20 << 30, "3TiB": 3 << 40,
		"8388607TiB": 8388607 << 40, "9223372036854775807": 1<<63 - 1,
		"": -1, "GiB": -1, "-1": -1, "1.5GiB": -1, "20GB": -1, "20G": -1, "20gib": -1, "8388608TiB": -1, "9223372036854775808": -1, "1KiB1": -1,
	} {
		got := byteSize(-1)
		if err := got.UnmarshalText([]byte(text)); (err == nil) != (want >= 0) || int64(got) != want {
			t.Errorf("%q: got %d, %v; want %d", text, got, err, want)
		}
	}
}

func TestKeepProblems(t *testing.T) {
	fit := keepFlags{InteractionLife: lifetime(7 * day), TombstoneLife: lifetime(30 * day), ActivityLife: lifetime(90 * day)}
	for name, test := range map[string]struct {
		change func(*keepFlags)
		want   string // in the problem; empty: none
	}{
		"fit":          {func(*keepFlags) {}, ""},
		"accounts":     {func(f *keepFlags) { f.MaxAccounts = -1 }, "--max-accounts"},
		"interactions": {func(f *keepFlags) { f.MaxInteractions = -1 }, "--max-interactions"},
		"pending":      {func(f *keepFlags) { f.MaxPendingActivities = -1 }, "--max-pending-activities"},
		"least": {func(f *keepFlags) {
			f.InteractionLife, f.TombstoneLife, f.ActivityLife = leastLife, leastLife, leastLife
		}, ""},
		"most":                 {func(f *keepFlags) { f.TombstoneLife, f.ActivityLife = mostLife, mostLife }, ""},
		"short interactions":   {func(f *keepFlags) { f.InteractionLife = leastLife - 1 }, "--interaction-life"},
		"negative tombstones":  {func(f *keepFlags) { f.TombstoneLife = -1 }, "--tombstone-life"},
		"no tombstones":        {func(f *keepFlags) { f.TombstoneLife = 0 }, "--tombstone-life"},
		"long activities":      {func(f *keepFlags) { f.ActivityLife = mostLife + 1 }, "--activity-life"},
		"activities go first":  {func(f *keepFlags) { f.ActivityLife = f.InteractionLife - 1 }, "--activity-life"},
		"before the tombstone": {func(f *keepFlags) { f.ActivityLife = f.InteractionLife }, ""},
	} {
		flags := fit
		test.change(&flags)
		problems := flags.problems()
		if (test.want == "") != (len(problems) == 0) || len(problems) > 0 && !strings.Contains(problems[0].Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, problems, test.want)
		}
	}
}
