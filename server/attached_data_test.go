package server

import (
	"fmt"
	"strings"
	"testing"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
)

func TestAttachedData(t *testing.T) {
	s := newBlockServer(t)
	mustExit(t, s.search(t, "one", callerQuery), next)
	vars := map[string]string{"KEY": "Disposition", "QUOTE": `a "b" $(KEY)`, "EMPTY": ""}
	for _, step := range []struct {
		name string
		data map[string]string
		want map[string]string
	}{
		{"first", map[string]string{"a": "1", "b": "2"}, map[string]string{"a": "1", "b": "2"}},
		{"merge", map[string]string{"b": "3", "c": "4"}, map[string]string{"a": "1", "b": "3", "c": "4"}},
		{"remove", map[string]string{"a": "", "never": ""}, map[string]string{"b": "3", "c": "4"}},
		{
			"variables in keys and values",
			map[string]string{"$(KEY)": "$(QUOTE)", "b": "$(UNSET)", "c": "$(EMPTY)", "caller": "$(RS.name) $(RS.__count__)", "json": `"$(QUOTE,escapejson)"`, "=x": "=$(KEY)"},
			map[string]string{"Disposition": `a "b" $(KEY)`, "caller": "Maria Lopez 1", "json": `"a \"b\" $(KEY)"`, "=x": "=$(KEY)"},
		},
		{"any characters", map[string]string{"Größe": "a\x00b\n\u2028ü"}, map[string]string{
			"Disposition": `a "b" $(KEY)`, "caller": "Maria Lopez 1", "json": `"a \"b\" $(KEY)"`, "=x": "=$(KEY)", "Größe": "a\x00b\n\u2028ü",
		}},
	} {
		resp, err := s.blocks.AttachedData(t.Context(), &zendeskv1.AttachedDataRequest{InteractionId: "one", Variables: vars, Data: step.data})
		must(t, err)
		mustExit(t, resp, next)
		if resp.GetAccount() != nil || len(resp.GetVariables()) != 0 {
			t.Errorf("%s: %v", step.name, resp)
		}
		mustEqual(t, step.name, resp.GetData(), step.want)
		s.restart(t)
		mustEqual(t, step.name+", stored", s.interaction(t, "one").GetAttachedData(), step.want)
	}
}

// keys makes n keys, from one on, with values of that many bytes.
func keys(from, n, valueBytes int) map[string]string {
	data := make(map[string]string, n)
	for i := range n {
		data[fmt.Sprintf("key%04d", from+i)] = strings.Repeat("x", valueBytes)
	}
	return data
}

func TestAttachedDataLimits(t *testing.T) {
	s := newBlockServer(t)
	invalid := zendeskv1.FailureReason_FAILURE_REASON_INVALID_REQUEST
	mustExit(t, s.attach(t, "one", keys(0, 199, 1)), next)
	before := s.interaction(t, "one")
	vars := map[string]string{"LONG": strings.Repeat("k", 257), "BIG": strings.Repeat("v", 64<<10), "EMPTY": "", "SAME": "key0000"}
	for _, test := range []struct {
		name string
		data map[string]string
	}{
		{"two keys more", map[string]string{"key0000": "changed", "new1": "1", "new2": "2"}},
		{"key too long", map[string]string{"key0000": "changed", strings.Repeat("k", 257): "1"}},
		{"key too long when expanded", map[string]string{"key0000": "changed", "$(LONG)": "1"}},
		{"removing a key that is too long", map[string]string{"key0000": "changed", "$(LONG)": ""}},
		{"value too long", map[string]string{"key0000": "changed", "key0001": strings.Repeat("v", 64<<10+1)}},
		{"value too long when expanded", map[string]string{"key0000": "changed", "key0001": "$(BIG)v"}},
		{"value far too long", map[string]string{"key0000": "changed", "key0001": strings.Repeat("$(BIG)", 100)}},
		{"all too long", map[string]string{"key0000": "changed", "key0001": "$(BIG)", "key0002": "$(BIG)", "key0003": "$(BIG)", "key0004": "$(BIG)"}},
		{"empty key", map[string]string{"key0000": "changed", "$(EMPTY)": "1"}},
		{"unset key", map[string]string{"key0000": "changed", "$(UNSET)": "1"}},
		{"one key twice", map[string]string{"key0000": "changed", "$(SAME)": "1"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			resp, err := s.blocks.AttachedData(t.Context(), &zendeskv1.AttachedDataRequest{InteractionId: "one", Variables: vars, Data: test.data})
			must(t, err)
			mustFail(t, resp, invalid)
			mustEqual(t, "interaction", s.interaction(t, "one"), before)
		})
	}
	// At the limits all goes, also with a reply to keep.
	mustExit(t, s.attach(t, "one", map[string]string{strings.Repeat("k", 256): "1"}), next)
	mustExit(t, s.attach(t, "two", keys(0, 4, 64<<10-7)), next)
	mustFail(t, s.attach(t, "two", map[string]string{"x": "y"}), invalid)
	resp, err := s.blocks.AttachedData(t.Context(), &zendeskv1.AttachedDataRequest{
		InteractionId: "two", RequestId: "r", Data: map[string]string{"key0000": strings.Repeat("\u00e9", 32<<10-4)},
	})
	must(t, err)
	mustExit(t, resp, next)
}

func TestAttachedDataViolations(t *testing.T) {
	s := newBlockServer(t)
	for _, test := range []struct {
		name string
		req  *zendeskv1.AttachedDataRequest
		want []string
	}{
		{"nothing given", &zendeskv1.AttachedDataRequest{}, []string{"interaction_id", "data"}},
		{"everything wrong", &zendeskv1.AttachedDataRequest{
			InteractionId: "\t", RequestId: "\n", Variables: map[string]string{"": ""},
			Data: map[string]string{"": "x", "$(a": "x", "b": "$(c", "$(d)": "$(,phone)", strings.Repeat("k", 4097): "", "e\x01": ""},
		}, []string{
			"interaction_id", "request_id", "variables", `data[""]`, `data["$(a"]`, `data["b"]`, `data["$(d)"]`,
			`data["` + strings.Repeat("k", 191) + "\u2026", `data["e\x01"]`,
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := s.blocks.AttachedData(t.Context(), test.req)
			mustViolate(t, err, test.want...)
		})
	}
}
