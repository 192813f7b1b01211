package browser

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

var (
	chromium      context.Context // of the one browser of all tests
	closeChromium = func() {}
	startChromium = sync.OnceValue(func() error {
		path, err := exec.LookPath("chromium")
		if err != nil {
			return err
		}
		allocator, end := chromedp.NewExecAllocator(context.Background(), append(chromedp.DefaultExecAllocatorOptions[:],
			chromedp.ExecPath(path),
			chromedp.DisableGPU,
			chromedp.Flag("disable-popup-blocking", false), // as people have it
			// Nothing but this machine is ever asked, by pages or by Chromium itself.
			chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"),
			chromedp.Flag("no-proxy-server", true),
			chromedp.Flag("disable-component-update", true),
			chromedp.Flag("disable-domain-reliability", true),
			chromedp.Flag("no-pings", true),
			chromedp.Flag("disable-features", "Translate,OptimizationHints,MediaRouter,AutofillServerCommunication,CertificateTransparencyComponentUpdater,InterestFeedContentSuggestions"),
			// Pictures look alike wherever they are made.
			chromedp.Flag("hide-scrollbars", true),
			chromedp.Flag("font-render-hinting", "none"),
			chromedp.Flag("disable-lcd-text", true),
		)...)
		closeChromium = end
		chromium, _ = chromedp.NewContext(allocator)
		return chromedp.Do(chromium)
	})
)

// tab is a tab of a browser that has no cookies yet. It collects what must not happen on any page; the test fails of it in the end.
type tab struct {
	t       testing.TB
	ctx     context.Context
	site    *site
	allowed []string // texts of what the test brings about itself

	mu     sync.Mutex
	faults []string
}

// open opens a browser, 1280 pixels wide.
func (s *site) open(t testing.TB) *tab {
	t.Helper()
	if err := startChromium(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skipf("no Chromium: %v", err)
	}
	return s.tabOf(chromium, t, chromedp.WithNewBrowserContext())
}

// another opens one more tab of a browser.
func (b *tab) another() *tab {
	b.t.Helper()
	return b.site.tabOf(b.ctx, b.t)
}

func (s *site) tabOf(of context.Context, t testing.TB, options ...chromedp.ContextOption) *tab {
	t.Helper()
	b := &tab{t: t, site: s}
	ctx, end := chromedp.NewContext(of, append(options, chromedp.WithListener(b.watch))...)
	b.ctx = ctx
	t.Cleanup(func() {
		defer end()
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, fault := range b.faults {
			if !slices.ContainsFunc(b.allowed, func(text string) bool { return strings.Contains(fault, text) }) {
				t.Error(fault)
			}
		}
	})
	must(t, chromedp.Do(ctx,
		void(audits.Enable, cdp.Empty{}),
		void(network.Enable, network.EnableParams{}),
	))
	b.wide(1280)
	return b
}

// watch notes dialogs, errors of scripts, violations of the Content-Security-Policy, and requests to elsewhere. It runs amid the reading of
// messages, and must not wait.
func (b *tab) watch(event any) {
	fault := ""
	switch e := event.(type) {
	case *page.EventJavascriptDialogOpening:
		fault = fmt.Sprintf("%s opens a dialog: %s", e.URL, e.Message)
	case *runtime.EventExceptionThrown:
		fault = fmt.Sprintf("a script fails: %s", e.ExceptionDetails.Text)
		if e.ExceptionDetails.Exception != nil {
			fault += " " + e.ExceptionDetails.Exception.Description
		}
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
			fault = fmt.Sprintf("a script tells the console %s: %s", e.Type, consoleText(e.Args))
		}
	case *log.EventEntryAdded:
		if told := e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning; told && e.Entry.Source != log.EntrySourceNetwork { // which tells of statuses
			fault = fmt.Sprintf("%s: the console has: %s", e.Entry.URL, e.Entry.Text)
		}
	case *audits.EventIssueAdded:
		if policy := e.Issue.Details.ContentSecurityPolicyIssueDetails; policy != nil {
			fault = fmt.Sprintf("the Content-Security-Policy is violated: %s by %s", policy.ViolatedDirective, policy.BlockedURL)
		}
	case *network.EventRequestWillBeSent:
		if u, err := url.Parse(e.Request.URL); err != nil || u.Hostname() != "127.0.0.1" && u.Scheme != "data" && u.Scheme != "about" && u.Scheme != "blob" {
			fault = "a page asks elsewhere: " + e.Request.URL
		}
	}
	if fault != "" {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.faults = append(b.faults, fault)
	}
}

// do runs an action, and tells where the page is when it fails.
func do[T any](b *tab, what string, action chromedp.Action[T]) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	value, err := chromedp.Run(ctx, action)
	if err != nil {
		b.t.Fatalf("%s: %v\n%s", what, err, b.where())
	}
	return value
}

// read evaluates an expression in the page that is shown. It is tried again while one page takes the place of another.
func read[T any](b *tab, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	for {
		value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
		if err == nil {
			return value
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			b.t.Fatalf("%s: %v", expression, err)
		}
	}
}

// where is the page that is shown, in words.
func (b *tab) where() string {
	return read[string](b, `location.href + "\n" + document.body?.innerText`)
}

// wide sets the width of the window, in pixels.
func (b *tab) wide(width int64) {
	b.t.Helper()
	do(b, "width", chromedp.EmulateViewport(width, 800))
}

// dark has the browser ask for dark pages, or light ones.
func (b *tab) dark(dark bool) {
	b.t.Helper()
	scheme := map[bool]string{false: "light", true: "dark"}[dark]
	do(b, scheme, void(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	}))
}

// visit goes to a path of the site, and returns the status.
func (b *tab) visit(path string) int64 {
	b.t.Helper()
	return do(b, "go to "+path, chromedp.NavigateResponse(b.site.url+path)).Status
}

// address is where the browser is.
func (b *tab) address() string {
	b.t.Helper()
	return read[string](b, `location.href`)
}

// path is where the browser is on the site, with the query.
func (b *tab) path() string {
	b.t.Helper()
	return strings.TrimPrefix(b.address(), b.site.url)
}

// text is what a person reads.
func (b *tab) text() string {
	b.t.Helper()
	return read[string](b, `document.body?.innerText ?? ""`)
}

// shows waits until the page shows texts.
func (b *tab) shows(texts ...string) {
	b.t.Helper()
	late := time.After(patience)
	for _, text := range texts {
		for !strings.Contains(b.text(), text) {
			select {
			case <-time.After(20 * time.Millisecond):
			case <-late:
				b.t.Fatalf("the page does not show %q: %s", text, b.where())
			}
		}
	}
}

// lacks fails the test if the page shows a text.
func (b *tab) lacks(texts ...string) {
	b.t.Helper()
	shown := b.text()
	for _, text := range texts {
		if strings.Contains(shown, text) {
			b.t.Errorf("the page shows %q: %s", text, b.where())
		}
	}
}

// quoted is a text as JavaScript has it.
func quoted(text string) string {
	quoted, err := json.Marshal(text)
	if err != nil { // no string has one
		return `""`
	}
	return string(quoted)
}

// called finds what is clicked, by the words on it, or that it begins with if they end with a blank: the first that a person sees.
func called(words string) chromedp.JSPath {
	return chromedp.JSPath(fmt.Sprintf(`[...document.querySelectorAll("a, button, summary")].filter(e => e.checkVisibility() && (%[1]s.endsWith(" ") ? e.innerText.trim().startsWith(%[1]s) : e.innerText.trim() === %[1]s)).slice(0, 1)`, quoted(words)))
}

// labelled finds an input by the words of its label.
func labelled(label string) chromedp.JSPath {
	return chromedp.JSPath(fmt.Sprintf(`[...document.querySelectorAll("input, select, textarea")].filter(e => e.checkVisibility() &&
		[e.ariaLabel, ...[...e.labels ?? []].map(l => l.innerText.trim().replace(/\s*\(required\)$/, ""))].includes(%s)).slice(0, 1)`, quoted(label)))
}

// click clicks a link or button with the mouse.
func (b *tab) click(words string) {
	b.t.Helper()
	do(b, "click "+words, chromedp.Click(called(words)))
}

// follow clicks what leads to another page, waits until that is there, and returns its status.
func (b *tab) follow(words string) int64 {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	response, err := chromedp.RunResponse(ctx, chromedp.Click(called(words)))
	if err != nil {
		b.t.Fatalf("click %s: %v\n%s", words, err, b.where())
	}
	return response.Status
}

// choose clicks a radio button or a box by its label.
func (b *tab) choose(label string) {
	b.t.Helper()
	do(b, "choose "+label, chromedp.Click(labelled(label)))
}

// fill clicks into an input, and types in place of what is there.
func (b *tab) fill(label, text string) {
	b.t.Helper()
	do(b, "fill in "+label, chromedp.Clear(labelled(label)))
	do(b, "fill in "+label, chromedp.Click(labelled(label)))
	do(b, "fill in "+label, chromedp.KeyEvent(text))
}

// picture is what a page looks like, down to 1,400 pixels, as PNG, in the 256 colours that it has most of: pages have few, and it is a third as large.
func (b *tab) picture() []byte {
	b.t.Helper()
	seen, err := png.Decode(bytes.NewReader(do(b, "picture", chromedp.FullScreenshot(100))))
	must(b.t, err)
	bounds, pixels := seen.Bounds().Intersect(image.Rect(0, 0, 1280, 1400)), map[color.Color]int{}
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			pixels[seen.At(x, y)]++
		}
	}
	colours := slices.SortedFunc(maps.Keys(pixels), func(a, b color.Color) int { return pixels[b] - pixels[a] })
	small := image.NewPaletted(bounds, color.Palette(colours[:min(len(colours), 256)]))
	draw.Draw(small, bounds, seen, bounds.Min, draw.Src)
	var out bytes.Buffer
	must(b.t, (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&out, small))
	return out.Bytes()
}

// void is a command of the protocol that nothing is read from.
func void[P, R any](command cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, t, command, params)
		return chromedp.Void{}, err
	}
}

// consoleText is what a script has written to the console.
func consoleText(args []*runtime.RemoteObject) string {
	var words []string
	for _, arg := range args {
		words = append(words, fmt.Sprintf("%s%s", arg.Value, arg.Description))
	}
	return strings.Join(words, " ")
}
