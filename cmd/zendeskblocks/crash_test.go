package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	bolt "go.etcd.io/bbolt"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// A process that is killed after any reply has lost nothing that the reply confirmed, and knows what it answered.
func TestKillBetweenBlocks(t *testing.T) {
	sandbox := startSandbox(t)
	s := startService(t, "--allow-host", hostOf(sandbox.origin))
	s.createAccount(t, "default", sandbox.origin)
	s.createAccount(t, "other", sandbox.origin)
	const call = "call-1"

	var given []execution
	var replies []blockReply
	for _, step := range []struct {
		name      string
		execution execution
		exit      zendeskv1.Exit
	}{
		{"select account", executionOf(s.blocks.SelectAccount, &zendeskv1.SelectAccountRequest{
			InteractionId: call, RequestId: "1", Choice: &zendeskv1.SelectAccountRequest_Account{Account: "other"},
		}), zendeskv1.Exit_EXIT_NEXT},
		{"search", executionOf(s.blocks.Search, &zendeskv1.SearchRequest{
			InteractionId: call, RequestId: "2", RecordsetName: "tickets", MaxResults: 150, SortBy: zendeskv1.SortBy_SORT_BY_CREATED_AT,
			SearchString: "type:ticket", IncludeResultBody: true,
		}), zendeskv1.Exit_EXIT_NEXT},
		{"search in vain", executionOf(s.blocks.Search, &zendeskv1.SearchRequest{
			InteractionId: call, RequestId: "3", RecordsetName: "nobody", SearchString: "type:user email:nobody@example.com",
		}), zendeskv1.Exit_EXIT_NO_DATA},
		{"get next record", executionOf(s.blocks.GetNextRecord, &zendeskv1.GetNextRecordRequest{
			InteractionId: call, RequestId: "4", RecordsetName: "tickets",
		}), zendeskv1.Exit_EXIT_NEXT},
		{"screen pop", executionOf(s.blocks.ScreenPop, &zendeskv1.ScreenPopRequest{
			InteractionId: call, RequestId: "5", Target: &zendeskv1.ScreenPopRequest_RecordsetName{RecordsetName: "tickets"},
		}), zendeskv1.Exit_EXIT_NEXT},
		{"attached data", executionOf(s.blocks.AttachedData, &zendeskv1.AttachedDataRequest{
			InteractionId: call, RequestId: "6", Data: map[string]string{"Ticket": "$(tickets.id)", "Disposition": "Callback"},
		}), zendeskv1.Exit_EXIT_NEXT},
	} {
		reply, err := step.execution(t.Context())
		if err != nil || reply.GetExit() != step.exit {
			t.Fatalf("%s: %v, %v", step.name, reply, err)
		}
		given, replies = append(given, step.execution), append(replies, reply)
		before, asked := s.interaction(t, call), len(sandbox.requests(t))

		s.kill(t)
		s.start(t)
		if diff := cmp.Diff(before, s.interaction(t, call), protocmp.Transform()); diff != "" {
			t.Errorf("killed after %s, the interaction differs (-before +after):\n%s", step.name, diff)
		}
		for i, repeat := range given {
			reply, err := repeat(t.Context())
			must(t, err)
			if diff := cmp.Diff(replies[i], reply, protocmp.Transform()); diff != "" {
				t.Errorf("killed after %s, request %d is answered otherwise (-before +after):\n%s", step.name, i+1, diff)
			}
		}
		if diff := cmp.Diff(before, s.interaction(t, call), protocmp.Transform()); diff != "" {
			t.Errorf("killed after %s, repeats change the interaction (-before +after):\n%s", step.name, diff)
		}
		if requests := sandbox.requests(t)[asked:]; len(requests) != 0 {
			t.Errorf("killed after %s, repeats ask Zendesk again: %v", step.name, requests)
		}
	}

	// What was compared is what the blocks were to leave.
	kept := s.interaction(t, call)
	ticket := kept.GetRecordsets()[1].GetCurrent().GetId()
	other := &zendeskv1.AccountUse{AccountId: "other", Name: "Account other", Selection: zendeskv1.AccountSelection_ACCOUNT_SELECTION_SELECTED}
	want := &zendeskv1.Interaction{
		InteractionId: call,
		State:         zendeskv1.InteractionState_INTERACTION_STATE_ACTIVE,
		Account:       other,
		AttachedData:  map[string]string{"Ticket": ticket, "Disposition": "Callback"},
		Recordsets: []*zendeskv1.Recordset{
			{Name: "nobody", Account: other},
			{Name: "tickets", Account: other, Count: 150, Position: 2, Current: &zendeskv1.Record{Type: zendeskv1.RecordType_RECORD_TYPE_TICKET, Id: ticket}},
		},
		ScreenPops: []*zendeskv1.ScreenPop{{Account: other, RecordType: zendeskv1.RecordType_RECORD_TYPE_TICKET, RecordId: ticket}},
	}
	if diff := cmp.Diff(want, kept, protocmp.Transform(),
		protocmp.IgnoreFields(&zendeskv1.Interaction{}, "create_time", "update_time"),
		protocmp.IgnoreFields(&zendeskv1.Recordset{}, "query", "total_count"),
		protocmp.IgnoreFields(&zendeskv1.Record{}, "url"),
		protocmp.IgnoreFields(&zendeskv1.ScreenPop{}, "screen_pop_id", "url", "create_time"),
	); diff != "" || ticket == "" {
		t.Errorf("the interaction differs (-want +got):\n%s", diff)
	}
}

// A process that is killed at any moment, also while it commits, does each step once: whoever was not answered asks
// again with the same request_id, and is told how the step went, not how a second one would.
func TestKillAtRandomMoments(t *testing.T) {
	const (
		rounds = 8 // each has one kill
		calls  = 3 // at the same time
		passes = 6 // of each call in a round
		blocks = 2 // in a pass
	)
	sandbox := startSandbox(t)
	s := startService(t, "--allow-host", hostOf(sandbox.origin))
	s.createAccount(t, "default", sandbox.origin)
	for call := range calls {
		reply, err := s.blocks.Search(t.Context(), &zendeskv1.SearchRequest{
			InteractionId: callID(call), RequestId: "search", RecordsetName: "tickets", SearchString: "type:ticket", MaxResults: 100,
		})
		if err != nil || reply.GetRecordset().GetCount() != 100 {
			t.Fatalf("search: %v, %v", reply, err)
		}
	}
	next := func(call, pass int) *zendeskv1.GetNextRecordRequest {
		return &zendeskv1.GetNextRecordRequest{InteractionId: callID(call), RequestId: fmt.Sprint("next-", pass), RecordsetName: "tickets"}
	}
	attach := func(call, pass int) *zendeskv1.AttachedDataRequest {
		return &zendeskv1.AttachedDataRequest{InteractionId: callID(call), RequestId: fmt.Sprint("attach-", pass), Data: map[string]string{
			fmt.Sprint("pass ", pass): "$(tickets.id)", "passes": strconv.Itoa(pass),
		}}
	}
	var given [calls][rounds * passes]*zendeskv1.GetNextRecordResponse
	var attached [calls][rounds * passes]*zendeskv1.AttachedDataResponse

	random := rand.New(rand.NewPCG(2041, 1)) // chooses the moments; what a process does at them differs
	for round := range rounds {
		s.killAmid(t, random, calls*passes*blocks, func(ctx context.Context, tick func()) error {
			var running errgroup.Group
			for call := range calls {
				running.Go(func() error {
					for pass := round * passes; pass < (round+1)*passes; pass++ {
						tick()
						moved, err := persist(ctx, s.blocks.GetNextRecord, next(call, pass))
						if err != nil {
							return err
						}
						if moved.GetExit() != zendeskv1.Exit_EXIT_NEXT || int(moved.GetPosition()) != pass+2 {
							return fmt.Errorf("%s: pass %d moved to %d by %s", callID(call), pass, moved.GetPosition(), moved.GetExit())
						}
						tick()
						data, err := persist(ctx, s.blocks.AttachedData, attach(call, pass))
						if err != nil {
							return err
						}
						if len(data.GetData()) != pass+2 || data.GetData()["passes"] != strconv.Itoa(pass) {
							return fmt.Errorf("%s: pass %d left %v attached", callID(call), pass, data.GetData())
						}
						given[call][pass], attached[call][pass] = moved, data
					}
					return nil
				})
			}
			return running.Wait()
		})
	}

	s.kill(t)
	s.start(t)
	for call := range calls {
		want := map[string]string{"passes": strconv.Itoa(rounds*passes - 1)}
		for pass := range rounds * passes {
			want[fmt.Sprint("pass ", pass)] = given[call][pass].GetRecord().GetId()
			moved, err := s.blocks.GetNextRecord(t.Context(), next(call, pass))
			must(t, err)
			data, err := s.blocks.AttachedData(t.Context(), attach(call, pass))
			must(t, err)
			if diff := cmp.Diff(given[call][pass], moved, protocmp.Transform()) + cmp.Diff(attached[call][pass], data, protocmp.Transform()); diff != "" {
				t.Errorf("%s: pass %d is answered otherwise (-before +after):\n%s", callID(call), pass, diff)
			}
		}
		kept := s.interaction(t, callID(call))
		if got := kept.GetRecordsets()[0].GetPosition(); got != rounds*passes+1 {
			t.Errorf("%s: the recordset stands on %d, want %d", callID(call), got, rounds*passes+1)
		}
		if diff := cmp.Diff(want, kept.GetAttachedData()); diff != "" {
			t.Errorf("%s: the attached data differ (-want +got):\n%s", callID(call), diff)
		}
	}
}

func callID(call int) string { return fmt.Sprint("call-", call) }

// A process that is killed while it waits for Zendesk starts the search anew when it is repeated.
func TestKillDuringSearch(t *testing.T) {
	zendesk := startGatedZendesk(t)
	s := startService(t, "--allow-host", hostOf(zendesk.URL))
	s.createAccount(t, "default", zendesk.URL)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	reply := startSearch(ctx, s)
	<-zendesk.arrived
	s.kill(t)
	if got := <-reply; status.Code(got.err) != codes.Unavailable {
		t.Errorf("the search that was cut off: %v, %v", got.SearchResponse, got.err)
	}

	s.start(t)
	reply = startSearch(ctx, s)
	<-zendesk.arrived
	close(zendesk.open)
	if got := <-reply; got.err != nil || got.GetExit() != zendeskv1.Exit_EXIT_NEXT {
		t.Errorf("the search: %v, %v", got.SearchResponse, got.err)
	}
	if got := s.interaction(t, callID(1)).GetRecordsets(); len(got) != 1 || got[0].GetPosition() != 1 {
		t.Errorf("the recordsets are %v", got)
	}
}

// A process that is told to stop lets what runs end, and leaves a data file that opens.
func TestDrainOnSIGTERM(t *testing.T) {
	zendesk := startGatedZendesk(t)
	s := startService(t, "--allow-host", hostOf(zendesk.URL))
	s.createAccount(t, "default", zendesk.URL)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	reply := startSearch(ctx, s)
	<-zendesk.arrived
	s.drain(t)
	s.process().await(t, s.process().stderr, "msg=draining")
	close(zendesk.open)
	first := <-reply
	if first.err != nil || first.GetExit() != zendeskv1.Exit_EXIT_NEXT {
		t.Fatalf("the running search: %v, %v", first.SearchResponse, first.err)
	}
	s.drained(t)

	s.start(t)
	again := <-startSearch(ctx, s)
	if diff := cmp.Diff(first.SearchResponse, again.SearchResponse, protocmp.Transform()); diff != "" || again.err != nil {
		t.Errorf("the search is answered otherwise after the start: %v (-before +after):\n%s", again.err, diff)
	}
}

// gatedZendesk is a fake Zendesk whose answers wait until the gate is open.
type gatedZendesk struct {
	*httptest.Server
	arrived chan struct{} // one token per request that stands at the closed gate
	open    chan struct{} // closed: open
}

func startGatedZendesk(t testing.TB) *gatedZendesk {
	z := &gatedZendesk{arrived: make(chan struct{}), open: make(chan struct{})}
	fake := zendesktest.New(zendesktest.Config{})
	z.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-z.open:
		case z.arrived <- struct{}{}:
			select {
			case <-z.open:
			case <-r.Context().Done():
				return
			}
		}
		fake.ServeHTTP(w, r)
	}))
	t.Cleanup(z.Close)
	return z
}

type searchReply struct {
	*zendeskv1.SearchResponse
	err error
}

// startSearch sends a search, always the same request.
func startSearch(ctx context.Context, s *service) <-chan searchReply {
	reply := make(chan searchReply, 1)
	go func() {
		for {
			resp, err := s.blocks.Search(ctx, &zendeskv1.SearchRequest{
				InteractionId: callID(1), RequestId: "search", RecordsetName: "tickets", SearchString: "type:ticket",
			}, grpc.WaitForReady(true))
			if !inProgress(resp) {
				reply <- searchReply{resp, err}
				return
			}
		}
	}()
	return reply
}

// A process that cannot start says why in one line, and touches nothing.
func TestStartRefusals(t *testing.T) {
	stopped := func(change func(*testing.T, *service) error) func(*testing.T, *service) {
		return func(t *testing.T, s *service) {
			s.stop(t)
			must(t, change(t, s))
		}
	}
	cut := func(kept func(used int64) int64) func(*testing.T, *service) {
		return stopped(func(t *testing.T, s *service) error {
			return os.Truncate(s.dataFile(), kept(usedBytes(t, s.dataFile())))
		})
	}
	data, key := (*service).dataFile, (*service).keyFile
	for name, test := range map[string]struct {
		prepare func(*testing.T, *service)
		named   func(*service) string
	}{
		"wrong key": {stopped(func(t *testing.T, s *service) error {
			must(t, os.Remove(s.keyFile()))
			writeKey(t, s.keyFile())
			return nil
		}), key},
		"missing key":       {stopped(func(_ *testing.T, s *service) error { return os.Remove(s.keyFile()) }), key},
		"damaged key":       {stopped(func(_ *testing.T, s *service) error { return os.Truncate(s.keyFile(), 40) }), key},
		"last byte missing": {cut(func(used int64) int64 { return used - 1 }), data},
		"half missing":      {cut(func(used int64) int64 { return used / 2 }), data},
		"a few bytes":       {cut(func(int64) int64 { return 100 }), data},
		"running":           {func(*testing.T, *service) {}, data},
	} {
		t.Run(name, func(t *testing.T) {
			s := startService(t, "--allow-host", "127.0.0.1:*")
			s.createAccount(t, "default", "http://127.0.0.1")
			test.prepare(t, s)
			before := filesIn(t, s.dir)
			mustRefuse(t, startProgram(t, "serve", "--listen", "127.0.0.1:0", "--data", s.dataFile()), test.named(s))
			after := filesIn(t, s.dir)
			if name == "running" { // the process that runs writes to its files by itself
				if diff := cmp.Diff(sortedKeys(before), sortedKeys(after)); diff != "" {
					t.Errorf("the files are others (-before +after):\n%s", diff)
				}
			} else if diff := cmp.Diff(before, after); diff != "" {
				t.Errorf("the files have changed (-before +after):\n%s", diff)
			}
			if name != "running" {
				return
			}
			if _, err := s.accounts.GetAccount(t.Context(), &zendeskv1.GetAccountRequest{AccountId: "default"}); err != nil {
				t.Errorf("the one that was running: %v", err)
			}
		})
	}

	t.Run("port in use", func(t *testing.T) {
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		must(t, err)
		defer func() { must(t, l.Close()) }()
		dir := t.TempDir()
		mustRefuse(t, startProgram(t, "serve", "--listen", l.Addr().String(), "--data", filepath.Join(dir, "data.db")), l.Addr().String())
		if files := filesIn(t, dir); len(files) != 0 {
			t.Errorf("files were made: %v", files)
		}
	})
}

// usedBytes returns how much of a data file holds data: its end is room to grow.
func usedBytes(t *testing.T, path string) int64 {
	t.Helper()
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true})
	must(t, err)
	tx, err := db.Begin(false)
	must(t, err)
	size := tx.Size()
	must(t, errors.Join(tx.Rollback(), db.Close()))
	return size
}

// mustRefuse checks that the program ends as one that cannot start does, and names the cause.
func mustRefuse(t *testing.T, p *program, named string) {
	t.Helper()
	if code := p.exitCode(t); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	if said := p.stderr.String(); !regexp.MustCompile(`^time=\S+ level=ERROR msg=exiting error=.*\n$`).MatchString(said) || !strings.Contains(said, named) {
		t.Errorf("standard error is not one line that names %s:\n%s", named, said)
	}
	if said := p.stdout.String(); said != "" {
		t.Errorf("standard output is not empty:\n%s", said)
	}
}

// filesIn returns the content of every file below a folder, as text.
func filesIn(t testing.TB, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	must(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		files[path] = string(content)
		return err
	}))
	return files
}

// What is secret or personal stands in no file, in no log line and not on the console, however it may be written there;
// what is secret in no reply either.
func TestSecretsNowhere(t *testing.T) {
	sandbox, spans := startSandbox(t, "--password"), startCollector(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+spans.address)
	s := startService(t, "--allow-host", hostOf(sandbox.origin), "--log-level", "debug", "--admin-listen", "127.0.0.1:0", "--admin-debug")
	shown := &disclosure{}
	shown.credentials(t, s, sandbox)
	shown.blocks(t, s, sandbox)

	var asked strings.Builder
	for _, request := range sandbox.requests(t) {
		asked.WriteString(request.Query + "\n")
	}
	for _, sent := range []string{canaryEmail, canaryNumber} {
		if !discloses(asked.String(), sent) {
			t.Errorf("%q never reached Zendesk, or cannot be found", sent)
		}
	}
	if data := s.interaction(t, callID(1)).GetAttachedData(); data[canaryKey] != canaryValue {
		t.Errorf("the attached data are %v", data)
	}
	places := map[string]string{}
	admin := s.process().await(t, s.process().stderr, adminPattern)
	for _, path := range []string{"/", "/livez", "/readyz", "/metrics", "/loglevel", "/debug/pprof/cmdline", "/debug/channelz/servers"} {
		_, places[path] = askAdmin(t, http.MethodGet, admin, path, "")
	}
	s.stop(t) // sends the last spans
	s.start(t)
	s.kill(t)
	s.start(t)
	s.stop(t)
	if _, places["spans"] = spans.spans(); !strings.Contains(places["spans"], "zendesk ") {
		t.Error("there are no spans of requests to Zendesk")
	}

	files := filesIn(t, s.dir)
	if len(files) != 3 {
		t.Errorf("there are not three files, the data, its key and the audit, but %d", len(files))
	}
	maps.Copy(places, files)
	for i, p := range s.processes {
		places[fmt.Sprintf("standard output of process %d", i)] = p.stdout.String()
		places[fmt.Sprintf("standard error of process %d", i)] = p.stderr.String()
	}
	for place, content := range places {
		for _, text := range slices.Concat(shown.secrets, personal) {
			if discloses(content, text) {
				t.Errorf("%s discloses %q", place, text)
			}
		}
	}
	for _, reply := range shown.replies {
		for _, text := range shown.secrets {
			if discloses(reply, text) {
				t.Errorf("a reply discloses %q: %s", text, reply)
			}
		}
	}
}

// What people are called by, write and say, in the blocks that TestSecretsNowhere runs.
const (
	canaryEmail  = "canary.person@example.com"
	canaryNumber = "5135559988"
	canaryKey    = "Canary key"
	canaryValue  = "Canary value 4711"
)

var personal = []string{
	canaryEmail, canaryNumber, "+1 (513) 555-9988", canaryKey, canaryValue, "canary-word",
	zendesktest.Admin.Email, zendesktest.Admin.Name, zendesktest.Caller.Email, zendesktest.Caller.Name, "Account default", "Account granted",
}

// disclosure is what a test gave away to the service, and what it got back.
type disclosure struct {
	secrets []string
	replies []string
}

// secret makes a text one that must not come out again.
func (d *disclosure) secret(text string) string {
	d.secrets = append(d.secrets, text)
	return text
}

// reply returns a function that notes the reply to a call, which must have this code.
func (d *disclosure) reply(t *testing.T, want codes.Code) func(proto.Message, error) {
	t.Helper()
	return func(reply proto.Message, err error) {
		t.Helper()
		if err != nil {
			reply = status.Convert(err).Proto()
		}
		d.replies = append(d.replies, protojson.Format(reply))
		if status.Code(err) != want {
			t.Errorf("the reply is %v, want %v", err, want)
		}
	}
}

// credentials gives the service secrets in every field that takes one: good ones, refused ones and malformed ones.
func (d *disclosure) credentials(t *testing.T, s *service, sandbox *sandboxProcess) {
	t.Helper()
	ctx := t.Context()
	create := func(want codes.Code, id, url, apiToken, accessToken string) {
		t.Helper()
		d.reply(t, want)(s.accounts.CreateAccount(ctx, &zendeskv1.CreateAccountRequest{AccountId: id, Account: &zendeskv1.Account{
			Name: "Account " + id, Url: url,
			ApiToken:   &zendeskv1.ApiToken{Username: zendesktest.Admin.Email, Token: apiToken},
			OauthToken: &zendeskv1.OAuthToken{AccessToken: accessToken},
		}}))
	}
	create(codes.InvalidArgument, "default", "https://canary:"+d.secret("canary-url-password")+"@acme.zendesk.com", "token", "token")
	create(codes.InvalidArgument, "default", sandbox.origin, d.secret("canary api token with spaces"), d.secret("canary access token with spaces"))
	create(codes.OK, "default", sandbox.origin, d.secret("canary-replaced-api-token"), d.secret("canary-cleared-access-token"))
	create(codes.AlreadyExists, "default", sandbox.origin, d.secret("canary-second-api-token"), d.secret("canary-second-access-token"))
	create(codes.OK, "pasted", sandbox.origin, d.secret("canary-api-token"), d.secret("canary-access-token"))
	create(codes.OK, "granted", sandbox.origin, "token", "token")
	d.reply(t, codes.OK)(s.accounts.TestConnection(ctx, &zendeskv1.TestConnectionRequest{AccountId: "pasted"}))

	request := func(want codes.Code, clientSecret string, change func(*zendeskv1.RequestTokenRequest)) {
		t.Helper()
		req := &zendeskv1.RequestTokenRequest{AccountId: "granted", ClientId: zendesktest.ClientID, ClientSecret: clientSecret}
		change(req)
		d.reply(t, want)(s.accounts.RequestToken(ctx, req))
	}
	client := func(*zendeskv1.RequestTokenRequest) {}
	password := func(password string) func(*zendeskv1.RequestTokenRequest) {
		return func(req *zendeskv1.RequestTokenRequest) {
			req.Grant = &zendeskv1.RequestTokenRequest_Password{Password: &zendeskv1.PasswordGrant{Username: zendesktest.Admin.Email, Password: password}}
		}
	}
	code := func(code, verifier string) func(*zendeskv1.RequestTokenRequest) {
		return func(req *zendeskv1.RequestTokenRequest) {
			req.Grant = &zendeskv1.RequestTokenRequest_AuthorizationCode{AuthorizationCode: &zendeskv1.AuthorizationCodeGrant{
				Code: code, RedirectUri: zendesktest.RedirectURI, CodeVerifier: verifier,
			}}
		}
	}
	goodSecret, wrongSecret := d.secret(zendesktest.ClientSecret), d.secret("canary-client-secret")
	goodVerifier := d.secret("canary-code-verifier-of-at-least-43-characters")
	challenge := sha256.Sum256([]byte(goodVerifier))
	goodCode := d.secret(sandbox.issueCode(t, base64.RawURLEncoding.EncodeToString(challenge[:])))
	request(codes.FailedPrecondition, wrongSecret, client)
	request(codes.FailedPrecondition, goodSecret, password(d.secret("canary password, with spaces")))
	request(codes.FailedPrecondition, goodSecret, code(d.secret("canary-code"), goodVerifier))
	request(codes.InvalidArgument, goodSecret, code(d.secret("canary-other-code"), d.secret("canary-short-verifier")))
	request(codes.InvalidArgument, d.secret("canary client secret with spaces"), client)
	request(codes.OK, goodSecret, password(d.secret(zendesktest.Admin.Password)))
	request(codes.OK, goodSecret, code(goodCode, goodVerifier))

	token := map[string]any{"path_prefix": "/oauth/tokens"}
	answer := func(fault map[string]any) {
		t.Helper()
		sandbox.clearFaults(t)
		sandbox.addFault(t, fault)
	}
	token["drop"] = "before"
	answer(token)
	request(codes.Unavailable, goodSecret, password(d.secret("canary-password-of-a-cut-connection")))
	delete(token, "drop")
	token["body"] = "not JSON: " + d.secret("canary-unreadable-token")
	answer(token)
	request(codes.Unavailable, goodSecret, client)
	token["body"] = map[string]any{"error": "invalid_grant", "error_description": "The code " + d.secret("canary-echoed-code") + " was used before"}
	token["status"] = 400
	answer(token)
	request(codes.FailedPrecondition, goodSecret, code("canary-echoed-code", goodVerifier))
	delete(token, "status")
	token["body"] = map[string]any{
		"access_token": d.secret("canary-granted-access-token"), "refresh_token": d.secret("canary-granted-refresh-token"),
		"token_type": "bearer", "scope": "read write", "expires_in": 86400, "refresh_token_expires_in": 7776000,
	}
	answer(token)
	request(codes.FailedPrecondition, goodSecret, client) // users/me does not know the token
	sandbox.addFault(t, map[string]any{"path_prefix": "/api/v2/users/me", "body": map[string]any{
		"user": map[string]any{"id": zendesktest.Admin.ID, "name": zendesktest.Admin.Name, "email": zendesktest.Admin.Email, "role": "admin"},
	}})
	request(codes.OK, goodSecret, client)
	sandbox.clearFaults(t)

	d.reply(t, codes.OK)(s.accounts.UpdateAccount(ctx, &zendeskv1.UpdateAccountRequest{
		Account:    &zendeskv1.Account{AccountId: "default", ApiToken: &zendeskv1.ApiToken{Token: d.secret(zendesktest.Admin.APIToken)}},
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"api_token.token", "oauth_token"}},
	}))
	d.reply(t, codes.OK)(s.accounts.GetAccount(ctx, &zendeskv1.GetAccountRequest{AccountId: "granted"}))
	d.reply(t, codes.OK)(s.accounts.ListAccounts(ctx, &zendeskv1.ListAccountsRequest{}))
	d.reply(t, codes.OK)(s.accounts.TestConnection(ctx, &zendeskv1.TestConnectionRequest{AccountId: "default"}))
}

// blocks runs blocks on personal data, with every way out.
func (d *disclosure) blocks(t *testing.T, s *service, sandbox *sandboxProcess) {
	t.Helper()
	ctx, call := t.Context(), callID(1)
	variables := map[string]string{"ANI": "+1 (513) 555-9988", "mail": canaryEmail, "word": "canary-word", "caller": zendesktest.Caller.Email, "none": ""}
	executions := 0
	search := func(want zendeskv1.Exit, query string) {
		t.Helper()
		executions++
		reply, err := s.blocks.Search(ctx, &zendeskv1.SearchRequest{
			InteractionId: call, Variables: variables, RequestId: fmt.Sprint("search-", executions), RecordsetName: "found",
			SearchString: query, IncludeResultBody: true,
		})
		d.reply(t, codes.OK)(reply, err)
		if reply.GetExit() != want {
			t.Errorf("search %q left by %s, want %s", query, reply.GetExit(), want)
		}
	}
	search(zendeskv1.Exit_EXIT_NO_DATA, "type:user phone:$(ANI,phone)")
	search(zendeskv1.Exit_EXIT_NO_DATA, "type:user email:$(mail)")
	search(zendeskv1.Exit_EXIT_NO_DATA, "type:ticket subject:$(word)")
	search(zendeskv1.Exit_EXIT_FAILED, "type:user email:$(mail) phone:$(none)")
	search(zendeskv1.Exit_EXIT_FAILED, "type:user email:$(mail) phone:$(canary-word)")
	for _, fault := range []map[string]any{
		{"drop": "before"},
		{"drop": "after"},
		{"status": 422, "body": map[string]any{"error": "invalid", "description": "Invalid search: email:" + canaryEmail}},
		{"status": 500, "body": "<p>" + canaryEmail + "</p>"},
		{"status": 200, "body": "{\"results\": [{\"email\": " + canaryEmail + "}]}"},
	} {
		sandbox.addFault(t, fault)
		search(zendeskv1.Exit_EXIT_FAILED, "type:user email:$(mail)")
		sandbox.clearFaults(t)
		search(zendeskv1.Exit_EXIT_NEXT, "type:user email:$(caller)") // or searches would be left alone after some
	}
	d.reply(t, codes.InvalidArgument)(s.blocks.Search(ctx, &zendeskv1.SearchRequest{
		InteractionId: call, RecordsetName: canaryEmail, SearchString: "$(" + canaryEmail, SortBy: 99, SortOrder: -1,
	}))

	d.reply(t, codes.OK)(s.blocks.GetNextRecord(ctx, &zendeskv1.GetNextRecordRequest{InteractionId: call, RecordsetName: "found"}))
	d.reply(t, codes.OK)(s.blocks.ScreenPop(ctx, &zendeskv1.ScreenPopRequest{
		InteractionId: call, RequestId: "pop", Variables: variables, Target: &zendeskv1.ScreenPopRequest_SearchString{SearchString: "$(mail) $(word)"},
	}))
	d.reply(t, codes.OK)(s.blocks.ScreenPop(ctx, &zendeskv1.ScreenPopRequest{
		InteractionId: call, Variables: variables, Target: &zendeskv1.ScreenPopRequest_TicketId{TicketId: "$(mail)"},
	}))
	d.reply(t, codes.OK)(s.blocks.AttachedData(ctx, &zendeskv1.AttachedDataRequest{
		InteractionId: call, RequestId: "attach", Variables: variables, Data: map[string]string{canaryKey: canaryValue, "Mail": "$(mail)", "From": "$(ANI)"},
	}))
	d.reply(t, codes.InvalidArgument)(s.blocks.AttachedData(ctx, &zendeskv1.AttachedDataRequest{
		InteractionId: call, RequestId: "attach", Data: map[string]string{canaryKey: canaryEmail},
	}))
	d.reply(t, codes.OK)(s.blocks.SelectAccount(ctx, &zendeskv1.SelectAccountRequest{
		InteractionId: call, Variables: variables, Choice: &zendeskv1.SelectAccountRequest_Account{Account: "$(mail)"},
	}))
	d.reply(t, codes.OK)(s.interactions.GetInteraction(ctx, &zendeskv1.GetInteractionRequest{InteractionId: call}))
}

// discloses says whether a text stands in content: as it is, in lower case, quoted, escaped for a URL, in hexadecimal, or
// anywhere within something in base64.
func discloses(content, text string) bool {
	forms := []string{
		text, strings.ToLower(text), strings.Trim(strconv.Quote(text), `"`),
		url.QueryEscape(text), url.PathEscape(text), hex.EncodeToString([]byte(text)),
	}
	for shift := range 3 {
		for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			encoded := encoding.EncodeToString([]byte(strings.Repeat("x", shift) + text))
			// The characters at either end depend on what stands beside the text.
			forms = append(forms, encoded[(shift*8+5)/6:(shift+len(text))*8/6])
		}
	}
	return slices.ContainsFunc(forms, func(form string) bool { return strings.Contains(content, form) })
}

func TestDiscloses(t *testing.T) {
	const secret = "canary secret/ü"
	for _, beside := range []string{"", "a", "ab", "abc"} {
		whole := beside + secret + beside
		for _, content := range []string{
			whole, url.QueryEscape(whole), url.PathEscape(whole), strconv.Quote(whole), hex.EncodeToString([]byte(whole)),
			base64.StdEncoding.EncodeToString([]byte(whole)), base64.RawURLEncoding.EncodeToString([]byte(whole)),
		} {
			if !discloses("… "+content+" …", secret) {
				t.Errorf("%q is not found in %q", secret, content)
			}
		}
	}
	if discloses("canary secret ü", secret) {
		t.Error("another text is taken for the secret")
	}
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
