package pages

import (
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/net/html"
)

func TestClip(t *testing.T) {
	for _, c := range []struct {
		text string
		most int
		want string
		cut  bool
	}{
		{"", 0, "", false}, {"abc", 3, "abc", false}, {"abcd", 6, "abcd", false}, {strings.Repeat("a", 10), 6, "aaaaaa", true},
		{"<<<", 8, "<<", true}, {"<<<", 12, "<<<", false}, {"ééé", 5, "éé", true}, {"\xff\xff", 3, "\xff", true}, {"a", 0, "", true},
	} {
		got, cut := clip(c.text, c.most)
		if got != c.want || cut != c.cut {
			t.Errorf("clip(%q, %d) is %q, %t", c.text, c.most, got, cut)
		}
	}
	if got := short(" a\n\tb  c ", 100); got != "a b c" {
		t.Errorf("short is %q", got)
	}
	if got := short("abcdef", 3); got != "abc…" {
		t.Errorf("short is %q", got)
	}
}

func TestFitting(t *testing.T) {
	size := func(n int) int { return n }
	for _, c := range []struct{ items, room, shown, left int }{{0, 0, 0, 0}, {3, 3, 3, 0}, {3, 2, 2, 1}, {3, 0, 0, 3}} {
		items := make([]int, c.items)
		for i := range items {
			items[i] = 1
		}
		if shown, left := fitting(items, c.room, size); len(shown) != c.shown || left != c.left {
			t.Errorf("of %d items in %d: %d, and %d left", c.items, c.room, len(shown), left)
		}
	}
}

func TestShownText(t *testing.T) {
	if got := shownText("short", 10, "/all"); got != (text{Text: "short"}) {
		t.Errorf("a short text is %+v", got)
	}
	if got := shownText(strings.Repeat("x\n", 5), 100, "/all"); got.Head == "" || got.All != "" || got.Size != 10 {
		t.Errorf("a text of many lines is %+v", got)
	}
	if got := shownText(strings.Repeat("x", 1000), 500, "/all"); len(got.Text) != 500 || got.All != "/all" || got.Size != 1000 {
		t.Errorf("a long text is %+v", got)
	}
}

func TestWebAddress(t *testing.T) {
	for address, want := range map[string]string{
		"": "", "https://a.example/x?y=1#z": "https://a.example/x?y=1#z", "http://127.0.0.1:1/": "http://127.0.0.1:1/", "HTTPS://a.example": "https://a.example",
		"javascript:alert(1)": "", " https://a.example": "", "//a.example": "", "/x": "", "https:///x": "", "https:x": "", "data:text/html,x": "", "https://u:p@a.example/": "",
		"java\nscript:alert(1)": "", "https://a.example/\n": "",
	} {
		if got := webAddress(address); got != want {
			t.Errorf("webAddress(%q) is %q, want %q", address, got, want)
		}
	}
}

func TestCommentMarkup(t *testing.T) {
	for comment, want := range map[string]string{
		"": "",
		`<p>a<br><b>b:</b> <a href="https://x.example/?a=1&amp;b" rel="opener">c</a></p><ul><li>d</li></ul><blockquote>e</blockquote>`: `<p>a<br><b>b:</b> <a href="https://x.example/?a=1&amp;b" rel="noopener noreferrer">c</a></p><ul><li>d</li></ul><blockquote>e</blockquote>`,
		`<P onclick="x()" style="color:red" class="done">a</P>`:                                                                        `<p>a</p>`,
		`<script>alert(1)</script><style>p{}</style>`:                                                                                  `alert(1)p{}`,
		`<img src=x onerror=alert(1)>a<iframe srcdoc="<b>x">y</iframe>`:                                                                `ay`,
		`<a href="javascript:alert(1)">x</a><a href=" data:,x">y</a>`:                                                                  `<a>x</a><a>y</a>`,
		`<b><p>x</b>y`:                       `<b><p>x</p></b>y`,
		`</div></p>x</main>`:                 `x`,
		`<p>open <b>ends`:                    `<p>open <b>ends</b></p>`,
		`<!-- x --><!doctype html><?php ?>a`: `a`,
		`<svg><a xlink:href="javascript:x" href="https://x.example">l</a></svg>`: `<a href="https://x.example" rel="noopener noreferrer">l</a>`,
		`&lt;script&gt; &amp;lt; &#34;`:                                          `&lt;script&gt; &amp;lt; &#34;`,
		`<textarea><b>x</textarea><plaintext><p>y`:                               `&lt;b&gt;x&lt;p&gt;y`,
		"\xff<br/>":                     "\uFFFD<br>",
		strings.Repeat("<b>", 30) + "x": strings.Repeat("<b>", 20) + "x" + strings.Repeat("</b>", 20),
	} {
		if got, cut := commentMarkup(comment, 10_000); string(got) != want || cut {
			t.Errorf("%q became %q", comment, got)
		}
	}
	if got, cut := commentMarkup("<p>"+strings.Repeat("<", 100)+"</p>", 23); string(got) != "<p>"+strings.Repeat("&lt;", 5)+"</p>" || !cut {
		t.Errorf("it is cut to %q", got)
	}
}

// Whatever a comment is, of what it becomes nothing is more than text, links to web addresses and a few tags.
func FuzzCommentMarkup(f *testing.F) {
	f.Add(`<p>x<a href="https://x.example">y</a></p><script>z</script>`, 100)
	f.Add("<a href='java\tscript:x'><b></p><!--", 5)
	f.Add("<svg><style><img src=x onerror=1></style><math><mtext></p>", 1000)
	f.Fuzz(func(t *testing.T, comment string, most int) {
		most = max(0, min(most, 100_000))
		shown, _ := commentMarkup(comment, most)
		if len(shown) > most+200+strings.Count(comment, "<")*80+len(comment) || !utf8.ValidString(string(shown)) {
			t.Errorf("%d bytes of %d", len(shown), most)
		}
		root, err := html.Parse(strings.NewReader("<div id=in>" + string(shown) + "</div><div id=after></div>"))
		if err != nil {
			t.Fatal(err)
		}
		for n := range root.Descendants() {
			if n.Type == html.CommentNode {
				t.Errorf("%q has a comment", shown)
			}
			if n.Type != html.ElementNode {
				continue
			}
			switch n.Data {
			case "html", "head", "body", "p", "b", "br", "ul", "li", "blockquote":
				if len(n.Attr) > 0 {
					t.Errorf("%q has <%s %v>", shown, n.Data, n.Attr)
				}
			case "div":
				if attribute(n, "id") == "after" && n.Parent.Data != "body" {
					t.Errorf("%q reaches beyond", shown)
				}
			case "a":
				for _, a := range n.Attr {
					if a.Key == "href" && webAddress(a.Val) == "" || a.Key != "href" && a.Key != "rel" {
						t.Errorf("%q has <a %s=%q>", shown, a.Key, a.Val)
					}
				}
			default:
				t.Errorf("%q has <%s>", shown, n.Data)
			}
		}
	})
}
