package store

import "github.com/scenarioblocks/zendeskblocks/store/kv"

// convertFormat3 is the step to format 4: activities that are to be written are indexed in shards, of the account, by time. In
// format 3 a row said the tenant and the activity.
func (v *vault) convertFormat3(e kv.Entry) (conversion, error) {
	path, err := kv.Split(e.Key)
	switch {
	case err != nil || len(path) < 3:
		return conversion{}, nil //nolint:nilerr // it stays as it is
	case path[0] == "!":
		return conversion{delete: path[1] == "pending" && len(path) == 4}, nil
	case path[1] != "c" || len(path) != 3:
		return conversion{}, nil
	}
	a, err := v.openActivity(e.Key, e.Value)
	if err != nil {
		return conversion{unreadable: true}, nil //nolint:nilerr // it stays as it is, and whoever asks for it is told
	}
	if a.State != ActivityPending {
		return conversion{}, nil
	}
	return conversion{puts: []kv.Entry{{Key: pendingKey(path[0], &a.Activity), Value: []byte{}}}}, nil
}
