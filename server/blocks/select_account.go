package blocks

import (
	"context"
	"errors"
	"fmt"
	"strings"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/server/variables"
	"github.com/scenarioblocks/zendeskblocks/store"
)

// SelectAccount implements BlockService.
func (s *Service) SelectAccount(ctx context.Context, req *zendeskv1.SelectAccountRequest) (*zendeskv1.SelectAccountResponse, error) {
	var v violations
	v.block(req)
	var wanted *variables.Template
	switch choice := req.GetChoice().(type) {
	case *zendeskv1.SelectAccountRequest_Account:
		wanted = v.requiredTemplate("account", choice.Account)
	case *zendeskv1.SelectAccountRequest_UseDefault:
		if !choice.UseDefault {
			v.Add("use_default", "must be true when it is given")
		}
	default:
		v.Add("choice", "exactly one of account and use_default must be set")
	}
	if err := v.Err(); err != nil {
		return nil, err
	}

	failed := func(f *zendeskv1.Failure) *zendeskv1.SelectAccountResponse {
		return &zendeskv1.SelectAccountResponse{Exit: zendeskv1.Exit_EXIT_FAILED, Failure: f}
	}
	return executeOnce(ctx, s, "SelectAccount", req, changingNothing(failed), func(ctx context.Context, b *block) (*zendeskv1.SelectAccountResponse, error) {
		vars, err := s.values(ctx, b, wanted)
		if err != nil {
			return nil, err
		}
		return transact(ctx, s, b, failed, func(tx *store.InteractionTxn) (*zendeskv1.SelectAccountResponse, error) {
			use, f, err := chooseAccount(tx, vars, wanted)
			if err != nil {
				return nil, err
			}
			if f != nil {
				// Never a silent switch: not to the default, and not to the account before.
				tx.ClearAccount()
				return failed(f), nil
			}
			tx.SetAccount(use)
			b.would("the blocks that follow use the account %q", use.Name)
			return &zendeskv1.SelectAccountResponse{Exit: zendeskv1.Exit_EXIT_NEXT, Account: rpc.AccountUseToProto(use)}, nil
		})
	})
}

// chooseAccount finds the account that SelectAccount names; the default when it names none.
func chooseAccount(tx *store.InteractionTxn, vars *values, wanted *variables.Template) (store.AccountUse, *zendeskv1.Failure, error) {
	if wanted == nil {
		return defaultAccount(tx)
	}
	name, f := vars.expand(wanted, variables.Text, "", rpc.MaxText)
	if f != nil {
		return store.AccountUse{}, f, nil
	}
	name = strings.TrimSpace(name)
	if name == "" {
		return store.AccountUse{}, rpc.Failure(store.ReasonAccountNotFound, "account is empty after its variables were replaced"), nil
	}
	account, err := tx.FindAccount(name)
	if errors.Is(err, store.ErrNotFound) {
		return store.AccountUse{}, rpc.Failure(store.ReasonAccountNotFound, fmt.Sprintf("no account has the id or name %q", name)), nil
	}
	if err != nil {
		return store.AccountUse{}, nil, err
	}
	return account.Use(store.Selected), nil, nil
}

func defaultAccount(tx *store.InteractionTxn) (store.AccountUse, *zendeskv1.Failure, error) {
	account, err := tx.DefaultAccount()
	if errors.Is(err, store.ErrNotFound) {
		return store.AccountUse{}, rpc.Failure(store.ReasonNoDefaultAccount, "no account is selected and none is marked as default"), nil
	}
	if err != nil {
		return store.AccountUse{}, nil, err
	}
	return account.Use(store.Default), nil, nil
}

// accountInForce returns the account that the interaction's blocks use. The first block that asks pins the default.
func accountInForce(tx *store.InteractionTxn) (store.Account, store.AccountUse, *zendeskv1.Failure, error) {
	account, use, f, err := accountToUse(tx)
	if err == nil && f == nil {
		pin(tx, use)
	}
	return account, use, f, err
}

// pin puts an account in force that was found to be the one to use, unless another has been since.
func pin(tx *store.InteractionTxn, use store.AccountUse) {
	if _, state := tx.Account(); state == store.AccountUnset && use.AccountID != "" {
		tx.SetAccount(use)
	}
}

// accountToUse is accountInForce for a block that pins the account later: it changes nothing.
func accountToUse(tx *store.InteractionTxn) (store.Account, store.AccountUse, *zendeskv1.Failure, error) {
	use, state := tx.Account()
	switch state {
	case store.AccountCleared:
		return store.Account{}, store.AccountUse{}, rpc.Failure(store.ReasonAccountNotFound,
			"the last SelectAccount of this interaction failed, so no account is in force"), nil
	case store.AccountUnset:
		var f *zendeskv1.Failure
		var err error
		if use, f, err = defaultAccount(tx); err != nil || f != nil {
			return store.Account{}, store.AccountUse{}, f, err
		}
	}
	account, f, err := usedAccount(tx, use)
	if err != nil || f != nil {
		return store.Account{}, store.AccountUse{}, f, err
	}
	use.Name = account.Name
	return account, use, nil, nil
}

// usedAccount returns the account that was chosen earlier, unless it has been deleted since.
func usedAccount(tx *store.InteractionTxn, use store.AccountUse) (store.Account, *zendeskv1.Failure, error) {
	account, err := tx.AccountOf(use)
	if errors.Is(err, store.ErrNotFound) {
		return store.Account{}, rpc.Failure(store.ReasonAccountNotFound,
			fmt.Sprintf("account %q, which this interaction used, has been deleted", use.AccountID)), nil
	}
	if err != nil {
		return store.Account{}, nil, err
	}
	return *account, nil, nil
}
