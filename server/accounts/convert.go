package accounts

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/credentials"
	"github.com/scenarioblocks/zendeskblocks/store"
)

// accountToProto converts an account as it is at now. No secret is in the result.
func accountToProto(a store.Account, now time.Time) *zendeskv1.Account {
	account := &zendeskv1.Account{
		AccountId:       a.ID,
		Name:            a.Name,
		Url:             a.URL,
		DefaultAccount:  a.Default,
		DefaultRegion:   a.DefaultRegion,
		MaxLimitShare:   int32(a.MaxLimitShare),
		PhoneFields:     a.PhoneFields,
		Authorization:   zendeskv1.Authorization(credentials.InForce(a)),
		CredentialState: zendeskv1.CredentialState(credentials.StateOf(a, now)),
		Warnings:        warningsToProto(credentials.Warnings(a, now)),
		Etag:            a.ETag,
		CreateTime:      timestamppb.New(a.CreateTime),
		UpdateTime:      timestamppb.New(a.UpdateTime),
	}
	if access := a.APIAccess; len(access.Methods) > 0 || len(access.PathPrefixes) > 0 || access.OnBehalfOf {
		account.ApiAccess = &zendeskv1.ApiAccess{Methods: access.Methods, PathPrefixes: access.PathPrefixes, OnBehalfOf: access.OnBehalfOf}
	}
	if t := a.APIToken; t != nil {
		account.ApiToken = &zendeskv1.ApiToken{Username: t.Username}
	}
	if t := a.OAuthToken; t != nil {
		account.OauthToken = &zendeskv1.OAuthToken{ClientId: t.ClientID, Scopes: t.Scopes, Renewable: credentials.Renewable(t, now)}
		if !t.ExpireTime.IsZero() {
			account.OauthToken.ExpireTime = timestamppb.New(t.ExpireTime)
		}
	}
	return account
}

// warningsToProto converts warnings. Their codes, as states and authorizations, have the numbers of the API's.
func warningsToProto(warnings []credentials.Warning) []*zendeskv1.AccountWarning {
	var converted []*zendeskv1.AccountWarning
	for _, w := range warnings {
		converted = append(converted, &zendeskv1.AccountWarning{
			Code: zendeskv1.AccountWarningCode(w.Code), Message: w.Message, Time: timestamppb.New(w.Time),
		})
	}
	return converted
}
