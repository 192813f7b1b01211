package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/pluginpb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

// need skips the test where a program is not there, and fails it where the variable CI is set.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatal(err)
			}
			t.Skipf("%s is not installed", program)
		}
	}
}

// run runs a program in a folder.
func run(t *testing.T, dir string, input []byte, program string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(string(input))
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", program, strings.Join(args, " "), err, out, said.String())
	}
	return out
}

// generate makes the JavaScript of the API, as buf does with the plugin.
func generate(t *testing.T, dir string) {
	t.Helper()
	req := &pluginpb.CodeGeneratorRequest{Parameter: proto.String("target=js")}
	known := make(map[string]bool)
	var add func(file protoreflect.FileDescriptor)
	add = func(file protoreflect.FileDescriptor) {
		if known[file.Path()] {
			return
		}
		known[file.Path()] = true
		for i := range file.Imports().Len() {
			add(file.Imports().Get(i))
		}
		req.ProtoFile = append(req.ProtoFile, protodesc.ToFileDescriptorProto(file))
		if !strings.HasPrefix(file.Path(), "google/protobuf/") {
			req.FileToGenerate = append(req.FileToGenerate, file.Path())
		}
	}
	add(zendeskv1.File_scenarioblocks_zendesk_v1_block_service_proto)
	add(zendeskv1.File_scenarioblocks_zendesk_v1_interaction_service_proto)
	add(errdetails.File_google_rpc_error_details_proto)
	input, err := proto.Marshal(req)
	must(t, err)
	var resp pluginpb.CodeGeneratorResponse
	must(t, proto.Unmarshal(run(t, dir, input, filepath.Join(dir, "node_modules/.bin/protoc-gen-es")), &resp))
	if resp.GetError() != "" || len(resp.GetFile()) == 0 {
		t.Fatalf("protoc-gen-es makes %d files: %s", len(resp.GetFile()), resp.GetError())
	}
	for _, file := range resp.GetFile() {
		path := filepath.Join(dir, "gen", file.GetName())
		must(t, os.MkdirAll(filepath.Dir(path), 0o700))
		must(t, os.WriteFile(path, []byte(file.GetContent()), 0o600))
	}
}

// bundle makes the script of the page, as its authors would.
func bundle(t *testing.T) []byte {
	t.Helper()
	need(t, "node", "npm")
	dir := t.TempDir()
	must(t, os.CopyFS(dir, os.DirFS("testdata/browser")))
	run(t, dir, nil, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
	generate(t, dir)
	return run(t, dir, nil, filepath.Join(dir, "node_modules/.bin/esbuild"), "page.js", "--bundle", "--format=esm", "--log-level=warning")
}

// page serves one page, of an origin of its own.
func page(t *testing.T, script []byte) *httptest.Server {
	t.Helper()
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/":
			w.Header().Set("Content-Type", "text/html")
			_, _ = fmt.Fprint(w, `<!doctype html><title>desk</title><ul id="said"></ul><script type="module" src="/page.js"></script>`)
		case "/page.js":
			w.Header().Set("Content-Type", "text/javascript")
			_, _ = w.Write(script)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(web.Close)
	return web
}

// chromium starts a browser.
func chromium(t *testing.T) context.Context {
	t.Helper()
	need(t, "chromium")
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath("chromium"), chromedp.NoSandbox, chromedp.UserDataDir(t.TempDir()))
	ctx, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	ctx, stop = chromedp.NewContext(ctx)
	t.Cleanup(stop)
	must(t, chromedp.Do(ctx))
	return ctx
}

// open opens the page in a tab of its own.
func open(browser context.Context, t *testing.T, page, baseURL, token string, grpcWeb bool) (tab context.Context) {
	t.Helper()
	tab, stop := chromedp.NewContext(browser)
	t.Cleanup(stop)
	with, err := json.Marshal(map[string]any{"baseUrl": baseURL, "token": token, "grpcWeb": grpcWeb, "email": zendesktest.Agent.Email})
	must(t, err)
	must(t, chromedp.Do(tab, chromedp.Navigate(page+"/#"+url.PathEscape(string(with)))))
	return tab
}

// said waits for what the page says of something.
func said(tab context.Context, t *testing.T, what string) (text string) {
	t.Helper()
	within, stop := context.WithTimeout(tab, time.Minute)
	defer stop()
	text, err := chromedp.Run(within, chromedp.Text("#"+what))
	if err != nil {
		all, _ := chromedp.Run(tab, chromedp.Text("#said"))
		t.Fatalf("the page does not say %q but %q: %v", what, all, err)
	}
	return text
}

// A page of another origin, made as its authors would, in a real browser: it calls, is told why a call failed, and gets the pop that is
// delivered while it watches.
func TestBrowser(t *testing.T) {
	t.Parallel()
	need(t, "chromium")
	desk := page(t, bundle(t))
	s := newService(t, func(_ *server.Config, c *Config) { c.Origins = []string{desk.URL} })
	browser := chromium(t)
	for _, grpcWeb := range []bool{false, true} {
		name := map[bool]string{false: "connect", true: "grpc-web"}[grpcWeb]
		t.Run(name, func(t *testing.T) {
			tab := open(browser, t, desk.URL, s.web.URL, s.token, grpcWeb)
			if got, want := said(tab, t, "called"), fmt.Sprintf("%d from-%s main", zendeskv1.Exit_EXIT_NEXT, name); got != want {
				t.Errorf("the page has got %q, want %q", got, want)
			}
			if got := said(tab, t, "failed"); got != "INTERACTION_NOT_FOUND" {
				t.Errorf("the page knows of a failure %q", got)
			}
			said(tab, t, "watching")
			s.pop(t, "popped-"+name, zendesktest.Agent)
			if got := said(tab, t, "popped"); !strings.Contains(got, "popped-") || !strings.Contains(got, "/agent/") {
				t.Errorf("the page shows %q", got)
			}
		})
	}
	t.Run("a wrong token", func(t *testing.T) {
		tab := open(browser, t, desk.URL, s.web.URL, "wrong", true)
		if got := said(tab, t, "ended"); !strings.HasPrefix(got, "UNAUTHENTICATED: ") {
			t.Errorf("the page knows of the refusal %q", got)
		}
	})
	t.Run("an origin that may not", func(t *testing.T) {
		tab := open(browser, t, page(t, bundleOf(t, desk)).URL, s.web.URL, s.token, false)
		if got := said(tab, t, "ended"); !strings.HasPrefix(got, "undefined: ") {
			t.Errorf("the page was let in, and says %q", got)
		}
	})
}

// bundleOf is the script of a page that there is.
func bundleOf(t *testing.T, desk *httptest.Server) []byte {
	t.Helper()
	resp := httptest.NewRecorder()
	desk.Config.Handler.ServeHTTP(resp, httptest.NewRequestWithContext(t.Context(), "GET", "/page.js", nil))
	return resp.Body.Bytes()
}

// The client of the guide is the one that runs here.
func TestGuideHasTheClient(t *testing.T) {
	guide, err := os.ReadFile("../../../proto/README.md")
	must(t, err)
	code, err := os.ReadFile("testdata/browser/client.js")
	must(t, err)
	if !strings.Contains(string(guide), "```javascript\n"+string(code)+"```\n") {
		t.Error("proto/README.md has another client")
	}
}
