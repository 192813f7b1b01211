package store

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"fmt"
	"io"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// In format 2 each record of a recordset was a value of its own, as Zendesk sent it, and answers were compressed with DEFLATE.

// replyOfFormat2 is the stored form of a reply then.
type replyOfFormat2 struct {
	storedReply
	Packed []byte `json:"packed"`
}

// convertFormat2 packs the records and answers of interactions.
func (v *vault) convertFormat2(e kv.Entry) (conversion, error) {
	path, err := kv.Split(e.Key)
	if err != nil || len(path) < 4 || path[0] == "!" || path[1] != "h" {
		return conversion{}, nil
	}
	var change func(value []byte) (changed []byte, err error)
	switch path[3] {
	case "record":
		change = recordOfFormat2
	case "recordset":
		change = recordsetOfFormat2
	case "reply":
		change = convertReplyOfFormat2
	case "answer":
		change = answerOfFormat2
	default:
		return conversion{}, nil
	}
	value, err := v.open(e.Key, e.Value)
	if err == nil {
		value, err = change(value)
	}
	if err != nil {
		return conversion{unreadable: true}, nil //nolint:nilerr // it stays as it is, and whoever asks for it is told
	}
	if value == nil {
		return conversion{}, nil
	}
	sealed, err := v.seal(e.Key, value)
	return conversion{puts: []kv.Entry{{Key: e.Key, Value: sealed}}}, err
}

// recordOfFormat2 makes a block of a record; nil: it is one.
func recordOfFormat2(value []byte) ([]byte, error) {
	if isPacked(value) {
		return nil, nil
	}
	return packRecords([]json.RawMessage{value}), nil
}

// recordsetOfFormat2 says that the records stand in blocks of one; nil: it says so of records, or there are none.
func recordsetOfFormat2(value []byte) ([]byte, error) {
	var set storedRecordset
	if err := decode(value, &set); err != nil || set.PerBlock > 0 || set.Generation == "" {
		return nil, err
	}
	set.PerBlock = 1
	return encode(&set)
}

func convertReplyOfFormat2(value []byte) ([]byte, error) {
	var old replyOfFormat2
	if err := decode(value, &old); err != nil || len(old.Packed) == 0 {
		return nil, err
	}
	body, err := inflate(old.Packed)
	if err != nil {
		return nil, err
	}
	old.storedReply.keep(body)
	return encode(&old.storedReply)
}

func answerOfFormat2(value []byte) ([]byte, error) {
	if isPacked(value) {
		if _, err := unpack(value); err == nil {
			return nil, nil
		}
	}
	body, err := inflate(value)
	if err != nil {
		return nil, err
	}
	return pack(body), nil
}

func inflate(packed []byte) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(packed)), maxBody+1))
	if err == nil && len(body) > maxBody {
		err = ErrTooLarge
	}
	if err != nil {
		return nil, fmt.Errorf("reading a compressed reply: %w: %w", err, ErrDamaged)
	}
	return body, nil
}
