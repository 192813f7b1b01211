package blocks

import (
	"context"
	"errors"
	"fmt"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/recordset"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/store"
)

// GetNextRecord implements BlockService.
func (s *Service) GetNextRecord(ctx context.Context, req *zendeskv1.GetNextRecordRequest) (*zendeskv1.GetNextRecordResponse, error) {
	var v violations
	v.block(req)
	v.RecordsetName("recordset_name", req.GetRecordsetName())
	if err := v.Err(); err != nil {
		return nil, err
	}
	failed := func(f *zendeskv1.Failure) *zendeskv1.GetNextRecordResponse {
		return &zendeskv1.GetNextRecordResponse{Exit: zendeskv1.Exit_EXIT_FAILED, Failure: f}
	}
	return executeOnce(ctx, s, "GetNextRecord", req, changingNothing(failed), func(ctx context.Context, b *block) (*zendeskv1.GetNextRecordResponse, error) {
		resp, err := transact(ctx, s, b, failed, func(tx *store.InteractionTxn) (*zendeskv1.GetNextRecordResponse, error) {
			rs, err := tx.Recordset(req.GetRecordsetName())
			if errors.Is(err, store.ErrNotFound) || err == nil && rs.Removed {
				resp := failed(recordsetNotFound(req.GetRecordsetName()))
				if err == nil {
					resp.Variables = recordVariables(rs, nil)
				}
				return resp, nil
			}
			if err != nil {
				return nil, err
			}
			resp, err := nextRecord(tx, rs)
			if resp.GetExit() == zendeskv1.Exit_EXIT_NO_DATA {
				b.would("NO_DATA: the recordset stands on the last of its %d records", rs.Count)
			} else {
				b.would("record %d of %d becomes the current one", resp.GetPosition(), rs.Count)
			}
			return resp, err
		})
		if errors.Is(err, store.ErrTooLarge) {
			return failed(rpc.Failure(store.ReasonBadResponse, "the next record cannot be read: "+errTooLarge.Error())), nil
		}
		return resp, err
	})
}

// nextRecord moves a recordset's cursor, unless it stands on the last record.
func nextRecord(tx *store.InteractionTxn, rs store.Recordset) (*zendeskv1.GetNextRecordResponse, error) {
	moved := rs.Position < rs.Count
	if moved {
		rs.Position++
	}
	raw, columns, err := currentRecord(tx, rs)
	if err != nil {
		return nil, err
	}
	if moved {
		rs.ColumnsSet = recordset.Union(rs.ColumnsSet, columns)
		tx.UpdateRecordset(rs)
	}
	vars := recordVariables(rs, columns)
	if err := tellable(vars); err != nil {
		return nil, err
	}
	resp := &zendeskv1.GetNextRecordResponse{
		Exit:      zendeskv1.Exit_EXIT_NO_DATA,
		Variables: vars,
		Account:   rpc.AccountUseToProto(rs.Account),
		Position:  int32(rs.Position),
		Count:     int32(rs.Count),
	}
	if moved {
		resp.Exit = zendeskv1.Exit_EXIT_NEXT
		resp.Record = rpc.RecordToProto(raw, rs.Account.URL)
	}
	return resp, nil
}

func recordsetNotFound(name string) *zendeskv1.Failure {
	return rpc.Failure(store.ReasonRecordsetNotFound, fmt.Sprintf("the interaction has no recordset %q", name))
}
