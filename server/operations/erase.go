package operations

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"google.golang.org/grpc/metadata"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/people"
	"github.com/scenarioblocks/zendeskblocks/server/phone"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/store"
)

// progressEvery is how often it is told how far erasing has come.
const progressEvery = time.Second

// ErasePerson implements OperationsService.
func (s *Service) ErasePerson(req *zendeskv1.ErasePersonRequest, stream zendeskv1.OperationsService_ErasePersonServer) error {
	who, err := identityOf(req)
	if err != nil {
		return err
	}
	ctx, tenant, dry := stream.Context(), rpc.Tenant(stream.Context()), req.GetDryRun()
	if err := stream.SendHeader(metadata.MD{}); err != nil {
		return fmt.Errorf("sending headers: %w", err)
	}
	remembered, forgotten := 0, 0
	forget := sync.OnceValue(func() (err error) {
		remembered, err = s.people.Forget(ctx, tenant, people.Sought{ExternalID: who.ExternalID, Email: who.Email, Phone: who.Phone}, dry)
		if !dry {
			forgotten = remembered
		}
		return err
	})
	var last store.Erasure
	var counts atomic.Pointer[store.Erasable] // of what was erased, for the audit
	counts.Store(new(store.Erasable))
	sent := s.now()
	answer := func(done bool) error {
		resp := &zendeskv1.ErasePersonResponse{Found: erasedToProto(last.Found, remembered), Erased: erasedToProto(last.Erased, forgotten), Done: done}
		for _, w := range last.Waiting {
			resp.Waiting = append(resp.Waiting, &zendeskv1.WaitingData{InteractionId: w.InteractionID, ActivityId: w.ActivityID, Reason: w.Reason})
		}
		if err := stream.Send(resp); err != nil {
			return fmt.Errorf("sending how far it has come: %w", err)
		}
		sent = s.now()
		return nil
	}
	progress := func(e store.Erasure) error {
		if err := forget(); err != nil { // not before it is noted that erasing has begun
			return err
		}
		last = e
		counts.Store(&store.Erasable{Interactions: e.Erased.Interactions, Activities: e.Erased.Activities})
		if s.now().Sub(sent).Abs() < progressEvery {
			return nil
		}
		return answer(false)
	}
	begun, done := s.notesOf(ctx, who, &counts)
	if err := s.store.ErasePerson(ctx, tenant, newPerson(who), dry, progress, begun, done); err != nil {
		return err
	}
	return answer(true)
}

// notesOf are the lines of the audit: who erases, but not whom.
func (s *Service) notesOf(ctx context.Context, who Identity, counts *atomic.Pointer[store.Erasable]) (begun, done store.Note) {
	caller, _ := rpc.Caller(ctx)
	whom := []slog.Attr{slog.String("kind", who.kind()), slog.String("person", s.store.Pseudonym(caller.Tenant, who.kind()+":"+who.text()))}
	begun = s.audit.Note(caller, "erasing a person begun", whom...)
	if begun == nil {
		return nil, nil
	}
	return begun, func(id string, at time.Time) ([]byte, error) {
		n := counts.Load()
		attrs := append(whom[:len(whom):len(whom)], slog.Int64("interactions", n.Interactions), slog.Int64("activities", n.Activities))
		return s.audit.NoteAnyway(caller, "person erased", attrs...)(id, at)
	}
}

// identityOf reads who is to be erased.
func identityOf(req *zendeskv1.ErasePersonRequest) (who Identity, err error) {
	var v rpc.Violations
	switch p := req.GetPerson().(type) {
	case *zendeskv1.ErasePersonRequest_Email:
		v.Text("email", p.Email, rpc.MaxPersonEmail)
		if at := strings.LastIndexByte(p.Email, '@'); p.Email != "" && (at < 1 || at == len(p.Email)-1 || strings.ContainsFunc(p.Email, unicode.IsSpace)) {
			v.Add("email", "must be an e-mail address")
		}
		who.Email = p.Email
	case *zendeskv1.ErasePersonRequest_Phone:
		v.Text("phone", p.Phone, rpc.MaxPersonPhone)
		number, ok := phone.Read(p.Phone, "")
		if utf8.RuneCountInString(p.Phone) <= rpc.MaxPersonPhone && p.Phone != "" && (!ok || number.E164 == "" || len(number.E164) <= lastDigits) {
			v.Add("phone", "must be a telephone number with its country code")
		}
		who.Phone = number.E164
	case *zendeskv1.ErasePersonRequest_ExternalId:
		v.Text("external_id", p.ExternalId, rpc.MaxExternalID)
		who.ExternalID = p.ExternalId
	default:
		v.Add("person", "is required")
	}
	return who, v.Err()
}

func erasedToProto(n store.Erasable, remembered int) *zendeskv1.ErasedData {
	return &zendeskv1.ErasedData{Interactions: n.Interactions, Activities: n.Activities, Remembered: int64(remembered)}
}
