// Package limits has the replicas of the service share the limits of Zendesks: each is told how many there are, and what another
// has learned of a limit from an answer. It hides how that goes through the store.
//
// It guarantees nothing: what gets lost, or comes late since the database is away, the next answers of Zendesk tell.
package limits

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi/limit"
)

// countEvery is how often it is looked how many replicas there are.
const countEvery = time.Second

// gatherTime is for how long what is learned is gathered after others were told something: what is told together is one commit.
const gatherTime = 50 * time.Millisecond

// notifyTime is how long telling others may take: later it is of no use.
const notifyTime = 2 * time.Second

// Config is what a Sharing depends on. All of it is required.
type Config struct {
	Store    *store.Store
	Governor *limit.Governor
	Log      *slog.Logger
}

// Sharing shares the limits that a governor knows.
type Sharing struct{ Config }

// New makes one, which Run has to run.
func New(c Config) *Sharing { return &Sharing{c} }

// Run shares limits until ctx ends. Where no other process works on the data it returns at once.
func (s *Sharing) Run(ctx context.Context) {
	if !s.Store.Shared() {
		return
	}
	var group sync.WaitGroup
	group.Go(func() { s.Store.Notices(ctx, s.hear) })
	group.Go(func() { s.tell(ctx) })
	s.count(ctx)
	group.Wait()
}

// count keeps the governor told of how many replicas there are.
func (s *Sharing) count(ctx context.Context) {
	ticker := time.NewTicker(countEvery)
	defer ticker.Stop()
	for {
		s.Governor.Share(len(s.Store.Replicas()))
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// tell tells the others what this replica learns.
func (s *Sharing) tell(ctx context.Context) {
	for {
		notices := s.Governor.Learned(ctx)
		if notices == nil {
			return
		}
		messages := make([][]byte, 0, len(notices))
		for _, notice := range notices {
			message, err := json.Marshal(notice)
			if err != nil {
				s.Log.Error("a notice of a limit could not be encoded", "error", err)
				continue
			}
			messages = append(messages, message)
		}
		telling, cancel := context.WithTimeout(ctx, notifyTime)
		if err := s.Store.Notify(telling, messages...); err != nil && ctx.Err() == nil && !errors.Is(err, store.ErrUnavailable) {
			s.Log.Warn("other replicas were not told of a limit", "error", err)
		}
		cancel()
		select {
		case <-time.After(gatherTime):
		case <-ctx.Done():
		}
	}
}

// hear takes in what another replica has learned. What this version does not understand it leaves.
func (s *Sharing) hear(message []byte) {
	var notice limit.Notice
	if err := json.Unmarshal(message, &notice); err == nil && notice.Origin != "" {
		s.Governor.Learn(notice)
	}
}
