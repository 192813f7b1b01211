package server

import (
	"fmt"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/zendesktest"
)

func TestCreateAccount(t *testing.T) {
	s := newTestServer(t)
	create := func(id, name string) (*zendeskv1.Account, error) {
		resp, err := s.accounts.CreateAccount(t.Context(), &zendeskv1.CreateAccountRequest{AccountId: id, Account: &zendeskv1.Account{
			Name: name, Url: "HTTPS://Acme.Zendesk.com:443/agent/dashboard?x=1#y", CredentialState: zendeskv1.CredentialState_CREDENTIAL_STATE_OK,
		}})
		return resp.GetAccount(), err
	}
	first, err := create("first", "First account")
	must(t, err)
	if first.GetUrl() != "https://acme.zendesk.com" || !first.GetDefaultAccount() || first.GetEtag() == "" || first.GetCreateTime() == nil ||
		first.GetAuthorization() != zendeskv1.Authorization_AUTHORIZATION_NONE ||
		first.GetCredentialState() != zendeskv1.CredentialState_CREDENTIAL_STATE_NEEDS_AUTHORIZATION {
		t.Errorf("created %v", first)
	}
	second, err := create("", "Second account")
	must(t, err)
	if !regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`).MatchString(second.GetAccountId()) || second.GetDefaultAccount() {
		t.Errorf("created %v, want a generated id and no default mark", second)
	}
	_, err = create("first", "Third account")
	mustReason(t, err, codes.AlreadyExists, zendeskv1.ErrorReason_ERROR_REASON_ACCOUNT_ALREADY_EXISTS)
	for name, holder := range map[string]string{"first ACCOUNT": "first", "First": "first", second.GetAccountId(): second.GetAccountId(), "Second Account": second.GetAccountId()} {
		_, err = create("third", name)
		info := mustReason(t, err, codes.AlreadyExists, zendeskv1.ErrorReason_ERROR_REASON_ACCOUNT_NAME_TAKEN)
		mustEqual(t, "metadata", info.GetMetadata(), map[string]string{"account_id": "third", "holder_account_id": holder})
	}
}

func TestUpdateAccount(t *testing.T) {
	s := newTestServer(t)
	first := s.createAccount(t, "first", zendesktest.Admin)
	s.createAccount(t, "second", zendesktest.Agent)
	update := func(a *zendeskv1.Account) (*zendeskv1.Account, error) {
		resp, err := s.accounts.UpdateAccount(t.Context(), &zendeskv1.UpdateAccountRequest{Account: a})
		return resp.GetAccount(), err
	}
	got := func(id string) *zendeskv1.Account {
		resp, err := s.accounts.GetAccount(t.Context(), &zendeskv1.GetAccountRequest{AccountId: id})
		must(t, err)
		return resp.GetAccount()
	}

	second, err := update(&zendeskv1.Account{AccountId: "second", DefaultAccount: true})
	must(t, err)
	if !second.GetDefaultAccount() || got("first").GetDefaultAccount() {
		t.Error("the default mark has not moved")
	}
	_, err = update(&zendeskv1.Account{AccountId: "first", Name: "New", Etag: first.GetEtag()})
	mustReason(t, err, codes.Aborted, zendeskv1.ErrorReason_ERROR_REASON_ETAG_MISMATCH)
	renamed, err := update(&zendeskv1.Account{AccountId: "first", Name: "New", Etag: got("first").GetEtag()})
	must(t, err)
	if renamed.GetName() != "New" || renamed.GetEtag() == first.GetEtag() {
		t.Errorf("renamed to %v", renamed)
	}
	_, err = update(&zendeskv1.Account{AccountId: "first", Name: "SECOND"})
	info := mustReason(t, err, codes.AlreadyExists, zendeskv1.ErrorReason_ERROR_REASON_ACCOUNT_NAME_TAKEN)
	mustEqual(t, "metadata", info.GetMetadata(), map[string]string{"account_id": "first", "holder_account_id": "second"})
	_, err = update(&zendeskv1.Account{AccountId: "second", Url: "other.zendesk.com"})
	mustViolate(t, err, "account.url")

	_, err = s.accounts.DeleteAccount(t.Context(), &zendeskv1.DeleteAccountRequest{AccountId: "second"})
	mustReason(t, err, codes.FailedPrecondition, zendeskv1.ErrorReason_ERROR_REASON_DEFAULT_ACCOUNT_IN_USE)
	_, err = s.accounts.DeleteAccount(t.Context(), &zendeskv1.DeleteAccountRequest{AccountId: "first", Etag: first.GetEtag()})
	mustReason(t, err, codes.Aborted, zendeskv1.ErrorReason_ERROR_REASON_ETAG_MISMATCH)
	for _, id := range []string{"first", "second"} {
		_, err = s.accounts.DeleteAccount(t.Context(), &zendeskv1.DeleteAccountRequest{AccountId: id})
		must(t, err)
	}
	if again := s.createAccount(t, "third", zendesktest.Admin); !again.GetDefaultAccount() {
		t.Error("the first account after all were deleted is not the default")
	}
}

func TestAccountUnknown(t *testing.T) {
	s := newTestServer(t)
	for id, check := range map[string]func(testing.TB, error){
		"nobody": func(t testing.TB, err error) {
			info := mustReason(t, err, codes.NotFound, zendeskv1.ErrorReason_ERROR_REASON_ACCOUNT_NOT_FOUND)
			if info.GetMetadata()["account_id"] != "nobody" {
				t.Errorf("metadata is %v", info.GetMetadata())
			}
		},
		"": func(t testing.TB, err error) {
			mustReason(t, err, codes.InvalidArgument, zendeskv1.ErrorReason_ERROR_REASON_INVALID_FIELD)
		},
		"../x": func(t testing.TB, err error) {
			mustReason(t, err, codes.InvalidArgument, zendeskv1.ErrorReason_ERROR_REASON_INVALID_FIELD)
		},
	} {
		_, err := s.accounts.GetAccount(t.Context(), &zendeskv1.GetAccountRequest{AccountId: id})
		check(t, err)
		_, err = s.accounts.UpdateAccount(t.Context(), &zendeskv1.UpdateAccountRequest{Account: &zendeskv1.Account{AccountId: id, Name: "New"}})
		check(t, err)
		_, err = s.accounts.DeleteAccount(t.Context(), &zendeskv1.DeleteAccountRequest{AccountId: id})
		check(t, err)
		_, err = s.accounts.RequestToken(t.Context(), &zendeskv1.RequestTokenRequest{AccountId: id, ClientId: "c", ClientSecret: "s"})
		check(t, err)
		_, err = s.accounts.TestConnection(t.Context(), &zendeskv1.TestConnectionRequest{AccountId: id})
		check(t, err)
	}
}

func TestListAccounts(t *testing.T) {
	s := newTestServer(t)
	var want []string
	for i := range 7 {
		id := fmt.Sprintf("acme-%d", i)
		s.createAccount(t, id, zendesktest.Admin)
		want = append(want, id)
	}
	var got []string
	req := &zendeskv1.ListAccountsRequest{PageSize: 3}
	for pages := 1; ; pages++ {
		resp, err := s.accounts.ListAccounts(t.Context(), req)
		must(t, err)
		for _, a := range resp.GetAccounts() {
			got = append(got, a.GetAccountId())
		}
		if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
			if pages != 3 {
				t.Errorf("listed in %d pages, want 3", pages)
			}
			break
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("listed ids differ (-want +got):\n%s", diff)
	}
	_, err := s.accounts.ListAccounts(t.Context(), &zendeskv1.ListAccountsRequest{PageSize: -1, PageToken: "acme"})
	mustViolate(t, err, "page_size", "page_token")
	if text := status.Convert(err).Message(); text != "page_size: must not be negative; and 1 more" {
		t.Errorf("the caller is told %q", text)
	}
	all, err := s.accounts.ListAccounts(t.Context(), &zendeskv1.ListAccountsRequest{PageSize: 1 << 30})
	must(t, err)
	mustEqual(t, "accounts of a page that is larger than allowed", len(all.GetAccounts()), len(want))
}
