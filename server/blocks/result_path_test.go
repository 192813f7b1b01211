package blocks

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestResultPath(t *testing.T) {
	const text = ` { "a" : {"b.c":1, "":2, "x/y":3, "m~n":4, "0":5, "big":12345678901234567890.10 } ,
		"list":[ [ ], {"id": 7}, "é\n" ,null], "twice":1, "tw\u0069ce":2, "null":null, "empty":{ } }`
	for path, want := range map[string]string{
		"":               strings.TrimSpace(text),
		"a.big":          "12345678901234567890.10",
		"/a/big":         "12345678901234567890.10",
		"a.0":            "5",
		"/a/b.c":         "1",
		"/a/":            "2",
		"a.":             "2",
		"/a/x~1y":        "3",
		"/a/m~0n":        "4",
		"list.0":         "[ ]",
		"list.1.id":      "7",
		"/list/1":        `{"id": 7}`,
		"/list/2":        `"é\n"`,
		"list.3":         "null",
		"null":           "null",
		"twice":          "2",
		"empty":          "{ }",
		"list.4":         "",
		"list.-1":        "",
		"list.01":        "",
		"list.+1":        "",
		"list.-":         "",
		"list.id":        "",
		"empty.a":        "",
		"a.big.x":        "",
		"null.x":         "",
		"nothing":        "",
		"/":              "",
		"..":             "",
		"list.0.0":       "",
		"list.1.id.more": "",
	} {
		parsed, err := parseResultPath(path)
		if err != nil {
			t.Errorf("%q: %v", path, err)
			continue
		}
		if got := parsed.of(json.RawMessage(text)); string(got) != want {
			t.Errorf("%q: %s, want %s", path, got, want)
		}
	}
	for _, path := range []string{"/~", "/a~", "/~2", "/a/~~0"} {
		if _, err := parseResultPath(path); err == nil {
			t.Errorf("%q is a pointer", path)
		}
	}
	for text, want := range map[string]string{"": "", " ": "", "7": "7", ` "x" `: `"x"`, "[]": "[]", "null": "null"} {
		if got := resultPath(nil).of(json.RawMessage(text)); string(got) != want {
			t.Errorf("all of %q is %q", text, got)
		}
	}
}

// What is found is what package json finds, and nothing panics.
func FuzzResultPath(f *testing.F) {
	f.Add(`{"a":[1,{"b":"x"}]}`, "a.1.b")
	f.Add(` [ {"a~/":null} , 2 ] `, "/0/a~0~1")
	f.Fuzz(func(t *testing.T, text, written string) {
		path, err := parseResultPath(written)
		if err != nil || !json.Valid([]byte(text)) {
			return
		}
		got := path.of(json.RawMessage(text))
		want := json.RawMessage(strings.TrimSpace(text))
		for _, step := range path {
			var object map[string]json.RawMessage
			var list []json.RawMessage
			var found json.RawMessage
			if json.Unmarshal(want, &object) == nil && object != nil {
				found = object[step]
			} else if json.Unmarshal(want, &list) == nil {
				found = elementAt(got, "") // none
				for i, element := range list {
					if step == string(textOf("")) {
						break
					}
					if strings.TrimLeft(step, "0123456789") == "" && step == itoa(i) {
						found = element
					}
				}
			}
			want = found
			if want == nil {
				break
			}
		}
		if !sameJSON(got, want) && strings.ToValidUTF8(text+written, "") == text+written {
			t.Errorf("%q of %q: %q, want %q", written, text, got, want)
		}
	})
}

func itoa(i int) string {
	text, _ := json.Marshal(i)
	return string(text)
}

func sameJSON(a, b json.RawMessage) bool {
	return strings.TrimSpace(string(a)) == strings.TrimSpace(string(b))
}

func TestRecordsOf(t *testing.T) {
	for value, want := range map[string]string{ // joined by |; "-": refused
		`{"a":1}`:         `{"a":1}`,
		`[]`:              ``,
		`[ {"a":1}, {} ]`: `{"a":1}|{}`,
		`[1]`:             "-",
		`[{},null]`:       "-",
		`"x"`:             "-",
		`7`:               "-",
		`{"id":7,"url":"https://acme.zendesk.com/api/v2/tickets/7.json"}`:                   `{"result_type":"ticket","id":7,"url":"https://acme.zendesk.com/api/v2/tickets/7.json"}`,
		`{"id":8,"url":"https://acme.zendesk.com/api/v2/tickets/7.json"}`:                   `{"id":8,"url":"https://acme.zendesk.com/api/v2/tickets/7.json"}`,
		`{"id":7,"url":"https://acme.zendesk.com/api/v2/macros/7.json"}`:                    `{"id":7,"url":"https://acme.zendesk.com/api/v2/macros/7.json"}`,
		`{"id":7,"result_type":"x","url":"https://acme.zendesk.com/api/v2/tickets/7.json"}`: `{"id":7,"result_type":"x","url":"https://acme.zendesk.com/api/v2/tickets/7.json"}`,
		`{"id":7,"url":7}`: `{"id":7,"url":7}`,
		"[" + strings.Repeat("{},", maxSearchResults) + "{}]": "-",
	} {
		records, err := recordsOf(json.RawMessage(value))
		var texts []string
		for _, record := range records {
			texts = append(texts, string(record))
		}
		got := strings.Join(texts, "|")
		if err != nil {
			got = "-"
		}
		if got != want {
			t.Errorf("%.80s: %s, %v, want %s", value, got, err, want)
		}
	}
}
