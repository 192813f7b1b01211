package browser

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// axe is the source of axe-core, which npm brings. https://github.com/dequelabs/axe-core
var axe = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(built, "axe")
	if err := os.CopyFS(dir, os.DirFS("testdata/axe")); err != nil {
		return "", err
	}
	npm := exec.Command("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	npm.Dir = dir
	if out, err := npm.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm ci: %w: %s", err, out)
	}
	source, err := os.ReadFile(filepath.Join(dir, "node_modules", "axe-core", "axe.min.js"))
	return string(source), err
})

// finding is what axe has to say against a page.
type finding struct {
	ID     string `json:"id"`
	Impact string `json:"impact"`
	Help   string `json:"help"`
	Nodes  []struct {
		HTML           string `json:"html"`
		FailureSummary string `json:"failureSummary"`
	} `json:"nodes"`
}

// accessible fails the test of serious and critical findings on the page that is shown: in light and dark, wide and narrow.
func (b *tab) accessible(name string) {
	b.t.Helper()
	source, err := axe()
	must(b.t, err)
	defer b.wide(1280)
	defer b.dark(false)
	read[bool](b, source+"; true")
	for _, window := range []struct {
		width int64
		dark  bool
	}{{1280, false}, {390, true}} {
		b.wide(window.width)
		b.dark(window.dark)
		found := do(b, "axe", chromedp.Evaluate[[]finding](`axe.run(document, {resultTypes: ["violations"]}).then(r => r.violations)`,
			func(p *runtime.EvaluateParams) { p.AwaitPromise = new(true); p.ReturnByValue = new(true) }))
		for _, f := range found {
			if f.Impact != "serious" && f.Impact != "critical" {
				continue
			}
			var where []string
			for _, node := range f.Nodes {
				where = append(where, node.HTML+"\n"+node.FailureSummary)
			}
			b.t.Errorf("%s, %d wide, dark %t: %s: %s: %s\n%s", name, window.width, window.dark, f.Impact, f.ID, f.Help, strings.Join(where, "\n"))
		}
		if over := read[int64](b, `document.documentElement.scrollWidth - document.documentElement.clientWidth`); over > 0 {
			b.t.Errorf("%s, %d wide: the page is %d pixels too wide", name, window.width, over)
		}
	}
}

// hostile are texts that would be markup and scripts, were they not shown as what they are.
var hostile = words{
	subject: `<img src=x onerror=alert(1)><script>alert(2)</script>`, notes: "</textarea><svg onload=alert(3)>\n{{.Notes}}\n[x](javascript:alert(4))",
	key: `"><b onmouseover=alert(5)>k`, value: `javascript:alert(6)//" autofocus onfocus=alert(7) '<`,
}

// Each page is to be read by everybody, wide and narrow, light and dark, and shows whatever was said by others as text.
func TestPagesInChromium(t *testing.T) {
	s, tokens, _ := guarded(t, map[string][]string{"ada": {"admin", "ops"}, "platform": {"admin", "runtime"}})
	b := s.open(t)
	b.visit("/")
	b.accessible("sign in")
	b.fill("Token", "wrong")
	b.follow("Sign in")
	b.accessible("sign in, refused")
	b.signIn(tokens["ada"])

	ctx := as(t, tokens["platform"])
	_, err := s.accounts.CreateAccount(ctx, &zendeskv1.CreateAccountRequest{AccountId: "evil", Account: &zendeskv1.Account{
		Name: hostile.subject, Url: s.sandbox, DefaultRegion: "US", DefaultAccount: true,
		ApiToken: &zendeskv1.ApiToken{Username: zendesktest.Admin.Email, Token: zendesktest.Admin.APIToken},
	}})
	must(t, err)
	s.call(ctx, t, "written", zendesktest.Agent, hostile)
	written := s.complete(ctx, t, "written", hostile).GetActivityId()
	s.awaits(ctx, t, written, zendeskv1.ActivityState_ACTIVITY_STATE_WRITTEN)
	s.call(ctx, t, "open", zendesktest.UnlicensedAgent, hostile)
	b.visit("/sandbox")
	b.follow("Ticket updates are refused")
	b.accessible("a fault is set")
	dead := s.complete(ctx, t, "open", hostile).GetActivityId()
	s.awaits(ctx, t, dead, zendeskv1.ActivityState_ACTIVITY_STATE_DEAD)
	s.call(ctx, t, "running", zendesktest.UnlicensedAgent, hostile)

	named, valued := []string{hostile.subject}, []string{hostile.key, hostile.value}
	for _, page := range []struct {
		path  string
		shows []string
	}{
		{"/accounts", named}, {"/accounts?ill=1", nil}, {"/accounts/new", nil}, {"/accounts/evil", named}, {"/accounts/evil/change", nil}, {"/accounts/evil/delete", named},
		{"/accounts/evil/token", named}, {"/accounts/evil/token?grant=authorization_code", named}, {"/accounts/evil/token?grant=password", named}, {"/accounts/evil/test", named},
		{"/activities", nil}, {"/activities?state=dead", named}, {"/activities/" + dead, slices.Concat(named, valued)}, {"/activities/" + written, valued},
		{"/activities/decide?act=retry&id=" + dead, named}, {"/activities/decide?act=discard&all=1", nil},
		{"/interactions", nil}, {"/interactions?id=running", slices.Concat(named, valued)},
		{"/pops", nil}, {"/pops?agent=" + zendesktest.UnlicensedAgent.Email, nil}, {"/pops/window", nil},
		{"/sandbox", nil}, {"/nowhere/<script>", nil}, {"/interactions?id=<b>", nil},
	} {
		b.visit(page.path)
		b.shows(page.shows...)
		b.accessible(page.path)
	}
}
