package redact_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"html"
	"maps"
	"mime/quotedprintable"
	"net/url"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/scenarioblocks/zendeskblocks/store/secret"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/redact"
)

// The same cases each time, so that a change is judged by itself; -rapid.seed=0 draws others.
func init() { _ = flag.Set("rapid.seed", "1") }

const token = `tok/En+"7f3a9c<01>=é&4b5d'x`

func eachByte(format string) func(string) string {
	return func(text string) string {
		var b strings.Builder
		for i := range len(text) {
			fmt.Fprintf(&b, format, text[i])
		}
		return b.String()
	}
}

func eachRune(format string) func(string) string {
	return func(text string) string {
		var b strings.Builder
		for _, r := range text {
			fmt.Fprintf(&b, format, r)
		}
		return b.String()
	}
}

func lines(text string) string {
	var b strings.Builder
	for i := range len(text) {
		if i > 0 && i%7 == 0 {
			b.WriteString("\r\n")
		}
		b.WriteByte(text[i])
	}
	return b.String()
}

func printable(text string) string {
	var b strings.Builder
	w := quotedprintable.NewWriter(&b)
	_, _ = w.Write([]byte(text))
	_ = w.Close()
	return b.String()
}

// encodings are the ways in which a text is written, by name.
var encodings = map[string]func(string) string{
	"as it is":        func(s string) string { return s },
	"upper case":      strings.ToUpper,
	"percent":         url.PathEscape,
	"percent, lower":  eachByte("%%%02x"),
	"percent, all":    eachByte("%%%02X"),
	"form":            url.QueryEscape,
	"percent twice":   func(s string) string { return url.QueryEscape(url.QueryEscape(s)) },
	"JSON":            func(s string) string { out, _ := json.Marshal(s); return string(out[1 : len(out)-1]) },
	"JSON, all":       eachRune(`\u%04X`),
	"JSON with slash": func(s string) string { return strings.NewReplacer(`/`, `\/`, `"`, `\"`).Replace(s) },
	"C":               eachByte(`\x%02x`),
	"octal":           eachByte(`\%03o`),
	"Go":              func(s string) string { return fmt.Sprintf("%+q", s) },
	"HTML":            html.EscapeString,
	"HTML, decimal":   eachRune("&#%d;"),
	"HTML, hex":       eachRune("&#x%X;"),
	"HTML, no ends":   eachRune("&#%04d"),
	"HTML, named": func(s string) string {
		return strings.NewReplacer("/", "&sol;", "+", "&plus;", "=", "&equals;").Replace(html.EscapeString(s))
	},
	"base64":           func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) },
	"base64, URL":      func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) },
	"base64, one on":   func(s string) string { return base64.StdEncoding.EncodeToString([]byte("a" + s)) },
	"base64, two on":   func(s string) string { return base64.StdEncoding.EncodeToString([]byte("me" + s + "z")) },
	"basic":            func(s string) string { return base64.StdEncoding.EncodeToString([]byte("ann@example.com/token:" + s)) },
	"base64, in lines": func(s string) string { return lines(base64.StdEncoding.EncodeToString([]byte(s))) },
	"hex":              func(s string) string { return hex.EncodeToString([]byte(s)) },
	"hex, upper":       eachByte("%02X"),
	"quoted-printable": printable,
	"quoted, all":      eachByte("=%02X"),
	"in lines":         lines,
}

func TestTextTellsNoSecret(t *testing.T) {
	secrets := redact.New(secret.New(token))
	for name, encode := range encodings {
		for place, around := range map[string][2]string{
			"alone": {}, "in JSON": {`{"error":{"title":"Bad","message":"got `, ` here"}}`}, "in a form": {"client_id=me&client_secret=", "&grant_type=x"},
			"in HTML": {"<p>Header <b>", "</b> is wrong</p>"}, "glued": {"Bearer", "/x"},
		} {
			text := around[0] + encode(token) + around[1]
			got := secrets.Text(text)
			if !strings.HasPrefix(got, around[0]) || !strings.HasSuffix(got, around[1]) || !strings.Contains(got, secret.Redacted) || len(got) > len(around[0])+len(around[1])+40 {
				t.Errorf("%s, %s: %q became %q", name, place, text, got)
			}
			if !secrets.In([]byte(text)) || secrets.In([]byte(got)) {
				t.Errorf("%s, %s: %q is not to be changed, or %q still is", name, place, text, got)
			}
			if !secrets.Holds(text) || secrets.Holds(got) {
				t.Errorf("%s, %s: %q is not told from %q", name, place, text, got)
			}
			for other, again := range encodings {
				if other == "upper case" || name == "quoted, all" && other == "in lines" {
					continue // nobody could read that
				}
				if text := around[0] + again(encode(token)) + around[1]; !secrets.Holds(text) {
					t.Errorf("%s in %s, %s: %q is taken for harmless", name, other, place, text)
				}
			}
		}
	}
}

// What is no secret stays.
func TestTextStays(t *testing.T) {
	secrets := redact.New(secret.New("7f3a9c014b5d6e8f90a1b2c3d4e5f60718293a4b"), secret.New("p4ss"), secret.New("abc"), secret.Value{})
	for _, text := range []string{
		"", "Record validation errors", `{"error":"RecordInvalid","details":{"status":[{"description":"closed"}]}}`,
		"7f3a9c014b5", // too little to be of use, and not at the end
		"46900000001101 2026-11-24T14:03:20Z https://acme.zendesk.com/api/v2/tickets/35436.json?page=2&per_page=100",
		"p4ssage", "aabc abc", "100% &nbsp; \\o/ =) a=b c==d", "\xff\xfe", strings.Repeat("deadbeef", 1000), strings.Repeat("aGVsbG8gd29ybGQ", 100),
	} {
		if got := secrets.Text(text + " …"); got != text+" …" || secrets.In([]byte(text+" …")) {
			t.Errorf("%.100q became %.100q", text, got)
		}
	}
	for text, want := range map[string]string{
		"is p4ss wrong":         "is [redacted] wrong",
		"is p4ss":               "is [redacted]",
		`{"p":"%704s%73"}`:      `{"p":"[redacted]"}`,
		"at the end 7f3a9":      "at the end [redacted]",
		"at the end %37f3a9c%3": "at the end [redacted]",
		"x 7f3a9c014b5d y":      "x [redacted] y",
		"x 7\u200bf\u00a03\ufeff a9 c014b5d6e8f y": "x [redacted] y",
	} {
		if got := secrets.Text(text); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
	nested := "%41"
	for range 7 {
		nested = url.QueryEscape(nested)
	}
	if got := secrets.Text("a " + nested); got != secret.Redacted {
		t.Errorf("%q became %q", nested, got)
	}
	var none *redact.Secrets
	if got := none.Text(token); got != token || none.Holds(token) || none.In([]byte(token)) || redact.New().Holds(token) || !none.With(secret.New(token)).Holds(token) {
		t.Errorf("without secrets %q became %q", token, got)
	}
	for text, want := range map[string]bool{"": false, "any": true} {
		if redact.New(secret.New("ab")).Holds(text) != want {
			t.Errorf("whether %q holds a secret of two letters is told", text)
		}
	}
	if !redact.New(secret.New("7f3a9c014b5d6e8f")).Holds("x9c014B5Dy") {
		t.Error("eight characters of a secret are taken for harmless")
	}
}

// piecewise are encodings of which it is known what stands for each character.
var piecewise = map[string]func([]string) []string{
	"percent": each(eachByte("%%%02X")), "form": each(url.QueryEscape), "JSON": each(eachRune(`\u%04x`)), "HTML": each(eachRune("&#%d;")),
	"named": each(html.EscapeString), "hex": each(eachByte("%02x")), "quoted": each(eachByte("=%02X")), "C": each(eachByte(`\x%02X`)),
	"base64": func(pieces []string) []string {
		encoded := base64.RawStdEncoding.EncodeToString([]byte(strings.Join(pieces, "")))
		cut, at, out := 0, 0, make([]string, len(pieces))
		for i, piece := range pieces {
			at += len(piece)
			end := (at*8 + 5) / 6
			out[i], cut = encoded[cut:end], end
		}
		return out
	},
}

func each(encode func(string) string) func([]string) []string {
	return func(pieces []string) []string {
		out := make([]string, len(pieces))
		for i, piece := range pieces {
			out[i] = encode(piece)
		}
		return out
	}
}

func TestNoSecretCanBeRecovered(t *testing.T) {
	names := slices.Sorted(maps.Keys(piecewise))
	around := rapid.OneOf(
		rapid.StringN(0, 40, -1),
		rapid.SampledFrom([]string{"", `{"error":"`, `"}`, "Bearer ", "&x=%4", "=", "%", "\\", "&#", "aGVsbG8", "deadbeef"}),
	)
	secrets := rapid.StringMatching(`[A-Za-z0-9._~+/=-]{16,64}`).Filter(func(text string) bool {
		return strings.Count(text, "+") <= 2 // which are compared as white space is: some more, and there is little to keep
	})
	rapid.Check(t, func(t *rapid.T) {
		text := secrets.Draw(t, "secret")
		pieces := strings.Split(text, "")
		for _, name := range rapid.SliceOfN(rapid.SampledFrom(names), 0, 3).Draw(t, "encodings") {
			pieces = piecewise[name](pieces)
		}
		before, after := around.Draw(t, "before"), around.Draw(t, "after")
		whole := before + strings.Join(pieces, "") + after
		n := rapid.IntRange(0, len(whole)).Draw(t, "cut")
		for _, got := range []string{redact.New(secret.New(text)).Text(whole), redact.New(secret.New(text)).Prefix(whole, n), redact.New(secret.New(text)).Text(whole[:n])} {
			for i := range len(pieces) - 14 {
				if part := strings.Join(pieces[i:i+14], ""); strings.Contains(got, part) {
					t.Fatalf("%q keeps %q", got, part)
				}
			}
		}
	})
}

func FuzzText(f *testing.F) {
	for name, encode := range encodings {
		f.Add(name+encode(token), token, 10)
	}
	f.Fuzz(func(t *testing.T, text, hidden string, n int) {
		secrets := redact.New(secret.New(hidden))
		got := secrets.Text(text)
		if !secrets.In([]byte(text)) && got != text {
			t.Errorf("%q became %q and tells nothing", text, got)
		}
		if again := secrets.Text(got); again != got {
			t.Errorf("%q became %q and then %q", text, got, again)
		}
		if len(hidden) >= 6 && strings.Trim(hidden, " +") == hidden && !strings.Contains(secret.Redacted, hidden) && strings.Contains(got, hidden) {
			t.Errorf("%q keeps %q", got, hidden)
		}
		if cut := secrets.Prefix(text, max(n, 0)); len(cut) > len(text)*len(secret.Redacted)+len(secret.Redacted) {
			t.Errorf("%q has %d bytes", cut, len(cut))
		}
	})
}

func BenchmarkText(b *testing.B) {
	secrets := redact.New(secret.New(strings.Repeat("7f3a9c01", 8)), secret.New("tok/En+7f3a9c01=4b5dx"), secret.New(strings.Repeat("Kx9", 13)))
	record := `{"id":46900000001101,"url":"https:\/\/acme.zendesk.com\/api\/v2\/tickets\/46900000001101.json","subject":"Charged twice \u003cb\u003e","description":"Hello,\n\nI was charged twice in October & want \"my\" money back: 20%.","tags":["billing","vip"],"created_at":"2026-11-24T14:03:20Z"},`
	for name, text := range map[string]string{
		"records": strings.Repeat(record, (64<<10)/len(record)),
		"base64":  strings.Repeat("aGVsbG8gd29ybGQgdGhpcyBpcyBub3QgYSBzZWNyZXQ", (64<<10)/43),
		"ids":     strings.Repeat("0f8fad5b-d9cb-469f-a165-70867728950e ", (64<<10)/37),
		"escapes": strings.Repeat("%2541", (64<<10)/5),
		"noise": func() string {
			b := make([]byte, 48<<10)
			x := uint32(1)
			for i := range b {
				x = x*1664525 + 1013904223
				b[i] = byte(x >> 24)
			}
			return base64.StdEncoding.EncodeToString(b)
		}(),
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				secrets.Text(text)
			}
		})
	}
}
