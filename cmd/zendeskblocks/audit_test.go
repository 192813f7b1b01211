package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
)

// eventsOf are the events of an audit, with the accounts that they are about. No line is there twice.
func eventsOf(t testing.TB, path string) (events []string) {
	t.Helper()
	ids := make(map[any]bool)
	for _, line := range auditOf(t, path) {
		if ids[line["id"]] {
			t.Errorf("a line is there twice: %v", line)
		}
		ids[line["id"]] = true
		account, _ := line["account_id"].(string)
		event, _ := line["event"].(string)
		events = append(events, event+" "+account)
	}
	return events
}

// What was acknowledged while the audit's disk was full is in the audit of the next process, also when this one is killed
// before it could write it; and what is moved away is continued in a new file.
func TestAuditOutlivesDiskAndProcess(t *testing.T) {
	disk := smallDisk(t, "64k")
	path, ballast := filepath.Join(disk, "audit"), filepath.Join(disk, "ballast")
	const torn = "{\"event\":\"torn\"}" // as a crash leaves it; the page that it ends in has no room
	must(t, os.WriteFile(path, []byte(strings.Repeat(" ", os.Getpagesize()-len(torn))+torn), 0o600))
	fill(t, ballast)
	s := startService(t, "--audit-log", path)
	s.createAccount(t, "one", "https://acme.zendesk.com")
	s.process().await(t, s.process().stderr, "the audit cannot be written")
	s.createAccount(t, "two", "https://acme.zendesk.com")
	s.kill(t)
	must(t, os.Remove(ballast))
	s.start(t)
	update := func(ctx context.Context, region string) {
		_, err := s.accounts.UpdateAccount(ctx, &zendeskv1.UpdateAccountRequest{
			Account: &zendeskv1.Account{AccountId: "one", DefaultRegion: region},
		}, grpc.WaitForReady(true))
		must(t, err)
	}
	update(t.Context(), "DE")
	want := []string{"torn ", "account created one", "account created two", "account updated one"}
	until(t, "the audit has all", func() bool { return len(auditOf(t, path)) == len(want) })

	must(t, os.Rename(path, path+".1"))
	s.process().signal(t, syscall.SIGHUP)
	s.process().await(t, s.process().stderr, "opened the audit anew")
	update(t.Context(), "FR")
	s.stop(t)
	for path, want := range map[string][]string{path + ".1": want, path: {"account updated one"}} {
		if got := eventsOf(t, path); !slices.Equal(got, want) {
			t.Errorf("%s has %q, want %q", path, got, want)
		}
	}
}

// fill makes a file that takes the rest of a disk.
func fill(t testing.TB, path string) {
	t.Helper()
	file, err := os.Create(path)
	must(t, err)
	_, err = io.Copy(file, zeros{})
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	must(t, file.Close())
}

// Killed at any moment amid changes, the service loses no line of what was acknowledged, and notes nothing that did not happen,
// also while it rotates.
func TestAuditOutlivesKills(t *testing.T) {
	s := startService(t, "--audit-max-size", "1", "--max-accounts", "0")
	path := s.dataFile() + ".audit"
	// crowd leaves little room in the audit, so that it is rotated soon.
	crowd := func() {
		file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		must(t, err)
		filler := []byte("{}" + strings.Repeat(" ", 1<<20-5000) + "\n")
		_, err = file.Write(filler)
		must(t, errors.Join(err, file.Close()))
	}
	crowd()
	var acknowledged []string
	for round := range 5 {
		ctx, cancel := context.WithCancel(t.Context())
		killed := make(chan struct{})
		for i := range 1000 {
			id := string(rune('a'+round)) + "-" + string(rune('a'+i/26)) + string(rune('a'+i%26))
			if i == 30+7*round {
				go func() {
					defer close(killed)
					s.kill(t)
				}()
			}
			_, err := s.accounts.CreateAccount(ctx, &zendeskv1.CreateAccountRequest{AccountId: id, Account: &zendeskv1.Account{Name: id, Url: "https://acme.zendesk.com"}},
				grpc.WaitForReady(i == 0))
			if err != nil {
				break
			}
			acknowledged = append(acknowledged, id)
		}
		<-killed
		cancel()
		crowd()
		s.start(t)
	}
	s.createAccount(t, "last", "https://acme.zendesk.com")
	s.stop(t)
	times := make(map[string]int)
	files, err := filepath.Glob(path + "*")
	must(t, err)
	if len(files) < 3 {
		t.Errorf("the audit was not rotated: %q", files)
	}
	for _, file := range files {
		for _, line := range auditOf(t, file) {
			if account, ok := line["account_id"].(string); ok {
				times[account]++
			}
		}
	}
	for _, id := range append(acknowledged, "last") {
		if times[id] != 1 {
			t.Errorf("account %q was created, and is %d times in the audit", id, times[id])
		}
	}
	s.start(t)
	for id := range times {
		if _, err := persist(t.Context(), s.accounts.GetAccount, &zendeskv1.GetAccountRequest{AccountId: id}); err != nil {
			t.Errorf("account %q is in the audit: %v", id, err)
		}
	}
}
