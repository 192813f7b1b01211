package main

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
)

// keyIDs lists the keys of a key file: the primary one, and the others.
func keyIDs(t *testing.T, file string) (primary string, others []string) {
	t.Helper()
	stdout, _, err := runCommand(t, nil, "keys", "list", "--key-file", file)
	must(t, err)
	for _, row := range regexp.MustCompile(`(?m)^(\d+) +ENABLED *(yes)? *$`).FindAllStringSubmatch(stdout, -1) {
		if row[2] == "yes" {
			primary = row[1]
		} else {
			others = append(others, row[1])
		}
	}
	if primary == "" {
		t.Fatalf("keys list shows no primary key:\n%s", stdout)
	}
	return primary, others
}

// TestKeysCreate makes a key file that a first start takes, and never another in its place.
func TestKeysCreate(t *testing.T) {
	dir := t.TempDir()
	file, audit := filepath.Join(dir, "data.db.key"), filepath.Join(dir, "audit")
	said, _, err := runCommand(t, nil, "keys", "create", "--key-file", file, "--audit-log", audit)
	must(t, err)
	made, _ := keyIDs(t, file)
	if !strings.Contains(said, "Key "+made+" is in "+file) {
		t.Errorf("it says %q of key %s", said, made)
	}
	noted, err := os.ReadFile(audit)
	must(t, err)
	if !strings.Contains(string(noted), `"create"`) {
		t.Errorf("the audit has %s", noted)
	}
	if _, _, err := runCommand(t, nil, "keys", "create", "--key-file", file, "--audit-log", audit); err == nil || !strings.Contains(err.Error(), "is there already") {
		t.Errorf("a second one: %v", err)
	}
	if kept, others := keyIDs(t, file); kept != made || len(others) > 0 {
		t.Errorf("then the key file has %s and %s", kept, others)
	}
	s := &service{dir: dir, address: make(chan string, 1)}
	s.start(t)
	if kept, _ := keyIDs(t, s.keyFile()); kept != made {
		t.Errorf("a start has made another key")
	}
}

// TestKeysRotate replaces a key for good, as the help says, on a server that is killed on the way.
func TestKeysRotate(t *testing.T) {
	s := startService(t)
	account := func(id string) {
		t.Helper()
		resp, err := persist(t.Context(), s.accounts.GetAccount, &zendeskv1.GetAccountRequest{AccountId: id})
		must(t, err)
		if resp.GetAccount().GetAccountId() != id {
			t.Errorf("account is %v, want %q", resp.GetAccount(), id)
		}
	}
	s.createAccount(t, "before", "https://acme.zendesk.com")
	old, _ := keyIDs(t, s.keyFile())

	audit := filepath.Join(t.TempDir(), "audit")
	_, _, err := runCommand(t, nil, "keys", "rotate", "--key-file", s.keyFile(), "--audit-log", audit)
	must(t, err)
	primary, others := keyIDs(t, s.keyFile())
	if primary == old || len(others) != 1 || others[0] != old {
		t.Fatalf("after the rotation, the primary key is %s and the others are %s; it was %s", primary, others, old)
	}
	s.process().signal(t, syscall.SIGHUP)
	s.process().await(t, s.process().stderr, `took over the key file".* primary_key_id=`+primary)
	s.createAccount(t, "between", "https://acme.zendesk.com")
	drop := []string{"keys", "drop", "--data", s.dataFile(), "--key", old, "--audit-log", audit}
	if _, _, err := runCommand(t, nil, drop...); err == nil || !strings.Contains(err.Error(), s.dataFile()) {
		t.Errorf("a key was dropped while the server runs: %v", err)
	}
	s.kill(t)
	s.start(t)
	account("before")
	account("between")
	if _, others := keyIDs(t, s.keyFile()); len(others) != 1 {
		t.Errorf("the other keys are %s, want %s", others, old)
	}
	s.stop(t)
	s.start(t) // the work has ended before the kill, or ends now
	done := regexp.MustCompile(`all values are sealed with the primary key" primary_key_id=` + primary)
	until(t, "all values are sealed with the primary key", func() bool {
		for _, p := range s.processes {
			if done.MatchString(p.stderr.String()) {
				return true
			}
		}
		return false
	})
	s.stop(t)

	_, _, err = runCommand(t, nil, drop...)
	must(t, err)
	if primaryNow, others := keyIDs(t, s.keyFile()); primaryNow != primary || len(others) > 0 {
		t.Errorf("after the drop, the primary key is %s and the others are %s", primaryNow, others)
	}
	if _, _, err := runCommand(t, nil, "keys", "drop", "--data", s.dataFile(), "--key", primary); err == nil {
		t.Error("the only key was dropped")
	}
	noted, err := os.ReadFile(audit)
	must(t, err)
	if !regexp.MustCompile(`^{.*"action":"add".*"key_id":` + primary + `}\n{.*"action":"drop".*"key_id":` + old + `}\n$`).Match(noted) {
		t.Errorf("the audit is %s", noted)
	}
	_, _, err = runCommand(t, nil, "compact", "--data", s.dataFile())
	must(t, err)
	s.start(t)
	account("before")
	account("between")
	if _, _, err := runCommand(t, nil, "compact", "--data", s.dataFile()); err == nil {
		t.Error("the data file was compacted while the server runs")
	}
}

// TestReloadOfBrokenKeyFile has one line in the log say so, and the server go on.
func TestReloadOfBrokenKeyFile(t *testing.T) {
	s := startService(t)
	good, err := os.ReadFile(s.keyFile())
	must(t, err)
	foreign := filepath.Join(t.TempDir(), "key")
	writeKey(t, foreign)
	other, err := os.ReadFile(foreign)
	must(t, err)
	refused := regexp.MustCompile(`level=ERROR msg="keys were not reloaded; those read before stay in use" error="key file `)
	for i, content := range [][]byte{nil, good[:len(good)/2], []byte("no key"), other} {
		must(t, os.WriteFile(s.keyFile(), content, 0o600))
		s.process().signal(t, syscall.SIGHUP)
		until(t, "the log says that the key file was refused", func() bool {
			return len(refused.FindAllString(s.process().stderr.String(), -1)) == i+1
		})
		s.createAccount(t, "after-"+string(rune('a'+i)), "https://acme.zendesk.com")
	}
	must(t, os.WriteFile(s.keyFile(), good, 0o600))
	s.process().signal(t, syscall.SIGHUP)
	s.process().await(t, s.process().stderr, `took over the key file`)
	s.kill(t)
	s.start(t)
	resp, err := persist(context.Background(), s.accounts.ListAccounts, &zendeskv1.ListAccountsRequest{})
	must(t, err)
	if got := len(resp.GetAccounts()); got != 4 {
		t.Errorf("%d accounts, want 4", got)
	}
}
