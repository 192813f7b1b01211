package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/store/keyfile"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// mainVariable makes the test binary the program.
const mainVariable = "RUN_MAIN_OF_ZENDESKBLOCKS"

// patience ends a test that waits for what never comes. No test takes long to succeed.
const patience = time.Minute

// TestMain runs the tests, or, in the processes that tests start, the program itself.
func TestMain(m *testing.M) {
	if os.Getenv(mainVariable) == "" {
		m.Run()
		return
	}
	go func() {
		// The other end of standard input closes when the test's process ends, however it does: nothing outlives it.
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(3)
	}()
	main()
}

// program is zendeskblocks as a process of its own.
type program struct {
	cmd            *exec.Cmd
	stdout, stderr *output
	exited         chan struct{} // closed when the process has ended and all of its output is here
}

// startProgram starts the program with a command line, and none of its variables set. It is killed when the test ends.
func startProgram(t testing.TB, args ...string) *program {
	t.Helper()
	return startProgramBy(t, nil, newOutput(), args...)
}

// startProgramBy is startProgram by way of another command, if there is one, which runs what follows its arguments, and with
// another standard error.
func startProgramBy(t testing.TB, by []string, stderr io.Writer, args ...string) *program {
	t.Helper()
	binary, err := os.Executable()
	must(t, err)
	command := slices.Concat(by, []string{binary}, args)
	p := &program{
		cmd:    exec.Command(command[0], command[1:]...),
		stdout: newOutput(), stderr: newOutput(),
		exited: make(chan struct{}),
	}
	if shown, ok := stderr.(*output); ok {
		p.stderr = shown
	}
	p.cmd.Env = append(slices.DeleteFunc(os.Environ(), func(variable string) bool {
		return strings.HasPrefix(variable, envPrefix)
	}), mainVariable+"=1", envName("admin-listen")+"="+off, envName("web-listen")+"="+off, "GORACE=atexit_sleep_ms=0")
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, stderr
	stdin, err := p.cmd.StdinPipe()
	must(t, err)
	must(t, p.cmd.Start())
	go func() {
		defer close(p.exited)
		_ = p.cmd.Wait() // its error is the exit code, which exitCode tells
		_ = stdin.Close()
	}()
	t.Cleanup(func() {
		p.signal(t, syscall.SIGKILL)
		p.exitCode(t)
		log := p.stderr.String()
		if strings.Contains(log, "DATA RACE") {
			t.Error("the process has a data race")
		}
		if t.Failed() {
			t.Logf("standard error of zendeskblocks %s:\n%s", strings.Join(args, " "), log)
		}
	})
	return p
}

// signal sends a signal, unless the process has ended.
func (p *program) signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
}

// exitCode waits for the end of the process; -1 when a signal ended it.
func (p *program) exitCode(t testing.TB) int {
	t.Helper()
	select {
	case <-p.exited:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		t.Fatal("the process does not end")
		return 0
	}
}

// await waits until the process has written what the pattern matches, and returns its first group.
func (p *program) await(t testing.TB, o *output, pattern string) string {
	t.Helper()
	late := time.After(patience)
	for exited := false; ; {
		text, changed := o.current()
		if match := regexp.MustCompile(pattern).FindStringSubmatch(text); match != nil {
			return match[len(match)-1]
		}
		if exited {
			t.Fatalf("the process ended, with code %d, without writing %q", p.exitCode(t), pattern)
		}
		select {
		case <-changed:
		case <-p.exited:
			exited = true
		case <-late:
			t.Fatalf("the process does not write %q", pattern)
		}
	}
}

// output is what a process has written so far.
type output struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{} // closed by the next write
}

func newOutput() *output { return &output{changed: make(chan struct{})} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.changed)
	o.changed = make(chan struct{})
	return o.text.Write(p)
}

func (o *output) current() (text string, changed <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String(), o.changed
}

func (o *output) String() string {
	text, _ := o.current()
	return text
}

// service is one data file and the process that serves it; over time, many processes. Its clients stay connected to
// whichever runs: a call with grpc.WaitForReady waits until one does.
type service struct {
	accounts     zendeskv1.AccountServiceClient
	blocks       zendeskv1.BlockServiceClient
	interactions zendeskv1.InteractionServiceClient

	dir       string // holds the data file and its key, and nothing else
	database  string // address; empty: the data is in the file
	flags     []string
	processes []*program  // the last one is the one that runs, if any does
	address   chan string // holds the address while a process serves
}

// startService starts `serve` with these flags on a new data file.
func startService(t testing.TB, flags ...string) *service {
	t.Helper()
	return startServiceIn(t, t.TempDir(), flags...)
}

// startServiceIn is startService with the data file in a folder.
func startServiceIn(t testing.TB, dir string, flags ...string) *service {
	t.Helper()
	s := &service{dir: dir, flags: flags, address: make(chan string, 1)}
	if s.database = onDatabases.make(t); s.database != "" {
		must(t, keyfile.Make(s.keyFile()))
	}
	conn, err := grpc.NewClient("passthrough:///zendeskblocks",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(s.dial),
		// dial waits for the next process: there is no reason to wait longer.
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: time.Millisecond, MaxDelay: time.Millisecond}, MinConnectTimeout: patience}))
	must(t, err)
	t.Cleanup(func() { must(t, conn.Close()) })
	s.accounts = zendeskv1.NewAccountServiceClient(conn)
	s.blocks = zendeskv1.NewBlockServiceClient(conn)
	s.interactions = zendeskv1.NewInteractionServiceClient(conn)
	s.start(t)
	return s
}

func (s *service) dial(ctx context.Context, _ string) (net.Conn, error) {
	select {
	case address := <-s.address:
		s.address <- address
		return (&net.Dialer{}).DialContext(ctx, "tcp", address)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *service) dataFile() string { return filepath.Join(s.dir, "data.db") }
func (s *service) keyFile() string  { return s.dataFile() + ".key" }

// start starts a process on the data file, where none may be running, and waits until it serves.
func (s *service) start(t testing.TB) {
	t.Helper()
	where := []string{"--data", s.dataFile()}
	if s.database != "" {
		where = []string{"--store", s.database, "--key-file", s.keyFile(), "--audit-log", s.dataFile() + ".audit"}
	}
	p := startProgram(t, slices.Concat([]string{"serve", "--listen", "127.0.0.1:0", "--drain-delay", "0s"}, where, s.flags)...)
	s.processes = append(s.processes, p)
	s.address <- p.await(t, p.stderr, `msg=serving address=(\S+)`)
}

// process returns the process that was started last.
func (s *service) process() *program { return s.processes[len(s.processes)-1] }

// kill ends the process without warning.
func (s *service) kill(t testing.TB) {
	t.Helper()
	<-s.address
	s.process().signal(t, syscall.SIGKILL)
	if code := s.process().exitCode(t); code != -1 {
		t.Fatalf("the process had ended by itself, with code %d", code)
	}
}

// stop tells the process to end and waits until it has.
func (s *service) stop(t testing.TB) {
	t.Helper()
	s.drain(t)
	s.drained(t)
}

// drain tells the process to end. Calls that run may end first; new ones wait for the next process.
func (s *service) drain(t testing.TB) {
	t.Helper()
	<-s.address
	s.process().signal(t, syscall.SIGTERM)
}

// drained waits until the process has ended.
func (s *service) drained(t testing.TB) {
	t.Helper()
	if code := s.process().exitCode(t); code != 0 {
		t.Fatalf("the process ended with code %d", code)
	}
}

// amid runs work, which calls tick so many times, and trouble at one of the ticks, all within some time.
func amid(t testing.TB, within time.Duration, random *rand.Rand, ticks int64, trouble func(), work func(ctx context.Context, tick func()) error) {
	t.Helper()
	at := random.Int64N(ticks) + 1
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	reached, ended := make(chan struct{}), make(chan error, 1)
	reach := sync.OnceFunc(func() { close(reached) })
	var ticked atomic.Int64
	go func() {
		defer reach()
		ended <- work(ctx, func() {
			if ticked.Add(1) >= at {
				reach()
			}
		})
	}()
	<-reached
	trouble()
	must(t, <-ended)
}

// killAmid runs work, which calls tick so many times, and kills and starts the process at a random moment meanwhile: at
// one of the ticks, and then a part of the time that a commit takes. Work is to use persist, and to end by itself.
func (s *service) killAmid(t testing.TB, random *rand.Rand, ticks int64, work func(ctx context.Context, tick func()) error) {
	t.Helper()
	after := time.Duration(random.Int64N(int64(2 * time.Millisecond)))
	amid(t, patience, random, ticks, func() {
		<-time.After(after)
		s.kill(t)
		s.start(t)
	}, work)
}

// createAccount makes an account for the fake Zendesk at an origin.
func (s *service) createAccount(t testing.TB, id, origin string) {
	t.Helper()
	_, err := s.accounts.CreateAccount(t.Context(), &zendeskv1.CreateAccountRequest{AccountId: id, Account: &zendeskv1.Account{
		Name: "Account " + id, Url: origin, DefaultRegion: "US",
		ApiToken: &zendeskv1.ApiToken{Username: zendesktest.Admin.Email, Token: zendesktest.Admin.APIToken},
	}})
	must(t, err)
}

// interaction returns what the service knows of an interaction.
func (s *service) interaction(t testing.TB, id string) *zendeskv1.Interaction {
	t.Helper()
	resp, err := persist(t.Context(), s.interactions.GetInteraction, &zendeskv1.GetInteractionRequest{InteractionId: id})
	must(t, err)
	return resp.GetInteraction()
}

// persist sends a request until a process lives long enough to answer it, and no other one that was killed is taken to run it. It is not for RPCs that report by UNAVAILABLE
// what they did not get from Zendesk.
func persist[Q, R proto.Message](ctx context.Context, rpc method[Q, R], request Q) (R, error) {
	for {
		resp, err := rpc(ctx, request, grpc.WaitForReady(true))
		if status.Code(err) != codes.Unavailable && !inProgress(resp) || ctx.Err() != nil {
			return resp, err
		}
	}
}

// inProgress tells the reply to a repeat whose first execution still runs, as far as is known: whoever ran it may have been killed, and
// is not known to be dead yet.
func inProgress(reply any) bool {
	block, ok := reply.(interface{ GetFailure() *zendeskv1.Failure })
	return ok && block.GetFailure().GetReason() == zendeskv1.FailureReason_FAILURE_REASON_REQUEST_IN_PROGRESS
}

// execution is one execution of a block. Called again it is the repeat of the same request.
type execution func(context.Context) (blockReply, error)

func executionOf[Q proto.Message, R blockReply](rpc method[Q, R], request Q) execution {
	return func(ctx context.Context) (blockReply, error) { return persist(ctx, rpc, request) }
}

// sandboxProcess is a fake Zendesk in a process of its own.
type sandboxProcess struct {
	origin string
}

// startSandbox starts `sandbox` with these flags.
func startSandbox(t testing.TB, flags ...string) *sandboxProcess {
	t.Helper()
	p := startProgram(t, append([]string{"sandbox", "--listen", "127.0.0.1:0"}, flags...)...)
	return &sandboxProcess{origin: p.await(t, p.stdout, `A fake Zendesk is at (\S+)\.\s`)}
}

// requests lists what the fake Zendesk was asked, oldest first.
func (z *sandboxProcess) requests(t testing.TB) []zendesktest.Request {
	t.Helper()
	var requests []zendesktest.Request
	z.do(t, http.MethodGet, "/_sandbox/requests", nil, &requests)
	return requests
}

// addFault sets a fault, in the form that zendesktest.Fault.UnmarshalJSON documents.
func (z *sandboxProcess) addFault(t testing.TB, fault map[string]any) {
	t.Helper()
	z.do(t, http.MethodPost, "/_sandbox/faults", fault, nil)
}

func (z *sandboxProcess) clearFaults(t testing.TB) {
	t.Helper()
	z.do(t, http.MethodDelete, "/_sandbox/faults", nil, nil)
}

// issueCode gets an authorization code that is bound to a PKCE challenge made with S256.
func (z *sandboxProcess) issueCode(t testing.TB, challenge string) string {
	t.Helper()
	var issued struct{ Code string }
	z.do(t, http.MethodPost, "/_sandbox/codes", map[string]any{"code_challenge": challenge, "code_challenge_method": "S256"}, &issued)
	return issued.Code
}

// do sends body and reads into answer; nil means none.
func (z *sandboxProcess) do(t testing.TB, method, path string, body, answer any) {
	t.Helper()
	sent, err := json.Marshal(body)
	must(t, err)
	req, err := http.NewRequestWithContext(t.Context(), method, z.origin+path, bytes.NewReader(sent))
	must(t, err)
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	read, err := io.ReadAll(resp.Body)
	must(t, errors.Join(err, resp.Body.Close()))
	if resp.StatusCode/100 != 2 {
		t.Fatalf("the sandbox answered %s %s with %s: %s", method, path, resp.Status, read)
	}
	if answer != nil {
		must(t, json.Unmarshal(read, answer))
	}
}

// until waits until a condition holds that is looked at again and again. What is waited for happens in other processes.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	// What many interactions bring about takes longer, above all with faults on the way, after each of which an account rests.
	late := time.After(patience * time.Duration(3+*interactions/100))
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for !holds() {
		select {
		case <-again.C:
		case <-late:
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// activities lists the activities in a state; unspecified: all.
func (s *service) activities(t testing.TB, state zendeskv1.ActivityState) []*zendeskv1.Activity {
	t.Helper()
	var all []*zendeskv1.Activity
	for request := (&zendeskv1.ListActivitiesRequest{State: state, PageSize: 200}); ; {
		page, err := persist(t.Context(), s.interactions.ListActivities, request)
		must(t, err)
		all = append(all, page.GetActivities()...)
		if request.PageToken = page.GetNextPageToken(); request.PageToken == "" {
			return all
		}
	}
}

// awaitWritten waits until no activity is pending any more.
func (s *service) awaitWritten(t testing.TB) {
	t.Helper()
	until(t, "no activity is pending", func() bool {
		return len(s.activities(t, zendeskv1.ActivityState_ACTIVITY_STATE_PENDING)) == 0
	})
}

// pops lists the pages that the fake Zendesk showed to agents, oldest first.
func (z *sandboxProcess) pops(t testing.TB) []zendesktest.Pop {
	t.Helper()
	var pops []zendesktest.Pop
	z.do(t, http.MethodGet, "/_sandbox/pops", nil, &pops)
	return pops
}

// zendeskTicket is what the fake Zendesk says of a ticket.
type zendeskTicket struct {
	ID         int64     `json:"id"`
	Status     string    `json:"status"`
	ExternalID string    `json:"external_id"`
	UpdatedAt  time.Time `json:"updated_at"`
}

// zendeskAudit is what it says of a change of a ticket.
type zendeskAudit struct {
	ID       int64 `json:"id"`
	Metadata struct {
		Custom map[string]string `json:"custom"`
	} `json:"metadata"`
}

func (z *sandboxProcess) tickets(t testing.TB) []zendeskTicket {
	t.Helper()
	return listOf[zendeskTicket](t, z, "/api/v2/tickets.json", "tickets")
}

// takingTickets returns the ids of so many tickets that take updates.
func (z *sandboxProcess) takingTickets(t testing.TB, count int) []string {
	t.Helper()
	var ids []string
	for _, ticket := range z.tickets(t) {
		if len(ids) < count && ticket.Status != "closed" {
			ids = append(ids, strconv.FormatInt(ticket.ID, 10))
		}
	}
	if len(ids) < count {
		t.Fatalf("the sandbox has %d tickets that take updates, want %d", len(ids), count)
	}
	return ids
}

// written is what activities left in the fake Zendesk.
type written struct {
	audits  map[string][]string // by ticket, interactions by the marks of its audits, oldest first
	created map[string]string   // by ticket, those that were created: the interaction by the mark in the external id
	ids     map[string]string   // by interaction, the audit with its mark: the last one, if there are more
}

// mark is how an activity is known in Zendesk. Its group is the interaction.
var mark = regexp.MustCompile(`^zendeskblocks:[^:]+:default:([^:]+)$`)

// written reads what activities left in the fake Zendesk since a time.
func (z *sandboxProcess) written(t testing.TB, since time.Time) written {
	t.Helper()
	w := written{audits: map[string][]string{}, created: map[string]string{}, ids: map[string]string{}}
	interaction := func(text string) string {
		match := mark.FindStringSubmatch(text)
		if match == nil {
			t.Fatalf("%q is no mark", text)
		}
		return match[1]
	}
	for _, ticket := range z.tickets(t) {
		if ticket.UpdatedAt.Before(since.Truncate(time.Second)) {
			continue
		}
		id := strconv.FormatInt(ticket.ID, 10)
		if strings.HasPrefix(ticket.ExternalID, "zendeskblocks:") {
			w.created[id] = interaction(ticket.ExternalID)
		}
		audits := listOf[zendeskAudit](t, z, "/api/v2/tickets/"+id+"/audits.json", "audits")
		slices.SortFunc(audits, func(a, b zendeskAudit) int { return cmp.Compare(a.ID, b.ID) })
		for _, audit := range audits {
			if text, marked := audit.Metadata.Custom["zendeskblocks"]; marked {
				name := interaction(text)
				w.audits[id] = append(w.audits[id], name)
				w.ids[name] = strconv.FormatInt(audit.ID, 10)
			}
		}
	}
	return w
}

// listOf reads all pages of a list of the fake Zendesk, as its administrator.
func listOf[T any](t testing.TB, z *sandboxProcess, path, key string) []T {
	t.Helper()
	var all []T
	for next := z.origin + path + "?page%5Bsize%5D=100"; next != ""; {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, next, nil)
		must(t, err)
		req.SetBasicAuth(zendesktest.Admin.Email+"/token", zendesktest.Admin.APIToken)
		resp, err := http.DefaultClient.Do(req)
		must(t, err)
		body, err := io.ReadAll(resp.Body)
		must(t, errors.Join(err, resp.Body.Close()))
		var page map[string]json.RawMessage
		must(t, json.Unmarshal(body, &page))
		var records []T
		if page[key] == nil {
			t.Fatalf("the sandbox answered GET %s with %s: %s", next, resp.Status, body)
		}
		must(t, json.Unmarshal(page[key], &records))
		all = append(all, records...)
		var more struct {
			Meta struct {
				HasMore bool `json:"has_more"`
			} `json:"meta"`
			Links struct{ Next string } `json:"links"`
		}
		must(t, json.Unmarshal(body, &more))
		if next = ""; more.Meta.HasMore {
			next = more.Links.Next
		}
	}
	return all
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
