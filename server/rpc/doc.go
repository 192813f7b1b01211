// Package rpc is what the services share of gRPC: how errors cross to it, how requests are checked, who calls, how much of a
// deadline may be spent, how pages are named, and how what the store keeps is worded in the API.
//
// It hides gRPC's codes and statuses, which stand in error.go and nowhere else. Errors that a caller is to be told about
// are [Error]s; anything else is INTERNAL to the caller and in full in the log.
//
//	var v rpc.Violations
//	v.Token("interaction_id", req.GetInteractionId(), true)
//	if err := v.Err(); err != nil {
//		return nil, err
//	}
package rpc
