package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
)

// address is where the service serves.
func (s *service) at() string {
	address := <-s.address
	s.address <- address
	return address
}

// attach stores so many KiB, in interactions whose names begin alike.
func (s *service) attachKiB(t testing.TB, prefix string, kib int) {
	t.Helper()
	source := rand.New(rand.NewPCG(1, 2))
	for i := range kib/200 + 1 {
		value := make([]byte, 100<<10)
		for j := range value {
			value[j] = byte('a' + source.IntN(26))
		}
		_, err := s.blocks.AttachedData(t.Context(), &zendeskv1.AttachedDataRequest{
			InteractionId: fmt.Sprint(prefix, i), Data: map[string]string{"a": string(value), "b": string(value)},
		})
		must(t, err)
	}
}

// A backup of a server that others call goes to a file, or to standard output, and never over another; restored elsewhere it
// is looked at, and served, and refused where it would do harm.
func TestBackupCommands(t *testing.T) {
	dir := t.TempDir()
	tokens := filepath.Join(dir, "tokens")
	admin := createToken(t, "--token-file", tokens, "--name", "x", "--role", "admin")
	operator := createToken(t, "--token-file", tokens, "--name", "x", "--role", "operator")
	credential := writeFile(t, filepath.Join(dir, "credential"), operator+"\n", 0o600)
	s := startService(t, "--token-file", tokens)
	_, err := s.accounts.CreateAccount(bearer(t.Context(), admin), &zendeskv1.CreateAccountRequest{AccountId: "one", Account: &zendeskv1.Account{Name: "One", Url: "https://one.zendesk.com"}})
	must(t, err)
	file := filepath.Join(dir, "backup")
	backup := func(env map[string]string, args ...string) (string, error) {
		stdout, stderr, err := runCommand(t, env, append([]string{"backup", "--server", s.at()}, args...)...)
		if strings.Contains(stdout+stderr, operator) {
			t.Error("the token is shown")
		}
		return stdout, err
	}
	for name, test := range map[string]struct {
		env  map[string]string
		args []string
		says string
	}{
		"no credential":    {nil, []string{file}, "UNAUTHENTICATED"},
		"another role":     {map[string]string{tokenVariable: admin}, []string{file}, "PERMISSION_DENIED"},
		"a file of tokens": {nil, []string{file, "--credential-file", tokens}, "alone in one line"},
		"nobody there":     {nil, []string{file, "--server", "127.0.0.1:1"}, "UNAVAILABLE"},
		"no folder":        {map[string]string{tokenVariable: operator}, []string{filepath.Join(dir, "none", "backup")}, "no such file"},
	} {
		if _, err := backup(test.env, test.args...); err == nil || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if left, err := filepath.Glob(file + "*"); err != nil || len(left) > 0 {
		t.Errorf("there are %v, %v", left, err)
	}
	writeFile(t, file+".partial", strings.Repeat("left by one that was killed", 10_000), 0o600)
	if said, err := backup(nil, file, "--credential-file", credential); err != nil || !strings.Contains(said, "holds the data of") {
		t.Fatalf("%q, %v", said, err)
	}
	if _, err := os.Stat(file + ".partial"); !os.IsNotExist(err) || modeOf(t, file) != 0o600 {
		t.Errorf("%v; the mode is %v", err, modeOf(t, file))
	}
	if _, err := backup(nil, file, "--credential-file", credential); err == nil || !strings.Contains(err.Error(), "not replaced") {
		t.Errorf("over another backup: %v", err)
	}
	piped, err := backup(map[string]string{tokenVariable: operator}, "-")
	must(t, err)
	pipedFile := writeFile(t, filepath.Join(dir, "piped"), piped, 0o600)

	data := filepath.Join(dir, "restored.db")
	restore := func(args ...string) (string, error) {
		stdout, _, err := runCommand(t, nil, append([]string{"restore"}, args...)...)
		return stdout, err
	}
	if said, err := restore(file, "--data", data); err != nil || !strings.Contains(said, "serve refuses it until") {
		t.Errorf("%q, %v", said, err)
	}
	if said, err := restore(pipedFile, "--data", data, "--replace", "--key-file", s.keyFile()); err != nil || !strings.Contains(said, "which "+s.keyFile()+" has") || !strings.Contains(said, data+".replaced-") {
		t.Errorf("%q, %v", said, err)
	}
	for name, test := range map[string]struct {
		args []string
		says string
	}{
		"there already": {[]string{file, "--data", data}, "--replace"},
		"in use":        {[]string{file, "--data", s.dataFile(), "--replace"}, "in use"},
		"cut short":     {[]string{writeFile(t, filepath.Join(dir, "cut"), piped[:len(piped)-100], 0o600), "--data", data + "2"}, "cut short"},
	} {
		if _, err := restore(test.args...); err == nil || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}

	var report fileReport
	stdout, _, err := runCommand(t, nil, "check", pipedFile, "--key-file", s.keyFile(), "--json")
	must(t, err)
	must(t, json.Unmarshal([]byte(stdout), &report))
	if report.Backup == nil || report.Accounts != 1 || report.FindingCount != 0 || report.Values == 0 {
		t.Errorf("the report is %s", stdout)
	}
	if stdout, _, err := runCommand(t, nil, "check", filepath.Join(dir, "cut"), "--no-key"); err == nil || !strings.Contains(stdout, "cut short") {
		t.Errorf("%q, %v", stdout, err)
	}
	if _, _, err := runCommand(t, nil, "check", s.dataFile()); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a file in use: %v", err)
	}
	for _, args := range [][]string{{"serve", "--listen", "127.0.0.1:0", "--data", file}, {"compact", "--data", file}, {"keys", "drop", "--data", file, "--key", "1"}} {
		if _, _, err := runCommand(t, nil, args...); err == nil || !strings.Contains(err.Error(), "backup") {
			t.Errorf("%v of a backup: %v", args, err)
		}
	}

	p := startProgram(t, "serve", "--listen", "127.0.0.1:0", "--data", data, "--key-file", s.keyFile(), "--no-writes")
	p.await(t, p.stderr, `msg="(nothing is written to Zendesk)`)
	p.await(t, p.stderr, `msg=serving address=(\S+)`)
	if log := p.stderr.String(); !strings.Contains(log, "the data come from a backup") {
		t.Errorf("the log is\n%s", log)
	}
}

// A backup whose server or whose caller is killed amid it leaves no file that passes for one, and no copy beside the data: the
// next one is whole.
func TestKillAmidBackup(t *testing.T) {
	s := startService(t)
	s.attachKiB(t, "call-", 20<<10)
	file := filepath.Join(t.TempDir(), "backup")
	for round := range 6 {
		if err := os.Remove(file + ".partial"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
		p := startProgram(t, "backup", "--server", s.at(), file)
		until(t, "the backup has begun", func() bool {
			info, err := os.Stat(file + ".partial")
			_, done := os.Stat(file)
			return err == nil && info.Size() > int64(round)<<18 || done == nil
		})
		if round%2 == 0 {
			p.signal(t, syscall.SIGKILL)
		} else {
			s.kill(t)
		}
		code := p.exitCode(t)
		if _, err := os.Stat(file); err == nil { // it was faster
			if _, _, err := runCommand(t, nil, "check", file, "--no-key"); err != nil {
				t.Errorf("with exit code %d: %v", code, err)
			}
			must(t, os.Remove(file))
		} else if code == 0 {
			t.Error("there is no backup, and the exit code is 0")
		}
		if round%2 == 1 {
			s.start(t)
		}
		if left, err := filepath.Glob(filepath.Join(s.dir, ".*")); err != nil || len(left) > 0 {
			t.Errorf("beside the data: %v, %v", left, err)
		}
	}
	until(t, "the server makes another one", func() bool {
		_, _, err := runCommand(t, nil, "backup", "--server", s.at(), file)
		return err == nil
	})
	if stdout, _, err := runCommand(t, nil, "check", file, "--key-file", s.keyFile()); err != nil {
		t.Errorf("%v\n%s", err, stdout)
	}
}

// A restore that is killed amid it leaves the data file as it was; repeated, it is done, and nothing of the first is left. So it
// is with the first start after it.
func TestKillAmidRestore(t *testing.T) {
	sandbox := startSandbox(t)
	s := startService(t, "--allow-host", hostOf(sandbox.origin))
	s.createAccount(t, "default", sandbox.origin)
	sandbox.addFault(t, map[string]any{"path_prefix": "/api/v2/ticket", "status": 503})
	const activities = 60
	for i := range activities {
		_, err := s.interactions.CompleteInteraction(t.Context(), &zendeskv1.CompleteInteractionRequest{
			InteractionId: fmt.Sprint("call-", i), IfNoTicket: zendeskv1.IfNoTicket_IF_NO_TICKET_CREATE,
			Details: &zendeskv1.ActivityDetails{Notes: strings.Repeat(fmt.Sprint(i, " "), 10_000)},
		})
		must(t, err)
	}
	s.attachKiB(t, "data-", 20<<10)
	dir := t.TempDir()
	file := filepath.Join(dir, "backup")
	_, _, err := runCommand(t, nil, "backup", "--server", s.at(), file)
	must(t, err)
	s.kill(t)
	before, err := os.ReadFile(s.dataFile())
	must(t, err)

	for round := range 8 {
		p := startProgram(t, "restore", file, "--data", s.dataFile(), "--replace")
		until(t, "the restore has begun", func() bool {
			left, err := filepath.Glob(s.dataFile() + ".restoring-*")
			must(t, err)
			select {
			case <-p.exited:
				return true
			default:
				return len(left) > 0 && sizeOf(left[0]) >= int64(round)<<20
			}
		})
		p.signal(t, syscall.SIGKILL)
		if p.exitCode(t) == 0 {
			break
		}
		after, err := os.ReadFile(s.dataFile())
		must(t, err)
		checked, _, checkErr := runCommand(t, nil, "check", s.dataFile(), "--key-file", s.keyFile())
		if !bytes.Equal(before, after) && (checkErr != nil || !strings.Contains(checked, "RESTORED AT")) {
			t.Errorf("the data file is neither the old one nor the new one: %v\n%s", checkErr, checked)
		}
	}
	_, _, err = runCommand(t, nil, "restore", file, "--data", s.dataFile(), "--replace")
	must(t, err)
	if left, err := filepath.Glob(s.dataFile() + ".restoring-*"); err != nil || len(left) > 0 {
		t.Errorf("there are %v, %v", left, err)
	}

	// The first start is killed amid what it does about the past, and then it is not.
	for range 3 {
		p := startProgram(t, "serve", "--listen", "127.0.0.1:0", "--data", s.dataFile(), "--no-writes")
		p.await(t, p.stderr, `msg="?(the data come from a backup|serving) `) // it says the first until it has done it
		p.signal(t, syscall.SIGKILL)
		p.exitCode(t)
	}
	s.start(t)
	sandbox.clearFaults(t)
	if stdout, _, err := runCommand(t, nil, "check", file, "--key-file", s.keyFile()); err != nil {
		t.Errorf("%v\n%s", err, stdout)
	}
	_, err = s.blocks.AttachedData(t.Context(), &zendeskv1.AttachedDataRequest{InteractionId: "data-0", Data: map[string]string{"c": "d"}})
	must(t, err)
}

func quantile(times []time.Duration, q float64) time.Duration {
	slices.Sort(times)
	return times[int(q*float64(len(times)-1))]
}

func sizeOf(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// A full disk refuses a backup, a restore and a compaction, each with one sentence, and costs nothing else anything.
func TestBackupOnFullDisk(t *testing.T) {
	disk := smallDisk(t, "48m") // less than a backup leaves free
	s := startServiceIn(t, disk)
	s.attachKiB(t, "call-", 4<<10)
	file := filepath.Join(t.TempDir(), "backup")
	_, _, err := runCommand(t, nil, "backup", "--server", s.at(), file)
	if err == nil || !strings.Contains(err.Error(), "no room") {
		t.Errorf("the backup: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := s.blocks.AttachedData(ctx, &zendeskv1.AttachedDataRequest{InteractionId: "call-0", Data: map[string]string{"c": "d"}}); status.Code(err) != codes.OK {
		t.Errorf("a call after that: %v", err)
	}
	if log := s.process().stderr.String(); strings.Contains(log, "NOT_SERVING") {
		t.Errorf("the service suffers:\n%s", log)
	}
	s.stop(t)
	before, err := os.ReadFile(s.dataFile())
	must(t, err)
	fill := filepath.Join(disk, "fill")
	file2, err := os.Create(fill)
	must(t, err)
	for chunk := make([]byte, 1<<20); err == nil; {
		_, err = file2.Write(chunk)
	}
	must(t, file2.Close())
	if _, _, err := runCommand(t, nil, "compact", "--data", s.dataFile()); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("compact: %v", err)
	}
	// A backup made where there is room does not fit where there is none.
	roomy := startService(t)
	roomy.attachKiB(t, "call-", 2<<10)
	_, _, err = runCommand(t, nil, "backup", "--server", roomy.at(), file)
	must(t, err)
	if _, _, err := runCommand(t, nil, "restore", file, "--data", s.dataFile(), "--replace"); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("restore: %v", err)
	}
	after, err := os.ReadFile(s.dataFile())
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the data file has changed, %v", err)
	}
	must(t, os.Remove(fill))
	entries, err := os.ReadDir(disk)
	must(t, err)
	for _, entry := range entries {
		if name := entry.Name(); name != "data.db" && name != "data.db.key" && name != "data.db.audit" {
			t.Errorf("there is %s", name)
		}
	}
	s.start(t)
}

// The time that a backup takes from others is told with -v: nothing is judged here, for machines differ.
func BenchmarkUpdatesDuringBackup(b *testing.B) {
	s := startService(b)
	s.attachKiB(b, "call-", 100<<10)
	for _, beside := range []bool{false, true} {
		b.Run(fmt.Sprintf("backup=%t", beside), func(b *testing.B) {
			ctx, cancel := context.WithCancel(b.Context())
			done := make(chan struct{})
			go func() {
				defer close(done)
				for i := 0; beside && ctx.Err() == nil; i++ {
					_ = run(ctx, []string{"backup", "--server", s.at(), filepath.Join(b.TempDir(), fmt.Sprint(i))}, nil, &bytes.Buffer{}, &bytes.Buffer{})
				}
			}()
			var times []time.Duration
			for b.Loop() {
				began := time.Now()
				_, err := s.blocks.AttachedData(ctx, &zendeskv1.AttachedDataRequest{InteractionId: "update", Data: map[string]string{"a": "b"}})
				must(b, err)
				times = append(times, time.Since(began))
			}
			cancel()
			<-done
			b.ReportMetric(float64(quantile(times, 0.5).Microseconds()), "p50-µs")
			b.ReportMetric(float64(quantile(times, 0.99).Microseconds()), "p99-µs")
		})
	}
}
