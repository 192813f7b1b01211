package main

import (
	"cmp"
	"fmt"
	"runtime/debug"
	"strings"
)

// What a build that knows better than the Go tool stamps in, as one from an archive without version control does:
//
//	go build -ldflags "-X main.buildVersion=v1.2.3 -X main.buildCommit=$COMMIT -X main.buildDate=2026-11-26T16:00:00Z" ./cmd/zendeskblocks
var (
	buildVersion string // of the release, such as v1.2.3
	buildCommit  string // the revision, in hexadecimal digits
	buildDate    string // of the commit, or of the build; RFC 3339
)

// build says which build of the program runs. What is not known is empty, but for the version, which is "(devel)" then.
type build struct {
	Version string
	Commit  string // of a tree that was changed since: with "+dirty" after it
	Date    string
	Go      string // such as go1.26.1
}

// buildInfo is what was stamped in, and else what the Go tool knows of the module and its version control.
func buildInfo() build {
	info, _ := debug.ReadBuildInfo()
	return builtAs(build{Version: buildVersion, Commit: buildCommit, Date: buildDate}, info)
}

// builtAs fills in what was not stamped. A commit and a date of different origins would contradict each other: the Go tool
// dates its own commit only.
func builtAs(b build, info *debug.BuildInfo) build {
	if info != nil {
		b.Version = cmp.Or(b.Version, info.Main.Version)
		b.Go = info.GoVersion
		setting := map[string]string{}
		for _, s := range info.Settings {
			setting[s.Key] = s.Value
		}
		if b.Commit == "" {
			b.Commit, b.Date = setting["vcs.revision"], cmp.Or(b.Date, setting["vcs.time"])
			if b.Commit != "" && setting["vcs.modified"] == "true" {
				b.Commit += "+dirty"
			}
		}
	}
	b.Version = cmp.Or(b.Version, "(devel)")
	return b
}

// String is one line.
func (b build) String() string {
	var details []string
	for _, detail := range []struct{ name, value string }{{"commit", b.Commit}, {"of", b.Date}, {"built with", b.Go}} {
		if detail.value != "" {
			details = append(details, detail.name+" "+detail.value)
		}
	}
	if len(details) == 0 {
		return b.Version
	}
	return fmt.Sprintf("%s (%s)", b.Version, strings.Join(details, ", "))
}

type versionCommand struct{}

// Run prints the version.
func (versionCommand) Run(p *process) error {
	_, err := fmt.Fprintln(p.stdout, programVersion())
	return err
}

// programVersion is what the version command and flag print.
func programVersion() string { return "zendeskblocks " + buildInfo().String() }

// version is the version alone, for those who are told who asks.
func version() string { return buildInfo().Version }
