package recordset_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/scenarioblocks/zendeskblocks/server/recordset"
)

// The same cases each time, so that a change is judged by itself; -rapid.seed=0 draws others.
func init() { _ = flag.Set("rapid.seed", "1") }

func Example() {
	record := json.RawMessage(`{"id": 35436, "via": {"channel": "voice"}, "tags": ["vip", "de"],
		"custom_fields": [{"id": 360001, "value": null}], "result_type": "ticket"}`)
	columns, err := recordset.Flatten(record, nil)
	for _, name := range slices.Sorted(maps.Keys(columns)) {
		fmt.Printf("%s = %q\n", name, columns[name])
	}
	fmt.Println(err)
	// Output:
	// custom_fields.360001 = ""
	// id = "35436"
	// result_type = "ticket"
	// tags = "vip,de"
	// via.channel = "voice"
	// <nil>
}

func TestFlatten(t *testing.T) {
	type columns = map[string]string
	deep := strings.Repeat(`{"a":`, recordset.MaxDepth-1) + `{"x":1,"b":{"y":2}}` + strings.Repeat("}", recordset.MaxDepth-1)
	long := strings.Repeat("n", recordset.MaxColumnBytes)
	for _, c := range []struct {
		name, record string
		want         columns
	}{
		{"empty", ` {} `, columns{}},
		{"scalars", `{"s":"x","t":true,"f":false,"n":null,"e":""}`, columns{"s": "x", "t": "true", "f": "false", "n": "", "e": ""}},
		{"numbers as written", `{"a":9007199254740993,"b":46000000000001,"c":1.50,"d":-0,"e":1E+3,"f":12345678901234567890123}`,
			columns{"a": "9007199254740993", "b": "46000000000001", "c": "1.50", "d": "-0", "e": "1E+3", "f": "12345678901234567890123"}},
		{"nested", `{"via":{"channel":"web","source":{"from":{"name":"Ann"}}},"user_fields":{"plan":"gold"}}`,
			columns{"via.channel": "web", "via.source.from.name": "Ann", "user_fields.plan": "gold"}},
		{"empty object and array", `{"o":{},"a":[],"b":[[]],"c":[{}]}`, columns{"a": "", "b.0": ""}},
		{"scalars joined", `{"tags":["a","b,c"],"ids":[46000000000001,2],"mixed":[1,null,true,""]}`,
			columns{"tags": "a,b,c", "ids": "46000000000001,2", "mixed": "1,,true,"}},
		{"objects by index", `{"a":[{"b":1},{"b":2,"c":[3,4]}]}`, columns{"a.0.b": "1", "a.1.b": "2", "a.1.c": "3,4"}},
		{"mixed array by index", `{"a":[1,{"b":2},[3,4],null]}`, columns{"a.0": "1", "a.1.b": "2", "a.2": "3,4", "a.3": ""}},
		{"custom fields by id", `{"fields":[{"id":1,"value":"x"}],"custom_fields":[{"id":1,"value":"x"},{"id":46000000000001,"value":null},{"id":2,"value":["p","q"]},{"id":3},{"id":4,"value":false}]}`,
			columns{"custom_fields.1": "x", "custom_fields.46000000000001": "", "custom_fields.2": "p,q", "custom_fields.3": "", "custom_fields.4": "false"}},
		{"fields before and after", `{"custom_fields":[],"fields":[{"id":1,"value":"x"}]}`, columns{"custom_fields": ""}},
		{"fields that are no duplicate", `{"fields":[{"id":1,"value":"x"}]}`, columns{"fields.0.id": "1", "fields.0.value": "x"}},
		{"fields beside null", `{"fields":{"a":1},"custom_fields":null}`, columns{"fields.a": "1", "custom_fields": ""}},
		{"nested fields stay", `{"x":{"fields":1,"custom_fields":[2]}}`, columns{"x.fields": "1", "x.custom_fields": "2"}},
		{"custom fields without id", `{"custom_fields":[{"id":1,"value":"x"},{"value":"y"}]}`,
			columns{"custom_fields.0.id": "1", "custom_fields.0.value": "x", "custom_fields.1.value": "y"}},
		{"custom fields object", `{"custom_fields":{"plan":"gold"}}`, columns{"custom_fields.plan": "gold"}},
		{"custom field twice", `{"custom_fields":[{"id":1,"value":"x"},{"id":1,"value":"y"}]}`, columns{"custom_fields.1": "y"}},
		{"member twice", `{"a":{"b":1},"a":{"c":2}}`, columns{"a.c": "2"}},
		{"one name two ways", `{"a.b":1,"a":{"b":2}}`, columns{"a.b": "1"}},
		{"case matters", `{"A":1,"a":2}`, columns{"A": "1", "a": "2"}},
		{"odd names", `{"":1,".":2,"a":{"":3},"é b":4}`, columns{"": "1", ".": "2", "a.": "3", "é b": "4"}},
		{"escapes", `{"a":"\u00e9\n\ud83d\ude00\ud800","\u0062":1}`, columns{"a": "é\n😀\ufffd", "b": "1"}},
		{"invalid UTF-8", "{\"a\":\"x\xffy\",\"\xfe\":1}", columns{"a": "x\ufffdy", "\ufffd": "1"}},
		{"too deep", `{"x":0,"d":` + deep + `}`, columns{"x": "0"}},
		{"deep enough", deep, columns{strings.Repeat("a.", recordset.MaxDepth-1) + "x": "1"}},
		{"long names", `{"` + long + `":{"a":2},"` + long + `n":3,"a":{"` + long + `":4}}`, columns{}},
		{"longest name", `{"` + long + `":1}`, columns{long: "1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := recordset.Flatten(json.RawMessage(c.record), nil)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestFlattenSelects(t *testing.T) {
	record := json.RawMessage(`{"id":1,"via":{"channel":"web","source":{"rel":"x"}},"viable":2,"tags":["a"],"a":[{"b":1},{"b":2}],"x.y":{"z":3},"x":{"w":4},
		"custom_fields":[{"id":36,"value":"p"},{"id":360,"value":"q"}],"fields":[{"id":36,"value":"p"}]}`)
	for columns, want := range map[string]string{
		"id": "id", "via": "via.channel via.source.rel", "via.source": "via.source.rel", "via.channel": "via.channel", "via via.channel": "via.channel via.source.rel",
		"via.channel via": "via.channel via.source.rel", "vi": "", "via.": "", "tags": "tags", "tags.0": "", "a.1": "a.1.b", "a": "a.0.b a.1.b",
		"x.y": "x.y.z", "x": "x.w x.y.z", "x.y.z": "x.y.z", "custom_fields.36": "custom_fields.36", "custom_fields": "custom_fields.36 custom_fields.360",
		"fields": "", "fields.0.id": "", "nothing id id": "id", "ID": "",
	} {
		got, err := recordset.Flatten(record, strings.Fields(columns))
		if names := strings.Join(slices.Sorted(maps.Keys(got)), " "); names != want || err != nil {
			t.Errorf("columns %q: %q, %v, want %q", columns, names, err, want)
		}
	}
}

func TestFlattenManyColumns(t *testing.T) {
	var record strings.Builder
	for i := range recordset.MaxColumns + 10 {
		fmt.Fprintf(&record, `,"c%06d":%d`, i, i)
	}
	got, err := recordset.Flatten(json.RawMessage("{"+record.String()[1:]+"}"), nil)
	if err != nil || len(got) != recordset.MaxColumns {
		t.Fatalf("%d columns, %v, want %d", len(got), err, recordset.MaxColumns)
	}
	if last := fmt.Sprintf("c%06d", recordset.MaxColumns-1); got[last] == "" {
		t.Errorf("%s is left out", last)
	}
}

var unreadable = []string{
	"", " ", "null", "[]", `[{"id":1}]`, "1", `"x"`, "true", "<html>", "{", `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `{"a":1}}`, `{"a":1} {}`, `{"a":1}x`,
	`{a:1}`, `{"a":01}`, `{"a":NaN}`, "{\"a\":\"\n\"}", `{"a":[1,}`, "\ufeff{}", strings.Repeat(`{"a":`, 100_000), `{"a":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + "}",
}

func TestUnreadable(t *testing.T) {
	for _, record := range unreadable {
		for _, columns := range [][]string{nil, {"a.b"}, {"z"}} {
			if got, err := recordset.Flatten(json.RawMessage(record), columns); got != nil || err == nil {
				t.Errorf("Flatten(%.20q, %q) = %v, %v, want an error", record, columns, got, err)
			}
			if _, err := recordset.Prune(json.RawMessage(record), columns); err == nil {
				t.Errorf("Prune(%.20q, %q) accepts it", record, columns)
			}
			if _, err := recordset.Pick(json.RawMessage(record), columns, []string{"a"}); err == nil {
				t.Errorf("Pick(%.20q, %q) accepts it", record, columns)
			}
		}
		if kind, id := recordset.Identify(json.RawMessage(record)); kind != recordset.Other || id != "" {
			t.Errorf("Identify(%.20q) = %d, %q", record, kind, id)
		}
	}
}

func TestPrune(t *testing.T) {
	const record = ` { "via":{"channel":"web","source":{"rel":"x"}}, "result_type":"user" , "n" : 1.50e1, "id":46000000000001,
		"custom_fields":[{"id":1,"value": "x"},{"id":2,"value":"y"}],"fields":[{"id":1,"value":"x"}],"a":[ {"b":1},{"c":2} ],"<k>":"\u003c"}`
	for columns, want := range map[string]string{
		"":                  record,
		"none":              `{"id":46000000000001,"result_type":"user"}`,
		"n":                 `{"id":46000000000001,"n":1.50e1,"result_type":"user"}`,
		"via.channel id":    `{"id":46000000000001,"result_type":"user","via":{"channel":"web"}}`,
		"via.channel via":   `{"id":46000000000001,"result_type":"user","via":{"channel":"web","source":{"rel":"x"}}}`,
		"custom_fields.1":   `{"custom_fields":[{"id":1,"value": "x"}],"id":46000000000001,"result_type":"user"}`,
		"custom_fields.9":   `{"custom_fields":[],"id":46000000000001,"result_type":"user"}`,
		"a.1.c fields":      `{"a":[ {"b":1},{"c":2} ],"id":46000000000001,"result_type":"user"}`,
		"<k>":               `{"\u003ck\u003e":"\u003c","id":46000000000001,"result_type":"user"}`,
		"id.x result_type.": `{"id":46000000000001,"result_type":"user"}`,
	} {
		in := json.RawMessage(record)
		got, err := recordset.Prune(in, strings.Fields(columns))
		if string(got) != want || err != nil {
			t.Errorf("columns %q: %s, %v, want %s", columns, got, err, want)
		}
		if string(in) != record {
			t.Fatalf("columns %q: the record was modified", columns)
		}
	}
}

func TestPruneKeepsWhole(t *testing.T) {
	deep := `{"id":1,` + strings.Repeat(`"a":{`, recordset.MaxDepth+1) + `"x":1,"y":2` + strings.Repeat("}", recordset.MaxDepth+1) + "}"
	for record, column := range map[string]string{
		deep: strings.Repeat("a.", recordset.MaxDepth+1) + "x",
		`{"custom_fields":[{"id":1,"value":2},{"value":3},{"id":4}],"id":1}`:    "custom_fields.0.id",
		`{"custom_fields":[{"id":1,"value":2},{"id":null},{"id":4}],"id":1}`:    "custom_fields.1.id",
		`{"custom_fields":[{"id":1,"value":2},{"id":[1]},null,"id"],"id":true}`: "custom_fields.0.value",
	} {
		got, err := recordset.Prune(json.RawMessage(record), []string{column})
		if diff := cmp.Diff(decoded(t, record), decoded(t, string(got))); diff != "" || err != nil {
			t.Error(err, diff)
		}
	}
}

func decoded(t *testing.T, record string) any {
	t.Helper()
	var value any
	if err := json.Unmarshal([]byte(record), &value); err != nil {
		t.Fatal(err)
	}
	return value
}

func TestIdentify(t *testing.T) {
	for record, want := range map[string]struct {
		kind recordset.Type
		id   string
	}{
		`{"result_type":"ticket","id":35436}`:                         {recordset.Ticket, "35436"},
		`{"id":9007199254740993,"result_type":"user"}`:                {recordset.User, "9007199254740993"},
		`{"result_type":"organization","id":"46000000000001"}`:        {recordset.Organization, "46000000000001"},
		`{"result_type":"group","id":18446744073709551616}`:           {recordset.Group, "18446744073709551616"},
		`{"result_type":"topic","id":1}`:                              {recordset.Other, "1"},
		`{"result_type":"Ticket","id":1}`:                             {recordset.Other, "1"},
		`{"id":1,"email":"a@b.c"}`:                                    {recordset.Other, "1"},
		`{"result_type":null,"id":null}`:                              {recordset.Other, ""},
		`{"result_type":["user"],"id":[1]}`:                           {recordset.Other, ""},
		`{"result_type":"user"}`:                                      {recordset.User, ""},
		`{"result_type":"user","id":-1}`:                              {recordset.User, ""},
		`{"result_type":"user","id":1e3}`:                             {recordset.User, ""},
		`{"result_type":"user","id":1.0}`:                             {recordset.User, ""},
		`{"result_type":"user","id":"x"}`:                             {recordset.User, ""},
		`{"result_type":"user","id":""}`:                              {recordset.User, ""},
		`{"Result_Type":"user","ID":1}`:                               {recordset.Other, ""},
		`{"result_type":"user","result_type":"ticket","id":1,"id":2}`: {recordset.Ticket, "2"},
		`{"user":{"id":1,"result_type":"user"}}`:                      {recordset.Other, ""},
	} {
		if kind, id := recordset.Identify(json.RawMessage(record)); kind != want.kind || id != want.id {
			t.Errorf("Identify(%s) = %d, %q, want %d, %q", record, kind, id, want.kind, want.id)
		}
	}
}

func TestVariables(t *testing.T) {
	ever := []string{"__count__", "id", "name"}
	current := map[string]string{"id": "2", "tags": "a"}
	got := recordset.Variables("RS", current, ever, "3")
	want := map[string]string{"RS.id": "2", "RS.name": "", "RS.tags": "a", "RS.__count__": "3"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	want = map[string]string{"RS.id": "", "RS.name": "", "RS.__count__": ""}
	if diff := cmp.Diff(want, recordset.Variables("RS", nil, ever, "")); diff != "" {
		t.Error(diff)
	}
}

func TestUnion(t *testing.T) {
	ever := make([]string, 2, 10)
	ever[0], ever[1] = "b", "d"
	if diff := cmp.Diff([]string{"a", "b", "c", "d"}, recordset.Union(ever, map[string]string{"c": "", "a": "x", "b": "y"})); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"b", "d"}, recordset.Union(ever, nil)); diff != "" || ever[:3][2] != "" {
		t.Error("ever was modified", diff)
	}
	if got := recordset.Union(nil, nil); len(got) != 0 {
		t.Errorf("the union of nothing is %q", got)
	}
}

// checkPruned compares what Flatten and Identify make of a record and of what Prune keeps of it.
func checkPruned(t interface {
	Fatalf(format string, args ...any)
}, record json.RawMessage, columns []string,
) {
	want, err := recordset.Flatten(record, columns)
	pruned, pruneErr := recordset.Prune(record, columns)
	if (err == nil) != (pruneErr == nil) {
		t.Fatalf("%s with columns %q: Flatten's error is %v, Prune's %v", record, columns, err, pruneErr)
	}
	if err != nil {
		return
	}
	got, err := recordset.Flatten(pruned, columns)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%s with columns %q became %s: %v\n%s", record, columns, pruned, err, cmp.Diff(want, got))
	}
	kind, id := recordset.Identify(record)
	if prunedKind, prunedID := recordset.Identify(pruned); prunedKind != kind || prunedID != id {
		t.Fatalf("%s with columns %q became %s: type %d, id %q, want %d, %q", record, columns, pruned, prunedKind, prunedID, kind, id)
	}
}

// checkColumns compares what Flatten makes of a record with what its tree says, and with what Pick finds in it.
func checkColumns(t interface {
	Fatalf(format string, args ...any)
}, record json.RawMessage, columns, names []string,
) {
	got, err := recordset.Flatten(record, columns)
	if err != nil {
		return
	}
	want := map[string]string(flattenTree(record, columns))
	if len(want) <= recordset.MaxColumns && !maps.Equal(got, want) {
		t.Fatalf("%s with columns %q: %s", record, columns, cmp.Diff(want, got))
	}
	picked, err := recordset.Pick(record, columns, names)
	if err != nil {
		t.Fatalf("%s: %v", record, err)
	}
	maps.DeleteFunc(want, func(name, _ string) bool { return !slices.Contains(names, name) })
	if !maps.Equal(picked, want) {
		t.Fatalf("%s with columns %q, names %q: %s", record, columns, names, cmp.Diff(want, picked))
	}
}

func TestPruneKeepsColumns(t *testing.T) {
	names := []string{"id", "a", "b", "a.b", "custom_fields", "fields", "value", "result_type", "0", "1", "", ".", "é", "<"}
	scalar := rapid.SampledFrom([]string{"null", "true", "1", "36", "1.0e2", `"x"`, `"36"`, `""`, `"ticket"`, `"\u003c"`})
	name := rapid.SampledFrom(names)
	var value *rapid.Generator[string]
	object := rapid.Custom(func(t *rapid.T) string {
		var members []string
		for range rapid.IntRange(0, 4).Draw(t, "members") {
			key, _ := json.Marshal(name.Draw(t, "key"))
			members = append(members, string(key)+": "+value.Draw(t, "value"))
		}
		return "{" + strings.Join(members, ", ") + "}"
	})
	array := rapid.Custom(func(t *rapid.T) string {
		return "[" + strings.Join(rapid.SliceOfN(value, 0, 3).Draw(t, "elements"), ", ") + "]"
	})
	fields := rapid.Custom(func(t *rapid.T) string {
		var all []string
		for range rapid.IntRange(0, 3).Draw(t, "fields") {
			all = append(all, `{"id":`+scalar.Draw(t, "id")+`,"value":`+value.Draw(t, "value")+`}`)
		}
		return "[" + strings.Join(all, ",") + "]"
	})
	value = rapid.OneOf(scalar, scalar, rapid.Deferred(func() *rapid.Generator[string] { return object }), rapid.Deferred(func() *rapid.Generator[string] { return array }), fields)
	column := rapid.Map(rapid.SliceOfN(rapid.SampledFrom(append(names, "36")), 1, 3), func(s []string) string { return strings.Join(s, ".") })
	rapid.Check(t, func(t *rapid.T) {
		record, columns := json.RawMessage(object.Draw(t, "record")), rapid.SliceOfN(column, 0, 4).Draw(t, "columns")
		checkPruned(t, record, columns)
		some := slices.Sorted(maps.Keys(flattenTree(record, nil)))
		checkColumns(t, record, columns, append(rapid.SliceOfN(column, 0, 4).Draw(t, "names"), some[:len(some)/2]...))
	})
}

func FuzzFlatten(f *testing.F) {
	f.Add([]byte(ticket(f)), "via.channel custom_fields.46000000000401")
	f.Add([]byte(`{"custom_fields":[{"id":1,"value":[{"a":1}]}],"fields":1,"a":{"b":[1,[2]]}}`), "custom_fields.1.0 a")
	for _, record := range unreadable[:len(unreadable)-2] {
		f.Add([]byte(record), "a")
	}
	f.Fuzz(func(t *testing.T, record []byte, columns string) {
		checkPruned(t, record, nil)
		checkPruned(t, record, strings.Fields(columns))
		checkColumns(t, record, strings.Fields(columns), strings.Fields(columns))
		checkColumns(t, record, nil, strings.Fields(columns))
		got, err := recordset.Flatten(record, nil)
		again, _ := recordset.Flatten(record, nil)
		if err == nil && !reflect.DeepEqual(got, again) {
			t.Error("two calls differ")
		}
		for name, text := range got {
			if len(name) > recordset.MaxColumnBytes || strings.ToValidUTF8(text, "") != text {
				t.Errorf("column %q = %q", name, text)
			}
		}
	})
}

func ticket(tb testing.TB) json.RawMessage {
	tb.Helper()
	record, err := os.ReadFile("testdata/ticket.json")
	if err != nil {
		tb.Fatal(err)
	}
	return record
}

func TestTicket(t *testing.T) {
	got, err := recordset.Flatten(ticket(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"id": "35436", "requester_id": "46000000000101", "via.source.from.phone": "+15135557611", "tags": "vip,printer,plan_gold", "external_id": "",
		"custom_fields.46000000000401": "plan_gold", "custom_fields.46000000000403": "a,b", "custom_fields.46000000000400": "", "collaborator_ids": "46000000000111,46000000000112",
		"has_incidents": "true", "follower_ids": "",
	} {
		if text, ok := got[name]; !ok || text != want {
			t.Errorf("%s = %q, %t, want %q", name, text, ok, want)
		}
	}
	for name := range got {
		if strings.HasPrefix(name, "fields") {
			t.Errorf("%s is there", name)
		}
	}
}

var benchmarkColumns = map[string][]string{"all": nil, "three": {"id", "via.channel", "custom_fields.46000000000401"}}

func BenchmarkFlatten(b *testing.B) {
	record := ticket(b)
	for name, columns := range benchmarkColumns {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(record)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := recordset.Flatten(record, columns); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkPrune(b *testing.B) {
	record := ticket(b)
	for name, columns := range benchmarkColumns {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(record)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := recordset.Prune(record, columns); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkIdentify(b *testing.B) {
	record := ticket(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, id := recordset.Identify(record); id == "" {
			b.Fatal("no id")
		}
	}
}

// hostile are records of nearly 1 MiB whose trees are many times as large.
func hostile() map[string]json.RawMessage {
	repeat := func(before, element, after string) json.RawMessage {
		n := (1000<<10 - len(before) - len(after)) / (len(element) + 1)
		return json.RawMessage(before + strings.TrimSuffix(strings.Repeat(element+",", n), ",") + after)
	}
	many := json.RawMessage(`{"id":1`)
	for i := 0; len(many) < 1000<<10; i++ {
		many = fmt.Appendf(many, `,"%d":1`, i)
	}
	deep := strings.Repeat(`{"a":`, recordset.MaxDepth-2)
	return map[string]json.RawMessage{
		"objects":        repeat(`{"a":[`, `{}`, `]}`),
		"objects of one": repeat(`{"a":[`, `{"b":1}`, `]}`),
		"numbers":        repeat(`{"a":[`, `0`, `]}`),
		"deep numbers":   repeat(deep+`{"a":[`, `0`, `]}`+strings.Repeat("}", recordset.MaxDepth-2)),
		"brackets":       json.RawMessage(`{"a":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + `}`),
		"members":        append(many, '}'),
		"custom fields":  repeat(`{"custom_fields":[`, `{"id":1}`, `]}`),
		"one text":       json.RawMessage(`{"a":"` + strings.Repeat("\xff", 1000<<10) + `"}`),
	}
}

// BenchmarkHostile is what the worst records cost: memory a few times the text, and time that grows with it alone.
func BenchmarkHostile(b *testing.B) {
	for name, record := range hostile() {
		for what, run := range map[string]func() error{
			"flatten": func() error { _, err := recordset.Flatten(record, nil); return err },
			"pick":    func() error { _, err := recordset.Pick(record, nil, []string{"a.0.b", "id", "a.a.a"}); return err },
			"prune":   func() error { _, err := recordset.Prune(record, []string{"a.0", "id"}); return err },
		} {
			b.Run(name+"/"+what, func(b *testing.B) {
				b.SetBytes(int64(len(record)))
				b.ReportAllocs()
				for b.Loop() {
					if err := run(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// TestHostile holds that no record takes more than 32 MiB to be read, garbage included, whatever its tree would.
func TestHostile(t *testing.T) {
	const most = 32 << 20
	for name, record := range hostile() {
		for what, run := range map[string]func() error{
			"Flatten": func() error { _, err := recordset.Flatten(record, nil); return err },
			"Pick":    func() error { _, err := recordset.Pick(record, nil, []string{"a.0.b", "id", "a.a.a"}); return err },
			"Prune":   func() error { _, err := recordset.Prune(record, []string{"a.0", "id"}); return err },
		} {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := run()
			runtime.ReadMemStats(&after)
			if took := after.TotalAlloc - before.TotalAlloc; err != nil || took > most {
				t.Errorf("%s of %s: %v, %d KiB for %d KiB", what, name, err, took>>10, len(record)>>10)
			}
		}
	}
}
