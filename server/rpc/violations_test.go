package rpc

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
)

// Many clients show no details: the message has the first violation, and the number of the others.
func TestViolationsError(t *testing.T) {
	var none Violations
	if err := none.Err(); err != nil {
		t.Errorf("no violation is %v", err)
	}
	var v Violations
	for _, test := range []struct {
		field, rule, message, fields string
	}{
		{`data["canary"]`, "has 9 bytes", "data: has 9 bytes", "data"},
		{"account.name", "is required", "data: has 9 bytes; and 1 more", "account.name, data"},
		{`data["other canary"]`, "is empty", "data: has 9 bytes; and 2 more", "account.name, data"},
	} {
		v.Add(test.field, "%s", test.rule)
		err := toStatus(t.Context(), v.Err())
		info := mustReason(t, err, codes.InvalidArgument, zendeskv1.ErrorReason_ERROR_REASON_INVALID_FIELD)
		mustEqual(t, "metadata", info.GetMetadata(), map[string]string{"fields": test.fields})
		mustEqual(t, "message", status.Convert(err).Message(), test.message)
		bad, _ := detailOf[*errdetails.BadRequest](err)
		mustEqual(t, "details", bad.GetFieldViolations(), []*errdetails.BadRequest_FieldViolation(v))
	}
}

func TestViolations(t *testing.T) {
	const canary = "k4nary"
	for name, test := range map[string]struct {
		check func(v *Violations, value string)
		good  []string
		bad   []string
	}{
		"required token": {
			func(v *Violations, value string) { v.Token("f", value, true) },
			[]string{"a", "~!", strings.Repeat("x", 128)},
			[]string{"", canary + " ", canary + "\n", canary + "é", strings.Repeat(canary, 22), canary + "\x7f"},
		},
		"token": {
			func(v *Violations, value string) { v.Token("f", value, false) },
			[]string{"", "a"}, []string{canary + "\t"},
		},
		"text": {
			func(v *Violations, value string) { v.Text("f", value, 10) },
			[]string{"a", "a b", strings.Repeat("é", 10)},
			[]string{"", " " + canary, canary + " ", "a\nb", strings.Repeat("é", 11)},
		},
		"account id": {
			func(v *Violations, value string) { v.AccountID("f", value) },
			[]string{"a", "a-1", "a" + strings.Repeat("b", 62)},
			[]string{"", "A", "1a", "-a", "a_b", "../x", "a" + strings.Repeat("b", 63), "é"},
		},
		"recordset name": {
			func(v *Violations, value string) { v.RecordsetName("f", value) },
			[]string{"RS", "_", "r1", "r" + strings.Repeat("S", 63)},
			[]string{"", "1r", "a.b", "a-b", "$(RS)", "r" + strings.Repeat("S", 64)},
		},
		"Zendesk id": {
			func(v *Violations, value string) { v.ZendeskID("f", value) },
			[]string{"", "1", strings.Repeat("9", 19)},
			[]string{"-1", "1.0", " 1", "x", strings.Repeat("9", 20)},
		},
	} {
		for _, value := range test.good {
			var v Violations
			if test.check(&v, value); len(v) > 0 {
				t.Errorf("%s %q: %v", name, value, v)
			}
		}
		for _, value := range test.bad {
			var v Violations
			if test.check(&v, value); len(v) != 1 || v[0].GetField() != "f" || v[0].GetDescription() == "" || strings.Contains(v[0].GetDescription(), canary) {
				t.Errorf("%s %q: %v, want one violation that does not repeat the value", name, value, v)
			}
		}
	}
}

func TestEnumAndTimeViolations(t *testing.T) {
	var v Violations
	v.Enum("sort_by", zendeskv1.SortBy_SORT_BY_UNSPECIFIED)
	v.Enum("sort_by", zendeskv1.SortBy_SORT_BY_PRIORITY)
	v.Time("since", nil)
	v.Time("since", &timestamppb.Timestamp{Seconds: 1})
	if len(v) > 0 {
		t.Errorf("good values violate %v", v)
	}
	v.Enum("sort_by", zendeskv1.SortBy(99))
	v.Enum("sort_order", zendeskv1.SortOrder(-1))
	v.Time("since", &timestamppb.Timestamp{Nanos: -1})
	v.Time("until", &timestamppb.Timestamp{Seconds: 1 << 60})
	var fields []string
	for _, violation := range v {
		fields = append(fields, violation.GetField())
	}
	mustEqual(t, "violated fields", fields, []string{"sort_by", "sort_order", "since", "until"})
}

// Of very many violations the first 50 are collected, and loops can tell that they may end.
func TestManyViolations(t *testing.T) {
	var v Violations
	for i := range 3 * MaxViolations {
		if v.Full() != (i > MaxViolations) {
			t.Fatalf("after %d violations, full is %v", i, v.Full())
		}
		v.Add(fmt.Sprintf("f%d", i), "is wrong")
	}
	err := toStatus(t.Context(), v.Err())
	mustEqual(t, "message", status.Convert(err).Message(), "f0: is wrong; and more than 49 more")
	bad, _ := detailOf[*errdetails.BadRequest](err)
	mustEqual(t, "violations", len(bad.GetFieldViolations()), MaxViolations)
}
