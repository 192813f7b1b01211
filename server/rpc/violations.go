package rpc

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
)

var (
	accountID     = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)
	recordsetName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)
)

// Violations collects what is wrong with a request, up to MaxViolations. A rule says nothing of the value that broke it,
// which may be a secret.
type Violations []*errdetails.BadRequest_FieldViolation

// MaxViolations is how many violations are collected: whoever made more of them has one mistake to find, not thousands.
const MaxViolations = 50

// Longest parts of a violation, in bytes: the keys of a map stand in the path of a field, and they are the caller's.
const (
	maxFieldPath   = 200
	maxDescription = 300
)

// Add adds one: the path of the field, and the rule, which reads on from the field's name. Beyond MaxViolations it only
// notes that there are more.
func (v *Violations) Add(field, format string, args ...any) {
	if v.Full() {
		return
	}
	*v = append(*v, &errdetails.BadRequest_FieldViolation{
		Field: cut(field, maxFieldPath), Description: cut(fmt.Sprintf(format, args...), maxDescription),
	})
}

// Full reports whether more than MaxViolations were found: a loop over elements ends then.
func (v *Violations) Full() bool { return len(*v) > MaxViolations }

// Err is nil when there is no violation. Its message has the first one in full, since many clients show no details, and
// says how many more there are. Of many, those behind the first may be left out of the details, so that the status reaches
// every client.
func (v Violations) Err() error {
	if len(v) == 0 {
		return nil
	}
	first := withoutKey(v[0].GetField()) + ": " + v[0].GetDescription()
	switch more := len(v) - 1; {
	case v.Full():
		v = v[:MaxViolations]
		first += fmt.Sprintf("; and more than %d more", more-1)
	case more > 0:
		first += fmt.Sprintf("; and %d more", more)
	}
	fields := make(map[string]bool, len(v))
	for _, violation := range v {
		fields[withoutKey(violation.GetField())] = true
	}
	return &Error{
		Reason:     zendeskv1.ErrorReason_ERROR_REASON_INVALID_FIELD,
		Message:    first,
		Metadata:   map[string]string{"fields": strings.Join(slices.Sorted(maps.Keys(fields)), ", ")},
		violations: v,
	}
}

// withoutKey cuts the key of a map off a field's path. The message is logged, and a key may say something of a person: only
// the violations name it.
func withoutKey(field string) string {
	name, _, _ := strings.Cut(field, `["`)
	return name
}

// Token checks an id that a machine made: 1 to 128 characters of printable ASCII without space.
func (v *Violations) Token(field, value string, required bool) {
	switch {
	case value == "" && required:
		v.Add(field, "is required")
	case len(value) > MaxID:
		v.Add(field, "has %d characters; at most %d are allowed", len(value), MaxID)
	case strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r > '~' }):
		v.Add(field, "must be printable ASCII without spaces")
	}
}

// Text checks a setting that people typed: length in characters, no control characters, no white space at either end.
func (v *Violations) Text(field, value string, maxRunes int) {
	switch {
	case value == "":
		v.Add(field, "is required")
	case utf8.RuneCountInString(value) > maxRunes:
		v.Add(field, "has %d characters; at most %d are allowed", utf8.RuneCountInString(value), maxRunes)
	case strings.ContainsFunc(value, unicode.IsControl):
		v.Add(field, "must not contain control characters")
	case strings.TrimSpace(value) != value:
		v.Add(field, "must not start or end with white space")
	}
}

// AccountID checks the id of an account.
func (v *Violations) AccountID(field, id string) {
	switch {
	case id == "":
		v.Add(field, "is required")
	case !accountID.MatchString(id):
		v.Add(field, "must match %s", accountID)
	}
}

// RecordsetName checks the name of a recordset.
func (v *Violations) RecordsetName(field, name string) {
	if !recordsetName.MatchString(name) {
		v.Add(field, "must match %s", recordsetName)
	}
}

// ZendeskID checks an optional id of Zendesk's.
func (v *Violations) ZendeskID(field, id string) {
	if len(id) > MaxZendeskID || strings.Trim(id, "0123456789") != "" {
		v.Add(field, "must be at most %d decimal digits", MaxZendeskID)
	}
}

// Enum checks that a value is one that this version knows.
func (v *Violations) Enum(field string, value protoreflect.Enum) {
	if value.Descriptor().Values().ByNumber(value.Number()) == nil {
		v.Add(field, "is not a value of %s", value.Descriptor().Name())
	}
}

// Time checks an optional time.
func (v *Violations) Time(field string, t *timestamppb.Timestamp) {
	if t != nil && t.CheckValid() != nil {
		v.Add(field, "is not a valid time")
	}
}
