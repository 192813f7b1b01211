package accounts

import (
	"testing"
	"time"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/credentials"
	"github.com/scenarioblocks/zendeskblocks/store"
)

// What package credentials says is converted by its numbers.
func TestNumbersOfTheAPI(t *testing.T) {
	for value, want := range map[credentials.Authorization]zendeskv1.Authorization{
		credentials.AuthorizationNone:       zendeskv1.Authorization_AUTHORIZATION_NONE,
		credentials.AuthorizationAPIToken:   zendeskv1.Authorization_AUTHORIZATION_API_TOKEN,
		credentials.AuthorizationOAuthToken: zendeskv1.Authorization_AUTHORIZATION_OAUTH_TOKEN,
	} {
		if zendeskv1.Authorization(value) != want {
			t.Errorf("%v is %d", want, value)
		}
	}
	for value, want := range map[credentials.State]zendeskv1.CredentialState{
		credentials.StateOK:                 zendeskv1.CredentialState_CREDENTIAL_STATE_OK,
		credentials.StateExpiring:           zendeskv1.CredentialState_CREDENTIAL_STATE_EXPIRING,
		credentials.StateNeedsAuthorization: zendeskv1.CredentialState_CREDENTIAL_STATE_NEEDS_AUTHORIZATION,
		credentials.StateUntested:           zendeskv1.CredentialState_CREDENTIAL_STATE_UNTESTED,
	} {
		if zendeskv1.CredentialState(value) != want {
			t.Errorf("%v is %d", want, value)
		}
	}
	for value, want := range map[credentials.WarningCode]zendeskv1.AccountWarningCode{
		credentials.WarningAPITokenRetirement: zendeskv1.AccountWarningCode_ACCOUNT_WARNING_CODE_API_TOKEN_RETIREMENT,
		credentials.WarningTokenExpiring:      zendeskv1.AccountWarningCode_ACCOUNT_WARNING_CODE_TOKEN_EXPIRING,
		credentials.WarningNeedsAuthorization: zendeskv1.AccountWarningCode_ACCOUNT_WARNING_CODE_NEEDS_AUTHORIZATION,
		credentials.WarningScopesMissing:      zendeskv1.AccountWarningCode_ACCOUNT_WARNING_CODE_SCOPES_MISSING,
		credentials.WarningNotAnAgent:         zendeskv1.AccountWarningCode_ACCOUNT_WARNING_CODE_NOT_AN_AGENT,
	} {
		if zendeskv1.AccountWarningCode(value) != want {
			t.Errorf("%v is %d", want, value)
		}
	}
	for value, want := range map[credentials.Outcome]zendeskv1.CheckOutcome{
		credentials.OutcomeOK:      zendeskv1.CheckOutcome_CHECK_OUTCOME_OK,
		credentials.OutcomeWarning: zendeskv1.CheckOutcome_CHECK_OUTCOME_WARNING,
		credentials.OutcomeFailed:  zendeskv1.CheckOutcome_CHECK_OUTCOME_FAILED,
		credentials.OutcomeSkipped: zendeskv1.CheckOutcome_CHECK_OUTCOME_SKIPPED,
	} {
		if zendeskv1.CheckOutcome(value) != want {
			t.Errorf("%v is %d", want, value)
		}
	}
}

// What is said of an account's credential is shown with the account.
func TestAccountToProtoTellsTheCredential(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	account := store.Account{ID: "acme", APIToken: &store.APIToken{Username: "joe@acme.com"}, Check: store.Check{Time: now, Reason: "CREDENTIALS_REJECTED"}}
	got, warnings := accountToProto(account, now), credentials.Warnings(account, now)
	if got.GetAuthorization() != zendeskv1.Authorization_AUTHORIZATION_API_TOKEN || got.GetCredentialState() != zendeskv1.CredentialState_CREDENTIAL_STATE_NEEDS_AUTHORIZATION {
		t.Errorf("the account is %v", got)
	}
	if len(got.GetWarnings()) != 2 || len(warnings) != 2 {
		t.Fatalf("warnings are %v, of %v", got.GetWarnings(), warnings)
	}
	for i, w := range got.GetWarnings() {
		if want := warnings[i]; int(w.GetCode()) != int(want.Code) || w.GetMessage() != want.Message || !w.GetTime().AsTime().Equal(want.Time) {
			t.Errorf("warning %v is shown as %v", want, w)
		}
	}
}
