package main

import (
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
)

func TestBuiltAs(t *testing.T) {
	vcs := &debug.BuildInfo{
		GoVersion: "go1.26.8", Main: debug.Module{Version: "v0.3.0"},
		Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "c0ffee"}, {Key: "vcs.time", Value: "2026-11-26T16:00:00Z"}, {Key: "vcs.modified", Value: "true"}},
	}
	for name, test := range map[string]struct {
		stamped build
		info    *debug.BuildInfo
		want    build
		line    string
	}{
		"nothing known":      {build{}, nil, build{Version: "(devel)"}, "(devel)"},
		"no version control": {build{}, &debug.BuildInfo{GoVersion: "go1.26.8"}, build{Version: "(devel)", Go: "go1.26.8"}, "(devel) (built with go1.26.8)"},
		"version control": {
			build{}, vcs, build{Version: "v0.3.0", Commit: "c0ffee+dirty", Date: "2026-11-26T16:00:00Z", Go: "go1.26.8"},
			"v0.3.0 (commit c0ffee+dirty, of 2026-11-26T16:00:00Z, built with go1.26.8)",
		},
		"stamped": {
			build{Version: "v1.2.3", Commit: "abcdef", Date: "2026-12-01T00:00:00Z"}, vcs,
			build{Version: "v1.2.3", Commit: "abcdef", Date: "2026-12-01T00:00:00Z", Go: "go1.26.8"},
			"v1.2.3 (commit abcdef, of 2026-12-01T00:00:00Z, built with go1.26.8)",
		},
		"stamped with a commit alone": {
			build{Commit: "abcdef"}, vcs, build{Version: "v0.3.0", Commit: "abcdef", Go: "go1.26.8"}, "v0.3.0 (commit abcdef, built with go1.26.8)",
		},
	} {
		got := builtAs(test.stamped, test.info)
		if got != test.want || got.String() != test.line {
			t.Errorf("%s: %+v, %q; want %+v, %q", name, got, got, test.want, test.line)
		}
	}
}

// The names that release builds stamp are those of the program.
func TestStampedBuild(t *testing.T) {
	t.Parallel()
	binary := filepath.Join(t.TempDir(), "zendeskblocks")
	const stamps = "-X main.buildVersion=v1.2.3 -X main.buildCommit=abcdef -X main.buildDate=2026-12-01T00:00:00Z"
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-ldflags", stamps, "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	for _, arg := range []string{"version", "--version"} {
		out, err := exec.CommandContext(t.Context(), binary, arg).Output()
		if want := "zendeskblocks v1.2.3 (commit abcdef, of 2026-12-01T00:00:00Z, built with go1."; err != nil || !strings.HasPrefix(string(out), want) {
			t.Errorf("%s: %q, %v; want %q", arg, out, err, want)
		}
	}
}
