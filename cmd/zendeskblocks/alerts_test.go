package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
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

	"go.etcd.io/bbolt"
	"google.golang.org/grpc"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// drives are how the condition of each alert is brought about. What is driven fires in a Prometheus that scrapes the program,
// by the rules as they are, but for the patience that they have: see hastened. A drive may stand for several alerts.
var drives = map[string]func(*driven){
	"Down Restarting": func(d *driven) {
		s := d.serve()
		d.seen("count(process_start_time_seconds{instance=%q})", 1)
		for range 3 {
			s.kill(d.t)
			s.start(d.t)
			d.scrape(s.process())
			d.seen("changes(process_start_time_seconds{instance=%q}[30m])", len(s.processes)-1)
		}
		d.fires("Restarting")
		s.kill(d.t)
		d.fires("Down")
	},
	"StoreNotWritable NotReady CallsRefused DiskNearlyFull DiskFilling": func(d *driven) {
		disk := smallDisk(d.t, "24m")
		p := startProgram(d.t, "serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data", filepath.Join(disk, "data.db"), "--drain-delay", "0s")
		_, conn := serving(d.t, p)
		d.scrape(p)
		fill(d.t, filepath.Join(disk, "ballast"))
		d.meanwhile(func(n int) { _ = attachOver(d.t.Context(), conn, "call-"+strconv.Itoa(n), strings.Repeat("x", 60<<10)) })
		d.fires("StoreNotWritable", "CallsRefused", "DiskNearlyFull", "DiskFilling", "NotReady")
	},
	"FileDescriptorsNearlyUsed": func(d *driven) {
		const limit = 64
		p := startProgramBy(d.t, []string{"sh", "-c", `ulimit -n ` + strconv.Itoa(limit) + `; exec "$@"`, "sh"}, newOutput(),
			"serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data", filepath.Join(d.t.TempDir(), "data.db"), "--drain-delay", "0s")
		address, _ := serving(d.t, p)
		d.scrape(p)
		d.seen("up{instance=%q}", 1)
		open := func(ratio float64) bool {
			return d.holds(fmt.Sprintf("process_open_fds{instance=%q} / process_max_fds > %v", d.name, ratio))
		}
		for !open(0.8) { // and leaves some for the scrape
			c, err := net.Dial("tcp", address)
			must(d.t, err)
			d.t.Cleanup(func() { _ = c.Close() })
			if len(d.connections) > limit {
				d.t.Fatal("all file descriptors are taken, and it does not show")
			}
			d.connections = append(d.connections, c)
			if len(d.connections) >= limit*3/4 {
				break
			}
		}
		d.fires("FileDescriptorsNearlyUsed")
	},
	"CertificateEnding": func(d *driven) {
		cert, key, _ := selfSigned(d.t, d.t.TempDir()) // for an hour
		p := startProgram(d.t, "serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data", filepath.Join(d.t.TempDir(), "data.db"),
			"--tls-cert", cert, "--tls-key", key)
		p.await(d.t, p.stderr, `msg=serving address=(\S+)`)
		d.scrape(p)
		d.fires("CertificateEnding")
	},
	"LogLinesDropped": func(d *driven) {
		read, write, err := os.Pipe()
		must(d.t, err)
		d.t.Cleanup(func() { _ = read.Close() })
		p := startProgramBy(d.t, nil, write, "serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data", filepath.Join(d.t.TempDir(), "data.db"), "--drain-delay", "0s")
		must(d.t, write.Close())
		said := newOutput()
		for lines := bufio.NewReader(read); !strings.Contains(said.String(), "msg=serving"); {
			line, err := lines.ReadString('\n')
			must(d.t, err)
			_, err = io.WriteString(said, line)
			must(d.t, err)
		}
		p.stderr = said
		_, conn := serving(d.t, p)
		d.scrape(p)
		d.seen("zendeskblocks_log_lines_dropped_total{instance=%q} + 1", 1)
		for range 8_000 { // of some 300 bytes in the log
			_, _ = zendeskv1.NewAccountServiceClient(conn).GetAccount(d.t.Context(), &zendeskv1.GetAccountRequest{AccountId: "none"})
		}
		d.fires("LogLinesDropped")
	},
	"AuditBehind": func(d *driven) {
		disk := smallDisk(d.t, "64k")
		path := filepath.Join(disk, "audit")
		const torn = "{\"event\":\"torn\"}"
		must(d.t, os.WriteFile(path, []byte(strings.Repeat(" ", os.Getpagesize()-len(torn))+torn), 0o600))
		fill(d.t, filepath.Join(disk, "ballast"))
		s := startService(d.t, "--admin-listen", "127.0.0.1:0", "--audit-log", path)
		s.createAccount(d.t, "one", "https://acme.zendesk.com")
		s.process().await(d.t, s.process().stderr, "the audit cannot be written")
		d.scrape(s.process()) // which sees it behind from the first time on
		d.fires("AuditBehind")
	},
	"BlocksFailing AccountIll EndpointLeftAlone ActivitiesWaiting": func(d *driven) {
		s, sandbox := d.serveWithAccount()
		ticket := sandbox.takingTickets(d.t, 1)[0]
		sandbox.addFault(d.t, map[string]any{"status": http.StatusServiceUnavailable})
		d.complete(s, ticket)
		d.search(s)
		d.fires("BlocksFailing", "AccountIll", "EndpointLeftAlone", "ActivitiesWaiting")
	},
	"BlocksSlow": func(d *driven) {
		s, sandbox := d.serveWithAccount("--block-timeout", "8s")
		sandbox.addFault(d.t, map[string]any{"path_prefix": "/api/v2/search", "delay_ms": 3000})
		d.search(s)
		d.fires("BlocksSlow")
	},
	"Throttled": func(d *driven) {
		s, sandbox := d.serveWithAccount()
		sandbox.addFault(d.t, map[string]any{"path_prefix": "/api/v2/search", "status": http.StatusTooManyRequests, "retry_after": 300})
		d.search(s)
		d.fires("Throttled")
	},
	"CredentialEnding": func(d *driven) {
		sandbox := startSandbox(d.t, "--token-life", "5s")
		s := d.serve("--allow-host", hostOf(sandbox.origin))
		s.createAccount(d.t, "main", sandbox.origin)
		_, err := s.accounts.RequestToken(d.t.Context(), &zendeskv1.RequestTokenRequest{
			AccountId: "main", ClientId: zendesktest.ClientID, ClientSecret: zendesktest.ClientSecret,
			Grant: &zendeskv1.RequestTokenRequest_ClientCredentials{ClientCredentials: &zendeskv1.ClientCredentialsGrant{}},
		})
		must(d.t, err)
		sandbox.addFault(d.t, map[string]any{"path_prefix": "/oauth/tokens", "status": http.StatusServiceUnavailable})
		d.fires("CredentialEnding")
	},
	"ActivitiesDead": func(d *driven) {
		s, _ := d.serveWithAccount()
		d.complete(s, "404404")
		d.fires("ActivitiesDead")
	},
	"ScreenPopsFailing": func(d *driven) {
		s, sandbox := d.serveWithAccount()
		ticket := sandbox.takingTickets(d.t, 1)[0]
		var failing atomic.Bool
		d.meanwhile(func(n int) {
			if failing.Load() {
				<-time.After(500 * time.Millisecond) // so that for minutes they are few beside those that were shown
			}
			id := "call-" + strconv.Itoa(n)
			_, _ = s.blocks.ScreenPop(d.t.Context(), &zendeskv1.ScreenPopRequest{InteractionId: id, Target: &zendeskv1.ScreenPopRequest_TicketId{TicketId: ticket}})
			_, _ = s.interactions.DeliverInteraction(d.t.Context(), &zendeskv1.DeliverInteractionRequest{InteractionId: id, Agent: &zendeskv1.Agent{Email: zendesktest.Agent.Email}})
		})
		// What a counter has when it is scraped first is no increase to Prometheus, and may be all of them.
		d.seen("increase(zendeskblocks_screen_pops_total{instance=%q, outcome=\"displayed\"}[5m]) > bool 300", 1)
		failing.Store(true)
		sandbox.addFault(d.t, map[string]any{"path_prefix": "/api/v2/channels/voice", "status": http.StatusInternalServerError})
		d.fires("ScreenPopsFailing")
	},
	"DataFileSparse": func(d *driven) {
		s := d.serve()
		s.stop(d.t)
		bloat(d.t, s.dataFile(), 200<<20)
		s.start(d.t)
		d.scrape(s.process())
		d.fires("DataFileSparse")
	},
	"CommitsSlow": func(d *driven) {
		strace := tool(d.t, "strace", "strace")
		s := d.serve()
		traced := newOutput()
		tracer := exec.Command(strace, "-f", "-p", strconv.Itoa(s.process().cmd.Process.Pid), "-e", "trace=fdatasync", "-e", "inject=fdatasync:delay_enter=400000")
		tracer.Stderr = traced
		must(d.t, tracer.Start())
		d.t.Cleanup(func() {
			_ = tracer.Process.Signal(syscall.SIGTERM)
			_ = tracer.Wait()
		})
		until(d.t, "strace traces", func() bool {
			if strings.Contains(traced.String(), "Operation not permitted") {
				lacks(d.t, "processes cannot be traced: "+traced.String())
			}
			return strings.Contains(traced.String(), "attached")
		})
		d.meanwhile(func(n int) {
			_, _ = s.blocks.AttachedData(d.t.Context(), &zendeskv1.AttachedDataRequest{InteractionId: "call-" + strconv.Itoa(n), Data: map[string]string{"a": "b"}})
		})
		d.fires("CommitsSlow")
	},
	"QuotaNearlyUsed": func(d *driven) {
		s := d.serve("--max-accounts", "1")
		s.createAccount(d.t, "one", "https://acme.zendesk.com")
		d.fires("QuotaNearlyUsed")
	},
	"BackupMissing": func(d *driven) {
		d.serve()
		d.fires("BackupMissing")
	},
}

// undriven are the alerts whose condition no test can bring about in its time, or from outside at all, and the series that must
// be there for them from the start.
var undriven = map[string]string{
	"Panics":               `zendeskblocks_panics_total{where="call"}`,                   // no request makes it panic
	"UnwrittenDataExpired": `zendeskblocks_interactions_expired_total{unwritten="true"}`, // an interaction lives for an hour at least
	"NotificationsLate":    `zendeskblocks_notification_delay_seconds_count`,             // only a network or a database that is ill makes them late
	"DataDamaged":          `zendeskblocks_store_damages_total`,                          // all data is looked at first after 5 minutes
}

// hastened are what makes alerts wait, and what stands for it in the test. Each is in the rules once.
var hastened = map[string]string{
	"(zendeskblocks_activity_oldest_pending_seconds) > 1800": "(zendeskblocks_activity_oldest_pending_seconds) > 2",
	"[10m:30s]": "[10m:1s]",
	"zendeskblocks_screen_pops_total{outcome!=\"displayed\"}[10m]": "zendeskblocks_screen_pops_total{outcome!=\"displayed\"}[15s]",
	"zendeskblocks_screen_pops_total[10m]":                         "zendeskblocks_screen_pops_total[15s]",
}

// TestAlertsFire drives the condition of each alert on the program, which a Prometheus scrapes, and sees it fire, for the process
// that it is about. A process that is well fires none.
func TestAlertsFire(t *testing.T) {
	if raceDetector {
		t.Skip("what alerts go by is measured in seconds, of programs as they are")
	}
	prometheus := startPrometheus(t)
	var known []string
	for names := range drives {
		known = append(known, strings.Fields(names)...)
	}
	known = append(known, slices.Collect(maps.Keys(undriven))...)
	slices.Sort(known)
	if alerts := slices.Sorted(slices.Values(alertNames(t))); !slices.Equal(known, alerts) {
		t.Errorf("driven, or said why not, are\n%q\nand the alerts are\n%q", known, alerts)
	}
	t.Run("well", func(t *testing.T) { // alone: what is slow for the others is none of its
		d := &driven{t: t, name: "well", prometheus: prometheus}
		s, _ := d.serveWithAccount()
		d.search(s)
		d.seen("sum(increase(zendeskblocks_blocks_total{instance=%q, exit=\"NEXT\"}[1m])) > bool 20", 1)
		for alert, series := range undriven {
			d.seen("count("+strings.Replace(strings.Replace(series+"{}", "}{}", "}", 1), "{", "{instance=%q,", 1)+")", 1)
			if t.Failed() {
				t.Errorf("%s has nothing to go by", alert)
			}
		}
		// Of the machine that the test runs on, its disk and its haste, and of its Prometheus, which has seen no backup.
		others := []string{"DiskNearlyFull", "DiskFilling", "BackupMissing", "CommitsSlow", "BlocksSlow", "Down"}
		for _, alert := range prometheus.alerts(t) {
			if alert.Labels["namespace"] == d.name && !slices.Contains(others, alert.Labels["alertname"]) {
				t.Errorf("%v fires for a process that is well", alert.Labels)
			}
		}
	})
	for names, drive := range drives {
		t.Run(names, func(t *testing.T) {
			t.Parallel()
			drive(&driven{t: t, name: names, prometheus: prometheus})
		})
	}
}

// driven is a process that alerts are to fire for.
type driven struct {
	t           *testing.T
	name        string // its instance
	prometheus  *scraper
	connections []net.Conn
}

// serve starts a service that is scraped.
func (d *driven) serve(flags ...string) *service {
	s := startService(d.t, append(flags, "--admin-listen", "127.0.0.1:0")...)
	d.scrape(s.process())
	return s
}

// serveWithAccount is serve with an account of a fake Zendesk.
func (d *driven) serveWithAccount(flags ...string) (*service, *sandboxProcess) {
	sandbox := startSandbox(d.t)
	s := d.serve(append(flags, "--allow-host", hostOf(sandbox.origin))...)
	s.createAccount(d.t, "main", sandbox.origin)
	return s, sandbox
}

// scrape has a process scraped as the instance.
func (d *driven) scrape(p *program) {
	address := p.await(d.t, p.stderr, `msg="serving probes and metrics" admin_address=(\S+)`)
	d.prometheus.target(d.t, d.name, address)
}

// meanwhile does something again and again, one after the other, until the test ends.
func (d *driven) meanwhile(work func(n int)) {
	ctx, cancel := context.WithCancel(d.t.Context())
	var done sync.WaitGroup
	done.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			work(n)
		}
	})
	d.t.Cleanup(func() {
		cancel()
		done.Wait()
	})
}

// search runs searches meanwhile, two a block's time.
func (d *driven) search(s *service) {
	d.meanwhile(func(n int) {
		_, _ = s.blocks.Search(d.t.Context(), &zendeskv1.SearchRequest{
			InteractionId: "search", RecordsetName: "caller", SearchString: "type:user email:" + zendesktest.Caller.Email, MaxResults: int32(1 + n%50),
		}, grpc.WaitForReady(true))
	})
}

func (d *driven) complete(s *service, ticket string) {
	d.t.Helper()
	_, err := s.blocks.AttachedData(d.t.Context(), &zendeskv1.AttachedDataRequest{InteractionId: "completed", Data: map[string]string{"a": "b"}})
	must(d.t, err)
	_, err = s.interactions.CompleteInteraction(d.t.Context(), &zendeskv1.CompleteInteractionRequest{
		InteractionId: "completed", TicketId: ticket, Details: &zendeskv1.ActivityDetails{Channel: "voice", Notes: "A call"},
	})
	must(d.t, err)
}

// fires waits until alerts fire for the instance: not all name it, but its namespace, which is its own.
func (d *driven) fires(names ...string) {
	d.t.Helper()
	for _, name := range names {
		until(d.t, name+" fires", func() bool {
			return slices.ContainsFunc(d.prometheus.alerts(d.t), func(a alert) bool {
				return a.Labels["alertname"] == name && a.State == "firing" && a.Labels["namespace"] == d.name
			})
		})
	}
}

// seen waits until a query, which has a verb for the instance, has a value.
func (d *driven) seen(query string, value int) {
	d.t.Helper()
	query = fmt.Sprintf(query, d.name)
	until(d.t, query, func() bool { return d.holds(fmt.Sprintf("(%s) == %d", query, value)) })
}

// holds says whether a query has a result.
func (d *driven) holds(query string) bool {
	d.t.Helper()
	var answer struct {
		Data struct{ Result []json.RawMessage }
	}
	d.prometheus.get(d.t, "/api/v1/query?query="+url.QueryEscape(query), &answer)
	return len(answer.Data.Result) > 0
}

// bloat makes pages in a data file that nobody has open, and frees them.
func bloat(t testing.TB, path string, size int) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoSync: true})
	must(t, err)
	defer func() { must(t, db.Close()) }()
	name := []byte("bloat")
	must(t, db.Update(func(tx *bbolt.Tx) error {
		bucket, err := tx.CreateBucket(name)
		for key := 0; err == nil && key < size>>20; key++ {
			err = bucket.Put([]byte(strconv.Itoa(key)), make([]byte, 1<<20))
		}
		return err
	}))
	must(t, db.Update(func(tx *bbolt.Tx) error { return tx.DeleteBucket(name) }))
}

// scraper is a Prometheus that scrapes processes each second.
type scraper struct {
	folder, origin string
	mu             sync.Mutex
	targets        map[string]string // addresses by instances
}

// alert is one of Prometheus'.
type alert struct {
	Labels map[string]string
	State  string
}

// startPrometheus starts Prometheus with our rules, of which none waits for long.
func startPrometheus(t *testing.T) *scraper {
	t.Helper()
	binary := tool(t, "prometheus", "prometheus")
	s := &scraper{folder: t.TempDir(), targets: map[string]string{}}
	rules := regexp.MustCompile(`(?m)^        for: .*$`).ReplaceAllString(readGuide(t, alertRules), "        for: 0s")
	for long, short := range hastened {
		if strings.Count(rules, long) != 1 {
			t.Fatalf("the rules do not have %q once", long)
		}
		rules = strings.Replace(rules, long, short, 1)
	}
	writeFile(t, filepath.Join(s.folder, "rules.yaml"), rules, 0o600)
	writeFile(t, filepath.Join(s.folder, "targets.json"), "[]", 0o600)
	config := writeFile(t, filepath.Join(s.folder, "prometheus.yaml"), `
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
rule_files: [rules.yaml]
scrape_configs:
  - job_name: zendeskblocks
    file_sd_configs: [{files: [targets.json], refresh_interval: 1s}]
`, 0o600)
	said := newOutput()
	cmd := exec.Command(binary, "--config.file", config, "--storage.tsdb.path", filepath.Join(s.folder, "data"), "--web.listen-address", "127.0.0.1:0")
	cmd.Stderr = said
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("prometheus says\n%s", said)
		}
	})
	listening := regexp.MustCompile(`msg="Listening on" address=(\S+)`)
	until(t, "Prometheus listens", func() bool { return listening.MatchString(said.String()) })
	s.origin = "http://" + listening.FindStringSubmatch(said.String())[1]
	return s
}

// target has an address scraped as an instance, in place of another one.
func (s *scraper) target(t testing.TB, instance, address string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.targets[instance] = address
	type group struct {
		Targets []string          `json:"targets"`
		Labels  map[string]string `json:"labels"`
	}
	var groups []group
	for instance, address := range s.targets {
		groups = append(groups, group{[]string{address}, map[string]string{"instance": instance, "namespace": instance}})
	}
	text, err := json.Marshal(groups)
	must(t, err)
	next := writeFile(t, filepath.Join(s.folder, "targets.next"), string(text), 0o600)
	must(t, os.Rename(next, filepath.Join(s.folder, "targets.json")))
}

func (s *scraper) alerts(t testing.TB) []alert {
	t.Helper()
	var answer struct {
		Data struct{ Alerts []alert }
	}
	s.get(t, "/api/v1/alerts", &answer)
	return answer.Data.Alerts
}

// get asks Prometheus. One that is not ready yet has no answer.
func (s *scraper) get(t testing.TB, path string, answer any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.origin+path, nil)
	must(t, err)
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	must(t, resp.Body.Close())
	if resp.StatusCode == http.StatusOK {
		must(t, json.Unmarshal(body, answer))
	}
}
