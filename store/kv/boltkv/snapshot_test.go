package boltkv

import "testing"

func TestMayRemap(t *testing.T) {
	const gib = 1 << 30
	for _, test := range []struct {
		file, commit int64
		want         bool
	}{
		{32 << 10, 4 << 20, false},
		{mmapBytes - remapMargin - 1, 0, false},
		{mmapBytes - remapMargin + 1, 0, true},
		{mmapBytes - remapMargin - 4<<20, 4 << 20, true},
		{mmapBytes, 0, true},
		{mmapBytes + 1, 0, false}, // the map has grown by a step
		{mmapBytes + gib - remapMargin, 1, true},
		{mmapBytes + gib + 1, 4 << 20, false},
	} {
		if got := mayRemap(mmapBytes, test.file, test.commit); got != test.want {
			t.Errorf("mayRemap(%d, %d) = %t", test.file, test.commit, got)
		}
	}
}
