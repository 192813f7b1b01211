package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
)

const (
	runbook         = "runbook.md"
	deploymentGuide = "deploy/README.md"
	alertRules      = "deploy/prometheus/rules.yaml"
	dashboardFile   = "deploy/grafana/zendeskblocks.json"
)

// tool is the path of a program that must not be lacking where changes are judged.
func tool(t testing.TB, name, from string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		lacks(t, name+", of Debian's package "+from+", is not installed")
	}
	return path
}

// checkBy runs a tool in a folder; it has nothing to object.
func checkBy(t testing.TB, folder, command string, args ...string) {
	t.Helper()
	cmd := exec.Command(command, args...)
	cmd.Dir = folder
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s %s: %v\n%s", filepath.Base(command), strings.Join(args, " "), err, said)
	}
}

// alertNames are the names of the alerts, in the order of the rules.
func alertNames(t testing.TB) (names []string) {
	t.Helper()
	for _, match := range regexp.MustCompile(`(?m)^ *- alert: (\w+)$`).FindAllStringSubmatch(readGuide(t, alertRules), -1) {
		names = append(names, match[1])
	}
	return names
}

// Each alert leads to an entry of the runbook, which has nothing else, and each entry says all that it is to say.
func TestAlertsInTheRunbook(t *testing.T) {
	t.Parallel()
	text := readGuide(t, runbook)
	entries := map[string]string{}
	for _, entry := range strings.Split(text, "\n### ")[1:] {
		name, said, _ := strings.Cut(entry, "\n")
		said, _, _ = strings.Cut(said, "\n## ")
		entries[name] = said
	}
	names := alertNames(t)
	if there := slices.Sorted(maps.Keys(entries)); !slices.Equal(there, slices.Sorted(slices.Values(names))) {
		t.Errorf("the runbook has entries of\n%q\nand the alerts are\n%q", there, slices.Sorted(slices.Values(names)))
	}
	for name, said := range entries {
		for _, part := range []string{"**Symptom.**", "**See it.**", "**Do.**", "**Over when**"} {
			if !strings.Contains(said, "\n"+part) {
				t.Errorf("%s does not say %s", name, part)
			}
		}
		if !strings.Contains(text, "["+name+"](#"+strings.ToLower(name)+")") {
			t.Errorf("nothing leads to %s", name)
		}
	}
	// A rule is from its name to the next one.
	for _, rule := range strings.Split(readGuide(t, alertRules), "- alert: ")[1:] {
		name, rest, _ := strings.Cut(rule, "\n")
		for _, part := range []string{
			"labels: {severity: critical}|labels: {severity: warning}", "summary: ", "description: ",
			"runbook_url: https://github.com/scenarioblocks/zendeskblocks/blob/main/cmd/zendeskblocks/runbook.md#" + strings.ToLower(name) + "\n",
		} {
			if !slices.ContainsFunc(strings.Split(part, "|"), func(p string) bool { return strings.Contains(rest, p) }) {
				t.Errorf("the rule of %s has no %s", name, part)
			}
		}
	}
}

// Blocks that fail for what the log shows to operators are alerted on, and those that fail for want of an account.
func TestReasonsThatAlert(t *testing.T) {
	t.Parallel()
	want := []string{"ACCOUNT_NOT_FOUND", "NO_DEFAULT_ACCOUNT"}
	for number := range zendeskv1.FailureReason_name {
		if reason := rpc.ReasonFromProto(zendeskv1.FailureReason(number)); number != 0 && rpc.ConcernsOperators(reason) {
			want = append(want, string(reason))
		}
	}
	_, rule, found := strings.Cut(readGuide(t, alertRules), "- alert: BlocksFailing\n")
	match := regexp.MustCompile(`reason=~"([A-Z_|]+)"`).FindStringSubmatch(rule)
	if !found || match == nil {
		t.Fatal("BlocksFailing names no reasons")
	}
	if got := slices.Sorted(slices.Values(strings.Split(match[1], "|"))); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
		t.Errorf("BlocksFailing is about %q, want %q", got, want)
	}
	if !strings.Contains(readGuide(t, dashboardFile), match[1]) {
		t.Error("the dashboard shows other reasons than BlocksFailing is about")
	}
	_, entry, _ := strings.Cut(readGuide(t, runbook), "### BlocksFailing\n")
	entry, _, _ = strings.Cut(entry, "\n### ")
	for _, reason := range want {
		if !strings.Contains(entry, "`"+reason+"`") {
			t.Errorf("the runbook does not say what to do when blocks fail with %s", reason)
		}
	}
}

// dashboard is what tests read of Grafana's.
type dashboard struct {
	UID, Title string
	Panels     []panel
	Templating struct {
		List []struct{ Name string }
	}
	Annotations struct {
		List []struct{ Expr string }
	}
}

type panel struct {
	ID                       int
	Type, Title, Description string
	GridPos                  struct{ X, Y, W, H int }
	Datasource               struct{ UID string }
	Targets                  []struct{ RefID, Expr string }
}

func readDashboard(t testing.TB) (d dashboard) {
	t.Helper()
	must(t, json.Unmarshal([]byte(readGuide(t, dashboardFile)), &d))
	return d
}

// expressions are the queries of the dashboard, by where they stand, with values for what Grafana fills in.
func (d dashboard) expressions() map[string]string {
	filled := strings.NewReplacer("$__rate_interval", "5m", "$instance", ".*")
	expressions := map[string]string{}
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			expressions[fmt.Sprintf("panel %d, %s, query %s", p.ID, p.Title, target.RefID)] = filled.Replace(target.Expr)
		}
	}
	for i, annotation := range d.Annotations.List {
		expressions[fmt.Sprintf("annotation %d", i+1)] = filled.Replace(annotation.Expr)
	}
	return expressions
}

// No panel hides another, and each asks the Prometheus that was chosen.
func TestDashboard(t *testing.T) {
	t.Parallel()
	d := readDashboard(t)
	taken := map[[2]int]string{}
	ids := map[int]bool{}
	for _, p := range d.Panels {
		if ids[p.ID] || p.ID == 0 {
			t.Errorf("%q has the id %d of another", p.Title, p.ID)
		}
		ids[p.ID] = true
		if p.Title == "" || p.GridPos.X+p.GridPos.W > 24 || p.GridPos.W < 1 || p.GridPos.H < 1 {
			t.Errorf("%q stands at %+v", p.Title, p.GridPos)
		}
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if other, ok := taken[at]; ok {
					t.Fatalf("%q hides %q", p.Title, other)
				}
				taken[at] = p.Title
			}
		}
		if p.Type != "row" && (len(p.Targets) == 0 || p.Datasource.UID != "${datasource}") {
			t.Errorf("%q asks nothing, or a Prometheus of its own", p.Title)
		}
	}
	plain := strings.ReplaceAll(readGuide(t, runbook), "**", "")
	for _, title := range regexp.MustCompile(`\*([A-Z][a-z][^*]+)\*`).FindAllStringSubmatch(plain, -1) {
		named := strings.Join(strings.Fields(title[1]), " ")
		isPanel := slices.ContainsFunc(d.Panels, func(p panel) bool { return strings.HasPrefix(p.Title, named) })
		if elsewhere := []string{"Apps and integrations", "APIs", "API usage", "Killed for memory"}; !isPanel && !slices.Contains(elsewhere, named) {
			t.Errorf("the runbook speaks of a panel %q", named)
		}
	}
}

// knownMetrics are the names of the series that can be asked for.
func knownMetrics(t testing.TB) map[string]bool {
	t.Helper()
	known := map[string]bool{"up": true, "ALERTS": true}
	for _, name := range []string{ // of Prometheus' own library, whose names the guide leaves to it
		"go_goroutines", "go_memstats_heap_inuse_bytes", "go_gc_duration_seconds", "process_cpu_seconds_total",
		"process_resident_memory_bytes", "process_open_fds", "process_max_fds", "process_start_time_seconds",
	} {
		known[name] = true
	}
	for _, row := range metricRow.FindAllStringSubmatch(readGuide(t, operatorGuide), -1) {
		if name := row[1]; row[2] == "histogram" {
			known[name+"_bucket"], known[name+"_sum"], known[name+"_count"] = true, true, true
		} else {
			known[name] = true
		}
	}
	for _, match := range regexp.MustCompile(`(?m)^ *- record: (\S+)$`).FindAllStringSubmatch(readGuide(t, alertRules), -1) {
		known[match[1]] = true
	}
	return known
}

// metricRow matches a row of the guide's table of metrics.
var metricRow = regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| (counter|gauge|histogram) \\|")

// metric matches names of series of ours, of gRPC, of the process and of what is recorded.
var metric = regexp.MustCompile(`\b(?:(?:zendeskblocks|grpc_server|process|go)_[a-z0-9_]+|[a-z_]+:[a-z0-9_]+:[a-z0-9_]+)\b`)

// What rules, dashboard and runbook ask for is there.
func TestMetricsThatAreAskedFor(t *testing.T) {
	t.Parallel()
	known := knownMetrics(t)
	asked := readDashboard(t).expressions()
	asked[alertRules] = readGuide(t, alertRules)
	asked[runbook] = readGuide(t, runbook)
	for where, text := range asked {
		for _, name := range metric.FindAllString(text, -1) {
			if !known[name] {
				t.Errorf("%s: there is no metric %s", where, name)
			}
		}
	}
	// What is recorded is used.
	all := strings.Join(slices.Collect(maps.Values(asked)), "\n")
	for name := range known {
		if strings.Contains(name, ":") && strings.Count(all, name) < 2 {
			t.Errorf("%s is recorded, and used nowhere", name)
		}
	}
}

// Prometheus' own tool reads the rules, sees each alert fire and not fire, and reads the queries of the dashboard.
func TestPromtool(t *testing.T) {
	t.Parallel()
	promtool := tool(t, "promtool", "prometheus")
	checkBy(t, ".", promtool, "check", "rules", alertRules)
	folder := filepath.Dir(alertRules)
	checkBy(t, folder, promtool, "test", "rules", "rules_test.yaml", "rules_days_test.yaml")
	tests := readGuide(t, folder+"/rules_test.yaml") + readGuide(t, folder+"/rules_days_test.yaml")
	for _, name := range alertNames(t) {
		if !strings.Contains(tests, `ALERTS{alertname="`+name+`", alertstate="firing"`) {
			t.Errorf("no test has %s fire", name)
		}
	}
	// As the expressions of rules, queries are read by the same parser.
	var rules strings.Builder
	rules.WriteString("groups:\n- name: dashboard\n  rules:\n")
	expressions := readDashboard(t).expressions()
	for i, where := range slices.Sorted(maps.Keys(expressions)) {
		quoted, err := json.Marshal(expressions[where])
		must(t, err)
		fmt.Fprintf(&rules, "  # %s\n  - record: dashboard:query:%d\n    expr: %s\n", where, i, quoted)
	}
	folder = t.TempDir()
	must(t, os.WriteFile(filepath.Join(folder, "dashboard.yaml"), []byte(rules.String()), 0o600))
	checkBy(t, folder, promtool, "check", "rules", "dashboard.yaml")
}

// systemd reads the units, and rates what the services could still do: 10 is everything.
func TestSystemdUnits(t *testing.T) {
	t.Parallel()
	analyze := tool(t, "systemd-analyze", "systemd")
	binary, err := os.Executable()
	must(t, err)
	folder := t.TempDir()
	entries, err := os.ReadDir("deploy/systemd")
	must(t, err)
	var units []string
	for _, entry := range entries {
		text := readGuide(t, filepath.Join("deploy/systemd", entry.Name()))
		// What is not installed is no fault of the unit.
		text = strings.ReplaceAll(text, "/usr/local/bin/zendeskblocks", binary)
		must(t, os.WriteFile(filepath.Join(folder, entry.Name()), []byte(text), 0o600))
		units = append(units, "./"+entry.Name())
	}
	checkBy(t, folder, analyze, append([]string{"verify", "--man=no"}, units...)...)
	for _, unit := range units {
		if strings.HasSuffix(unit, ".service") {
			checkBy(t, folder, analyze, "security", "--offline=true", "--threshold=15", unit)
		}
	}
}
