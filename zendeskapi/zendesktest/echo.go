package zendesktest

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// EchoMark stands for what was sent, in the texts of a fault with Echo.
const EchoMark = "{{echo}}"

// Echoes are the forms in which a gateway may repeat what it was sent, by name.
var Echoes = map[string]func(string) string{
	"plain":            func(s string) string { return s },
	"percent":          eachByte("%%%02x"),
	"percent_upper":    eachByte("%%%02X"),
	"percent_twice":    func(s string) string { return url.QueryEscape(url.QueryEscape(s)) },
	"form":             url.QueryEscape,
	"json":             func(s string) string { return jsonString(s, true) },
	"html":             html.EscapeString,
	"html_decimal":     eachByte("&#%d;"),
	"html_hex":         eachByte("&#x%x;"),
	"base64":           func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) },
	"base64_url":       func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) },
	"hex":              func(s string) string { return hex.EncodeToString([]byte(s)) },
	"quoted_printable": eachByte("=%02X"),
}

func eachByte(format string) func(string) string {
	return func(text string) string {
		var b strings.Builder
		for i := range len(text) {
			fmt.Fprintf(&b, format, text[i])
		}
		return b.String()
	}
}

// jsonString is a text as it stands in a JSON string, with all its characters escaped or only those that must be.
func jsonString(text string, all bool) string {
	if all {
		var b strings.Builder
		for _, r := range text {
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		return b.String()
	}
	quoted, _ := json.Marshal(text) // a string always can
	return string(quoted[1 : len(quoted)-1])
}

// sentSecrets are the credential of a request, as it was sent and without base64, and the values of its body if that is a
// form.
func sentSecrets(r *http.Request, body []byte) string {
	sent := []string{r.Header.Get("Authorization")}
	if user, token, ok := r.BasicAuth(); ok {
		sent = append(sent, user+":"+token)
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err == nil && kind == "application/x-www-form-urlencoded" {
		if form, err := url.ParseQuery(string(body)); err == nil {
			for _, name := range []string{"client_secret", "password", "code", "code_verifier", "refresh_token"} {
				sent = append(sent, form.Get(name))
			}
		}
	}
	sent = slices.DeleteFunc(sent, func(s string) bool { return s == "" })
	return strings.Join(sent, " ")
}

// echoing is the fault with what was sent in the place of its marks.
func (f *Fault) echoing(r *http.Request, body []byte) *Fault {
	encode := Echoes[f.Echo]
	if encode == nil {
		return f
	}
	echo := encode(sentSecrets(r, body))
	inJSON := echo
	if f.Echo != "json" {
		inJSON = jsonString(echo, false)
	}
	filled := *f
	if f.Body != nil {
		put := echo
		if json.Valid([]byte(*f.Body)) {
			put = inJSON
		}
		filled.Body = new(strings.ReplaceAll(*f.Body, EchoMark, put))
	}
	if f.Edit != nil {
		edit := &Edit{Header: map[string]string{}, Set: map[string]json.RawMessage{}}
		for name, value := range f.Edit.Header {
			edit.Header[name] = strings.ReplaceAll(value, EchoMark, echo)
		}
		for path, value := range f.Edit.Set {
			edit.Set[path] = value
			if value != nil {
				edit.Set[path] = json.RawMessage(strings.ReplaceAll(string(value), EchoMark, inJSON))
			}
		}
		filled.Edit = edit
	}
	return &filled
}
