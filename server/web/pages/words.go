package pages

import (
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"math"
	"path"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

//go:embed templates/*.html
var templateFiles embed.FS

// doneWords are what a page says on top after a form was taken, by the key in its address.
var doneWords = map[string]string{
	"created":       "The account is there. Next: test the connection.",
	"bare":          "The account is there. It needs an authorization before blocks can use it: request a token, then test the connection.",
	"changed":       "The account is changed.",
	"unchanged":     "There was nothing to change.",
	"default":       "It is the default account now.",
	"cleared":       "The OAuth token is cleared.",
	"deleted":       "The account is deleted.",
	"token":         "The token is in force.",
	"retry":         "It waits to be written.",
	"discard":       "It is discarded: nothing is written.",
	"fault-set":     "That is how the sandbox behaves from now on.",
	"fault-removed": "The sandbox behaves again.",
}

// parse reads the templates: each page's file, beside the layout and what pages share.
func parse(now func() time.Time) map[string]*template.Template {
	shared := template.Must(template.New("").Funcs(template.FuncMap{
		"words":  words,
		"when":   when,
		"ago":    func(t *timestamppb.Timestamp) string { return ago(t, now()) },
		"lasts":  lasts,
		"static": staticPath,
		"input":  input,
	}).ParseFS(templateFiles, "templates/layout.html", "templates/parts.html"))
	all := make(map[string]*template.Template)
	files, err := fs.Glob(templateFiles, "templates/*.html")
	if err != nil { // the pattern is right
		return nil
	}
	for _, file := range files {
		name := strings.TrimSuffix(path.Base(file), ".html")
		if name != "layout" && name != "parts" {
			all[name] = template.Must(template.Must(shared.Clone()).ParseFS(templateFiles, file))
		}
	}
	return all
}

// words turns the name of an enum's value into words: CREDENTIAL_STATE_NEEDS_AUTHORIZATION with the prefix CREDENTIAL_STATE is "needs
// authorization".
func words(prefix string, value fmt.Stringer) string {
	name := strings.TrimPrefix(value.String(), prefix+"_")
	return strings.ToLower(strings.ReplaceAll(name, "_", " "))
}

// when is a time for people and for programs.
func when(t *timestamppb.Timestamp) template.HTML {
	if t == nil {
		return "–"
	}
	at := t.AsTime().UTC()
	return template.HTML(fmt.Sprintf(`<time datetime="%s">%s</time>`, at.Format(time.RFC3339), at.Format("2006-01-02 15:04:05 UTC"))) //nolint:gosec // G203: a time is no markup
}

// ago says how long ago a time was, or how long it is to it.
func ago(t *timestamppb.Timestamp, now time.Time) string {
	if t == nil {
		return ""
	}
	if since := now.Sub(t.AsTime()); since >= 0 {
		return span(since) + " ago"
	} else { //nolint:revive // the two read better side by side
		return "in " + span(-since)
	}
}

// lasts says how long something takes.
func lasts(d *durationpb.Duration) string {
	if d == nil {
		return "–"
	}
	return span(d.AsDuration())
}

// span words a length of time by its largest unit, and the next one where it tells much.
func span(d time.Duration) string {
	if d < 0 {
		d = 0
	}
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(math.Round(d.Seconds())))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 24*time.Hour:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d d %d h", int(d.Hours())/24, int(d.Hours())%24)
}

// field is what an input of a form shows.
type field struct {
	Name, Label, Value, Hint, Type string
	Problem                        string // what is wrong with it; empty: nothing is known to be
	Required                       bool
}

// input describes an input of a form for the template "field": type is one of HTML's, or textarea; a * at its end says that it is required.
func input(name, label, value, kind, hint string, p *problem) field {
	required := strings.HasSuffix(kind, "*")
	return field{name, label, value, hint, strings.TrimSuffix(kind, "*"), p.Field(name), required}
}
