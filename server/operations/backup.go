package operations

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"log/slog"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/store"
)

const (
	// chunkBytes is the largest piece of a backup.
	chunkBytes = 64 << 10
	// backupRetry is when there may be no other backup any more, or room for one.
	backupRetry = 30 * time.Second

	defaultTenants = 100
	maxTenants     = 1000
)

// Backup implements OperationsService.
func (s *Service) Backup(_ *zendeskv1.BackupRequest, stream zendeskv1.OperationsService_BackupServer) error {
	ctx := stream.Context()
	caller, _ := rpc.Caller(ctx)
	// All data leave the service: that is noted although nothing changes, and first.
	if err := s.store.Note(ctx, s.audit.NoteAnyway(caller, "backup begun")); err != nil {
		return err
	}
	chunks := &chunkSender{stream: stream, digest: sha256.New()}
	w := bufio.NewWriterSize(chunks, chunkBytes)
	info, err := s.store.Backup(ctx, s.version, w)
	if err == nil {
		err = w.Flush()
	}
	if err != nil {
		return backupError(err)
	}
	rpc.AddFields(ctx, slog.Int64("bytes", chunks.size))
	summary := &zendeskv1.BackupSummary{
		Size: chunks.size, Sha256: hex.EncodeToString(chunks.digest.Sum(nil)), KeyIds: info.KeyIDs, CreateTime: timestamppb.New(info.CreateTime),
	}
	if err := stream.Send(&zendeskv1.BackupResponse{Part: &zendeskv1.BackupResponse_Summary{Summary: summary}}); err != nil {
		return fmt.Errorf("sending the summary: %w", err)
	}
	s.backedUp(s.now())
	return nil
}

func backupError(err error) error {
	switch {
	case errors.Is(err, store.ErrBackupRunning):
		return &rpc.Error{
			Reason: zendeskv1.ErrorReason_ERROR_REASON_BACKUP_IN_PROGRESS, Message: "another backup is being made",
			RetryAfter: backupRetry, Cause: err,
		}
	case errors.Is(err, store.ErrBackupUnsupported):
		return &rpc.Error{
			Reason: zendeskv1.ErrorReason_ERROR_REASON_BACKUP_UNSUPPORTED, Message: "the data is in a PostgreSQL database, which has backups of its own: pg_dump, or pg_basebackup and an archive of WAL", Cause: err,
		}
	case errors.Is(err, store.ErrUnavailable):
		return &rpc.Error{
			Reason: zendeskv1.ErrorReason_ERROR_REASON_STORE_UNAVAILABLE, Message: "the disk has no room for the copy; the log says how much it takes",
			RetryAfter: backupRetry, Cause: err,
		}
	}
	return err
}

// chunkSender sends what is written to it, a piece at a time.
type chunkSender struct {
	stream zendeskv1.OperationsService_BackupServer
	size   int64
	digest hash.Hash
}

// Write implements io.Writer.
func (c *chunkSender) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		chunk := bytes.Clone(p[:min(len(p), chunkBytes)]) // it is not ours any more once it is sent
		if err := c.stream.Send(&zendeskv1.BackupResponse{Part: &zendeskv1.BackupResponse_Chunk{Chunk: chunk}}); err != nil {
			return n, fmt.Errorf("sending a piece: %w", err)
		}
		c.size += int64(len(chunk))
		_, _ = c.digest.Write(chunk) // it never fails
		n, p = n+len(chunk), p[len(chunk):]
	}
	return n, nil
}

// ListTenants implements OperationsService.
func (s *Service) ListTenants(ctx context.Context, req *zendeskv1.ListTenantsRequest) (*zendeskv1.ListTenantsResponse, error) {
	var v rpc.Violations
	size := int(req.GetPageSize())
	if size < 0 || size > maxTenants {
		v.Add("page_size", "must be 0 to %d", maxTenants)
	}
	if size == 0 {
		size = defaultTenants
	}
	after := v.PageToken(req.GetPageToken())
	if err := v.Err(); err != nil {
		return nil, err
	}
	tenants, more, err := s.store.ListTenants(ctx, after, size)
	if err != nil {
		return nil, err
	}
	resp := &zendeskv1.ListTenantsResponse{}
	for _, t := range tenants {
		resp.Tenants = append(resp.Tenants, &zendeskv1.Tenant{Tenant: t.Tenant, Usage: usageToProto(t.Usage)})
	}
	if more {
		resp.NextPageToken = rpc.PageToken(tenants[len(tenants)-1].Tenant)
	}
	return resp, nil
}
