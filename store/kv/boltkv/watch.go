package boltkv

import "context"

// Watch implements [kv.Engine].
func (d *DB) Watch(ctx context.Context, prefix []byte) (<-chan struct{}, error) {
	if err := d.enter(ctx); err != nil {
		return nil, err
	}
	defer d.running.Done()
	tokens := d.watchers.Add(ctx, prefix)
	if tokens == nil {
		return nil, d.Err() // which has closed them
	}
	return tokens, nil
}
