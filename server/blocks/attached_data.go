package blocks

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/rpc"
	"github.com/scenarioblocks/zendeskblocks/server/variables"
	"github.com/scenarioblocks/zendeskblocks/store"
)

// AttachedData implements BlockService.
func (s *Service) AttachedData(ctx context.Context, req *zendeskv1.AttachedDataRequest) (*zendeskv1.AttachedDataResponse, error) {
	var v violations
	v.block(req)
	if len(req.GetData()) == 0 {
		v.Add("data", "is required")
	}
	tooMuch := tooMuchAttached(req.GetData())
	var settings []attachedSetting
	if tooMuch == nil {
		settings = v.attachedSettings(req.GetData())
	}
	if err := v.Err(); err != nil {
		return nil, err
	}

	failed := func(f *zendeskv1.Failure) *zendeskv1.AttachedDataResponse {
		return &zendeskv1.AttachedDataResponse{Exit: zendeskv1.Exit_EXIT_FAILED, Failure: f}
	}
	return executeOnce(ctx, s, "AttachedData", req, changingNothing(failed), func(ctx context.Context, b *block) (*zendeskv1.AttachedDataResponse, error) {
		changes, f, err := s.attachedChanges(ctx, b, settings)
		if err != nil {
			return nil, err
		}
		f = cmp.Or(tooMuch, f)
		return transact(ctx, s, b, failed, func(tx *store.InteractionTxn) (*zendeskv1.AttachedDataResponse, error) {
			if f != nil {
				return failed(f), nil
			}
			current, err := tx.AttachedData()
			if err != nil {
				return nil, err
			}
			merged, f := mergeAttached(current, changes)
			if f != nil {
				return failed(f), nil
			}
			tx.SetAttachedData(merged)
			b.would("the interaction has %d attached data then, %d of which the block sets or removes", len(merged), len(changes))
			return &zendeskv1.AttachedDataResponse{Exit: zendeskv1.Exit_EXIT_NEXT, Data: merged}, nil
		})
	})
}

// tooMuchAttached says what of the settings is beyond the limits of the data before any variable is replaced; nil: nothing.
// What is nobody parses.
func tooMuchAttached(data map[string]string) *zendeskv1.Failure {
	if len(data) > rpc.MaxAttachedKeys {
		return rpc.Failure(store.ReasonInvalidRequest, fmt.Sprintf("data has %d entries; at most %d are allowed", len(data), rpc.MaxAttachedKeys))
	}
	size := 0
	for key, value := range data {
		if len(value) > rpc.MaxAttachedValue {
			return rpc.Failure(store.ReasonInvalidRequest,
				fmt.Sprintf("the value of %.*q has %d bytes; at most %d are allowed", maxAttachedKey, key, len(value), rpc.MaxAttachedValue))
		}
		size += len(value)
	}
	if size > rpc.MaxAttachedBytes {
		return rpc.Failure(store.ReasonInvalidRequest,
			fmt.Sprintf("the values of data have %d bytes together; at most %d are allowed", size, rpc.MaxAttachedBytes))
	}
	return nil
}

type attachedSetting struct{ key, value *variables.Template }

// attachedSettings parses the settings.
func (v *violations) attachedSettings(data map[string]string) []attachedSetting {
	settings := make([]attachedSetting, 0, len(data))
	for _, key := range slices.Sorted(maps.Keys(data)) {
		if v.Full() {
			return nil
		}
		field := fmt.Sprintf("data[%q]", key)
		settings = append(settings, attachedSetting{
			key:   v.requiredTemplate(field, key),
			value: v.longTemplate(field, data[key]),
		})
	}
	return settings
}

// attachedChanges looks for the variables of the settings and replaces them.
func (s *Service) attachedChanges(ctx context.Context, b *block, settings []attachedSetting) (map[string]string, *zendeskv1.Failure, error) {
	var templates []*variables.Template
	for _, setting := range settings {
		templates = append(templates, setting.key, setting.value)
	}
	vars, err := s.values(ctx, b, templates...)
	if err != nil {
		return nil, nil, err
	}
	if vars.failure != nil {
		return nil, vars.failure, nil
	}
	changes, f := expandAttached(vars, settings)
	return changes, f, nil
}

// expandAttached replaces the variables in keys and values, as far as all of them together have room.
func expandAttached(vars *values, settings []attachedSetting) (map[string]string, *zendeskv1.Failure) {
	changes := make(map[string]string, len(settings))
	left := rpc.MaxAttachedBytes
	for _, setting := range settings {
		key, f := vars.expand(setting.key, variables.Text, "", maxAttachedKey)
		if f != nil {
			return nil, about(f, "a key")
		}
		value, f := vars.expand(setting.value, variables.Text, "", min(rpc.MaxAttachedValue, left))
		if f != nil {
			return nil, about(f, fmt.Sprintf("the value of %q", key))
		}
		if _, ok := changes[key]; ok {
			// Which of the two is the last write, nobody could tell.
			return nil, rpc.Failure(store.ReasonInvalidRequest, fmt.Sprintf("two settings are both for the key %q", key))
		}
		left -= len(value)
		changes[key] = value
	}
	return changes, nil
}

// about says what of the data a failure is about.
func about(f *zendeskv1.Failure, what string) *zendeskv1.Failure {
	f.Message = what + ": " + f.GetMessage()
	return f
}

// mergeAttached returns the data with the changes made: an empty value removes its key. Beyond what an interaction holds it
// fails.
func mergeAttached(current, changes map[string]string) (map[string]string, *zendeskv1.Failure) {
	refused := func(format string, args ...any) (map[string]string, *zendeskv1.Failure) {
		return nil, rpc.Failure(store.ReasonInvalidRequest, fmt.Sprintf(format, args...))
	}
	merged := make(map[string]string, len(current)+len(changes))
	maps.Copy(merged, current)
	for _, key := range slices.Sorted(maps.Keys(changes)) {
		value := changes[key]
		switch {
		case key == "":
			return refused("a key is empty after its variables were replaced")
		case value == "":
			delete(merged, key)
		default:
			merged[key] = value
		}
	}
	size := 0
	for key, value := range merged {
		size += len(key) + len(value)
	}
	if len(merged) > rpc.MaxAttachedKeys {
		return refused("the interaction would have %d keys; at most %d are allowed", len(merged), rpc.MaxAttachedKeys)
	}
	if size > rpc.MaxAttachedBytes {
		return refused("the attached data would have %d bytes; at most %d are allowed", size, rpc.MaxAttachedBytes)
	}
	return merged, nil
}
