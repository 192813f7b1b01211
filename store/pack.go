package store

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"

	"github.com/klauspost/compress/zstd"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
)

// maxBody is the most that a packed value has: it bounds what a damaged one can take.
const maxBody = 16 * kv.MaxTxnBytes

// encoder and decoder work on whole values; what Zendesk sends becomes a fifth to a tenth. Checksums are left out: what is packed
// is sealed. They are made at the start, with all that they would make when they are first used: channels, too, which then
// belong to no single test.
var encoder, decoder = newCodec()

func newCodec() (*zstd.Encoder, *zstd.Decoder) {
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderCRC(false), zstd.WithZeroFrames(true),
		zstd.WithWindowSize(128<<10), zstd.WithLowerEncoderMem(true))
	if err != nil {
		panic(err) //nolint:forbidigo // the options are constants, and a test makes one
	}
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(maxBody), zstd.WithDecoderLowmem(true))
	if err != nil {
		panic(err) //nolint:forbidigo // as above
	}
	encoder.EncodeAll(nil, nil)
	return encoder, decoder
}

// packedMagic is what everything packed begins with (RFC 8878). No JSON does, and nothing compressed with DEFLATE.
var packedMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}

func isPacked(value []byte) bool { return bytes.HasPrefix(value, packedMagic) }

// pack compresses. The result is never empty.
func pack(body []byte) []byte {
	return encoder.EncodeAll(body, make([]byte, 0, len(body)/4+64))
}

// unpack reads what pack made of a value of the store's.
func unpack(packed []byte) ([]byte, error) {
	if !isPacked(packed) {
		return nil, fmt.Errorf("a compressed value does not begin as one: %w", ErrDamaged)
	}
	body, err := decoder.DecodeAll(packed, nil)
	if err != nil {
		return nil, fmt.Errorf("reading a compressed value: %w: %w", err, ErrDamaged)
	}
	if len(body) == 0 {
		return nil, nil
	}
	return body, nil
}

const (
	// blockBytes is about what a block of records has before it is packed: more would make a step to the next record slow, less would
	// compress badly.
	blockBytes = 16 << 10
	// blockRecords is how many records a block has at most.
	blockRecords = 32
	// maxBlockBytes is what a block of more than one record has at most, whatever the records before it are like.
	maxBlockBytes = 256 << 10
)

// recordsPerBlock says how many of the records stand in a block: as many in each, so that it is known where a record is.
func recordsPerBlock(records []json.RawMessage) int {
	all := 0
	for _, record := range records {
		all += len(record)
	}
	n := max(1, min(blockRecords, len(records)*blockBytes/max(all, 1)))
	for n > 1 && largestBlock(records, n) > maxBlockBytes {
		n /= 2
	}
	return n
}

func largestBlock(records []json.RawMessage, n int) (most int) {
	for len(records) > 0 {
		size := 0
		for _, record := range records[:min(n, len(records))] {
			size += len(record)
		}
		most, records = max(most, size), records[min(n, len(records)):]
	}
	return most
}

// packRecords makes a block of records, each behind its length. A single one that packing does not make shorter is a block as it
// is: so none needs more room than it has itself.
func packRecords(records []json.RawMessage) []byte {
	size := 0
	for _, record := range records {
		size += binary.MaxVarintLen32 + len(record)
	}
	block := make([]byte, 0, size)
	for _, record := range records {
		block = append(binary.AppendUvarint(block, uint64(len(record))), record...)
	}
	packed := pack(block)
	if len(records) == 1 && len(records[0]) > 0 && len(records[0]) <= len(packed) && !isPacked(records[0]) {
		return records[0]
	}
	return packed
}

// unpackRecords reads a block.
func unpackRecords(value []byte) (records []json.RawMessage, err error) {
	if !isPacked(value) {
		return []json.RawMessage{value}, nil
	}
	block, err := unpack(value)
	if err != nil {
		return nil, err
	}
	for len(block) > 0 {
		length, n := binary.Uvarint(block)
		if n <= 0 || length > uint64(len(block)-n) {
			return nil, fmt.Errorf("a block of records ends within one: %w", ErrDamaged)
		}
		if len(records) == blockRecords {
			return nil, fmt.Errorf("a block has more than %d records: %w", blockRecords, ErrDamaged)
		}
		end := n + int(length)
		records = append(records, json.RawMessage(block[n:end:end]))
		block = block[end:]
	}
	return records, nil
}
