package pages

import (
	"errors"
	"io"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
)

// connectionPage is a test of an account, made or to be made.
type connectionPage struct {
	accountView
	Runs bool
}

// checkView is a check as a row shows it.
type checkView struct {
	*zendeskv1.ConnectionCheck
	What string
}

// Outcome is how it went.
func (c checkView) Outcome() tag { return outcomeTag(c.GetOutcome()) }

func outcomeTag(outcome zendeskv1.CheckOutcome) tag {
	look := map[zendeskv1.CheckOutcome]string{
		zendeskv1.CheckOutcome_CHECK_OUTCOME_OK: "good", zendeskv1.CheckOutcome_CHECK_OUTCOME_WARNING: "warn", zendeskv1.CheckOutcome_CHECK_OUTCOME_FAILED: "bad",
	}[outcome]
	return tag{words("CHECK_OUTCOME", outcome), look}
}

// checkWords are the checks in words.
var checkWords = map[string]string{
	"user": "Who it acts as", "scopes": "Scopes of the token", "search": "Searching", "ticket_fields": "Reading ticket fields",
	"audits": "Reading the audits of tickets", "write": "Writing", "screen_pop": "Popping screens",
}

func viewCheck(c *zendeskv1.ConnectionCheck) checkView {
	what, known := checkWords[c.GetName()]
	if !known {
		what = c.GetName()
	}
	return checkView{c, what}
}

// resultView is the outcome of a whole test.
type resultView struct {
	accountView
	*zendeskv1.TestConnectionResponse
}

// Outcome is how it went, in a word.
func (r resultView) Outcome() tag { return outcomeTag(r.GetOutcome()) }

// Means says what the outcome means.
func (r resultView) Means() string {
	switch r.GetOutcome() {
	case zendeskv1.CheckOutcome_CHECK_OUTCOME_OK:
		return "All of it works."
	case zendeskv1.CheckOutcome_CHECK_OUTCOME_WARNING:
		return "It works. Somebody should look at what is marked."
	case zendeskv1.CheckOutcome_CHECK_OUTCOME_FAILED:
		return "Something does not work. Each check above says what to do."
	case zendeskv1.CheckOutcome_CHECK_OUTCOME_SKIPPED:
		return "Nothing could be found out."
	case zendeskv1.CheckOutcome_CHECK_OUTCOME_UNSPECIFIED:
	}
	return ""
}

func (p *Pages) askToTest(v *visit) (*page, error) {
	a, err := v.account()
	if err != nil {
		return nil, err
	}
	return connectionTest(connectionPage{v.view(a), false}), nil
}

func connectionTest(data connectionPage) *page {
	return &page{title: "Test the connection of " + data.GetName(), template: "connection", data: data}
}

// testConnection shows each check when it is made.
func (p *Pages) testConnection(v *visit) (*page, error) {
	a, err := v.account()
	if err != nil {
		return nil, err
	}
	shown := connectionTest(connectionPage{v.view(a), true})
	shown.stream = func(put func(string, any) error) error {
		result, err := tell(v, a.GetAccountId(), put)
		if ended := put("checks end", nil); err == nil {
			err = ended
		}
		if err != nil {
			return err
		}
		return put("result", resultView{v.view(a), result})
	}
	return shown, nil
}

// tell puts a row for each check, and returns the result.
func tell(v *visit, accountID string, put func(string, any) error) (*zendeskv1.TestConnectionResponse, error) {
	stream, err := v.accounts.StreamTestConnection(v, &zendeskv1.StreamTestConnectionRequest{AccountId: accountID})
	if err != nil {
		return nil, err
	}
	for {
		told, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return nil, &problem{Title: "The test ended early", Message: "The service has not told the outcome: test again."}
		case err != nil:
			return nil, err
		case told.GetResult() != nil:
			return told.GetResult(), nil
		case told.GetCheck() != nil:
			if err := put("check", viewCheck(told.GetCheck())); err != nil {
				return nil, err
			}
		}
	}
}
