package interactions

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"

	"google.golang.org/protobuf/proto"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/recordset"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/store"
)

// ListRecords implements InteractionService. A page token is the position of the last record before the page.
func (s *Service) ListRecords(ctx context.Context, req *zendeskv1.ListRecordsRequest) (*zendeskv1.ListRecordsResponse, error) {
	var v rpc.Violations
	v.Token("interaction_id", req.GetInteractionId(), true)
	v.RecordsetName("recordset_name", req.GetRecordsetName())
	size := v.PageSize(req.GetPageSize())
	last := 0
	if position := v.PageToken(req.GetPageToken()); position != "" {
		var err error
		if last, err = strconv.Atoi(position); err != nil || last < 1 || last > math.MaxInt32 {
			v.MalformedPageToken()
		}
	}
	if err := v.Err(); err != nil {
		return nil, err
	}
	logInteraction(ctx, req.GetInteractionId())
	var rs store.Recordset
	var records []json.RawMessage
	err := s.store.ViewInteraction(ctx, rpc.Tenant(ctx), req.GetInteractionId(), func(tx *store.InteractionTxn) error {
		if !tx.Exists() {
			return interactionNotFound(req.GetInteractionId())
		}
		var err error
		rs, err = tx.Recordset(req.GetRecordsetName())
		if errors.Is(err, store.ErrNotFound) || err == nil && rs.Removed {
			return &rpc.Error{
				Reason:   zendeskv1.ErrorReason_ERROR_REASON_RECORDSET_NOT_FOUND,
				Message:  fmt.Sprintf("the interaction has no recordset %q", req.GetRecordsetName()),
				Metadata: map[string]string{"recordset_name": req.GetRecordsetName()},
			}
		}
		if err != nil {
			return err
		}
		records, err = tx.Records(rs.Name, last+1, size)
		return err
	})
	if err != nil {
		return nil, err
	}
	return pageOfRecords(rs, records, last)
}

// pageOfRecords words the records behind a position, as many of them as a message has room for.
func pageOfRecords(rs store.Recordset, records []json.RawMessage, last int) (*zendeskv1.ListRecordsResponse, error) {
	resp := &zendeskv1.ListRecordsResponse{}
	bytes := 0
	for i, raw := range records {
		columns, err := recordset.Flatten(raw, rs.Columns)
		if err != nil {
			return nil, err
		}
		listed := &zendeskv1.ListedRecord{Position: int32(last + i + 1), Record: rpc.RecordToProto(raw, rs.Account.URL), Columns: columns}
		if bytes += proto.Size(listed); bytes > rpc.MaxPageBytes && i > 0 {
			break
		}
		resp.Records = append(resp.Records, listed)
	}
	if end := last + len(resp.Records); len(resp.Records) > 0 && end < rs.Count {
		resp.NextPageToken = rpc.PageToken(strconv.Itoa(end))
	}
	return resp, nil
}
