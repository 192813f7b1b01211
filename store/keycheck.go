package store

import (
	"context"
	"fmt"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// CheckKeys says whether every key that values are sealed with is among those in use: nil when it is. It reads one value.
func (s *Store) CheckKeys(ctx context.Context) error {
	err := s.inTime(ctx, func(ctx context.Context) error {
		return s.engine.View(ctx, func(r kv.Reader) error {
			_, _, err := readKeyUse(r, s.vault.keys.Load())
			return err
		})
	})
	if err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	return nil
}
