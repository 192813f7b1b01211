package accounts

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/store"
)

func TestAPIAccess(t *testing.T) {
	const methods, prefixes = "account.api_access.methods", "account.api_access.path_prefixes"
	for _, test := range []struct {
		asked *zendeskv1.ApiAccess
		want  store.APIAccess
		wrong []string
	}{
		{nil, store.APIAccess{}, nil},
		{&zendeskv1.ApiAccess{OnBehalfOf: true}, store.APIAccess{OnBehalfOf: true}, nil},
		{&zendeskv1.ApiAccess{Methods: []string{"PUT", "GET", "PUT"}}, store.APIAccess{Methods: []string{"PUT", "GET"}}, nil},
		{
			&zendeskv1.ApiAccess{PathPrefixes: []string{"/api/v2/tickets.json", "tickets", "/custom_objects/cars/", "a.b/c-d"}},
			store.APIAccess{PathPrefixes: []string{"tickets", "custom_objects/cars", "a.b/c-d"}}, nil,
		},
		{&zendeskv1.ApiAccess{Methods: []string{"get", "GET", "TRACE", ""}}, store.APIAccess{}, []string{methods + "[0]", methods + "[2]", methods + "[3]"}},
		{&zendeskv1.ApiAccess{Methods: slices.Repeat([]string{"GET"}, 7)}, store.APIAccess{}, []string{methods}},
		{
			&zendeskv1.ApiAccess{PathPrefixes: []string{"", "/", "..", "a/../b", "a//b", "a b", "%2e", "a?b", "https://x/y", "*", strings.Repeat("a", 257)}}, store.APIAccess{},
			[]string{
				prefixes + "[0]", prefixes + "[1]", prefixes + "[2]", prefixes + "[3]", prefixes + "[4]", prefixes + "[5]", prefixes + "[6]",
				prefixes + "[7]", prefixes + "[8]", prefixes + "[9]", prefixes + "[10]",
			},
		},
		{&zendeskv1.ApiAccess{PathPrefixes: slices.Repeat([]string{"a"}, 101)}, store.APIAccess{}, []string{prefixes}},
	} {
		var v violations
		got := v.apiAccess(test.asked)
		if test.wrong != nil {
			mustViolate(t, told(t.Context(), v.Err()), test.wrong...)
			continue
		}
		must(t, v.Err())
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%v (-want +got):\n%s", test.asked, diff)
		}
	}
}

func TestPhoneFields(t *testing.T) {
	var v violations
	got := v.phoneFields([]string{"mobile", "other_phone-2", "mobile"})
	must(t, v.Err())
	if !slices.Equal(got, []string{"mobile", "other_phone-2"}) {
		t.Errorf("got %q", got)
	}
	v.phoneFields([]string{"", "a b", "user_fields.mobile", strings.Repeat("a", 101)})
	mustViolate(t, told(t.Context(), v.Err()), "account.phone_fields[0]", "account.phone_fields[1]", "account.phone_fields[2]", "account.phone_fields[3]")
	v = violations{}
	v.phoneFields(slices.Repeat([]string{"a"}, 11))
	mustViolate(t, told(t.Context(), v.Err()), "account.phone_fields")
}

// What InvokeApi may do is replaced as a whole, and taken back by naming it without a value.
func TestChangeAPIAccess(t *testing.T) {
	before := store.Account{APIAccess: store.APIAccess{Methods: []string{"DELETE"}, OnBehalfOf: true}, PhoneFields: []string{"mobile"}}
	for _, test := range []struct {
		asked  *zendeskv1.Account
		mask   []string
		access store.APIAccess
		fields []string
	}{
		{&zendeskv1.Account{Name: "x"}, nil, before.APIAccess, before.PhoneFields},
		{&zendeskv1.Account{ApiAccess: &zendeskv1.ApiAccess{PathPrefixes: []string{"users"}}, PhoneFields: []string{"fax"}}, nil, store.APIAccess{PathPrefixes: []string{"users"}}, []string{"fax"}},
		{&zendeskv1.Account{ApiAccess: &zendeskv1.ApiAccess{}}, nil, store.APIAccess{}, before.PhoneFields},
		{&zendeskv1.Account{}, []string{"api_access", "phone_fields"}, store.APIAccess{}, nil},
	} {
		test.asked.AccountId = "acme"
		req := &zendeskv1.UpdateAccountRequest{Account: test.asked}
		if test.mask != nil {
			req.UpdateMask = &fieldmaskpb.FieldMask{Paths: test.mask}
		}
		change, err := newAccountChange(req, "default", nil)
		must(t, err)
		account := before
		must(t, change.apply(&account))
		if diff := cmp.Diff([]any{test.access, test.fields}, []any{account.APIAccess, account.PhoneFields}); diff != "" {
			t.Errorf("%v, mask %v (-want +got):\n%s", test.asked, test.mask, diff)
		}
		shown := accountToProto(account, time.Unix(0, 0))
		if (shown.GetApiAccess() == nil) != (test.access.Methods == nil && test.access.PathPrefixes == nil && !test.access.OnBehalfOf) ||
			shown.GetApiAccess().GetOnBehalfOf() != test.access.OnBehalfOf || !slices.Equal(shown.GetPhoneFields(), test.fields) {
			t.Errorf("shown as %v, %v", shown.GetApiAccess(), shown.GetPhoneFields())
		}
	}
	_, err := newAccountChange(&zendeskv1.UpdateAccountRequest{Account: &zendeskv1.Account{AccountId: "acme"}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"api_access.methods"}}}, "default", nil)
	mustViolate(t, told(t.Context(), err), "update_mask.paths[0]")
}
