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
	Packed []byte `json:"packed,omitempty"`
}

// convertFormat2 is the step to format 3: it packs the records and answers of interactions.
func (v *vault) convertFormat2(e kv.Entry) (conversion, error) {
	path, err := kv.Split(e.Key)
	if err != nil || len(path) < 4 || path[0] == "!" || path[1] != "h" {
		return conversion{}, nil
	}
	var change func(value []byte) (changed []byte, err error) // nil: there is nothing to change
	switch path[3] {
	case "head":
		change = headOfFormat2
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
	if err != nil {
		return conversion{}, err
	}
	put := kv.Entry{Key: e.Key, Value: sealed}
	if entrySize(put) > kv.MaxTxnBytes {
		// A reply that was as large as can be, and packs a little worse than it did: what is left of it says that it is gone.
		return conversion{unreadable: true}, nil
	}
	return conversion{puts: []kv.Entry{put}}, nil
}

// headOfFormat2 forgets how large the records are: packed, they are smaller, and who drops them must not count more than goes.
func headOfFormat2(value []byte) ([]byte, error) {
	var head interactionHead
	if err := decode(value, &head); err != nil || head.Sizes.Recordsets == 0 {
		return nil, err
	}
	head.Sizes.Recordsets = 0
	return encode(&head)
}

// recordsetOfFormat2 forgets the same. Its records stand in blocks of one.
func recordsetOfFormat2(value []byte) ([]byte, error) {
	var set storedRecordset
	if err := decode(value, &set); err != nil || set.Bytes == 0 {
		return nil, err
	}
	set.Bytes = 0
	return encode(&set)
}

// recordOfFormat2 makes a block of a record.
func recordOfFormat2(value []byte) ([]byte, error) {
	if isPacked(value) {
		return nil, nil
	}
	block := packRecords([]json.RawMessage{value})
	if !isPacked(block) {
		return nil, nil
	}
	return block, nil
}

func convertReplyOfFormat2(value []byte) ([]byte, error) {
	if _, ok := coded(value); ok {
		return nil, nil
	}
	var old replyOfFormat2
	if err := decodeJSON(value, &old); err != nil || len(old.Packed) == 0 {
		return nil, err
	}
	body, err := inflate(old.Packed)
	if err != nil {
		return nil, err
	}
	reply := old.storedReply
	if packed := reply.keep(body); packed != nil {
		reply.Packed = packed // it stood with the reply, and stays there
	}
	return encode(&reply)
}

func answerOfFormat2(value []byte) ([]byte, error) {
	if isPacked(value) {
		return nil, nil
	}
	body, err := inflate(value)
	if err != nil {
		return nil, err
	}
	return pack(body), nil
}

func deflate(body []byte) ([]byte, error) {
	var packed bytes.Buffer
	w, err := flate.NewWriter(&packed, flate.BestSpeed)
	if err == nil {
		_, err = w.Write(body)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("compressing a reply: %w", err)
	}
	return packed.Bytes(), nil
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
