// Package backupfile is the form of a backup: the bytes of a data file, and behind them a trailer that says what they are. A
// file that was cut short, wherever, or has changed, is found to be so with nothing beside it.
//
// It hides where the trailer stands and how it is encoded. It knows nothing of what the data are. Errors are the Err variables
// here, and those of readers and writers.
//
//	info, err := backupfile.Write(file, data, backupfile.Info{Version: "v1.2.3", CreateTime: now})
//	...
//	info, err = backupfile.Read(file, size)        // looks at the trailer only
//	err = backupfile.Copy(to, file, info)          // looks at every byte
package backupfile

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// What is wrong with a file.
var (
	ErrNoBackup = errors.New("no backup, or one that was cut short: nothing at its end says what it is")
	ErrDamaged  = errors.New("the backup is damaged")
	ErrNewer    = errors.New("the backup was made by a newer zendeskblocks")
)

// Info is what a trailer says of the data before it.
type Info struct {
	Size       int64     `json:"size"`        // bytes of the data
	SHA256     string    `json:"sha256"`      // of the data, in lower-case hexadecimal digits
	DataFormat int       `json:"data_format"` // version of the layout that the data have
	KeyIDs     []uint32  `json:"key_ids"`     // of the keys that open the values
	CreateTime time.Time `json:"create_time"` // the moment that the data are of
	Version    string    `json:"version"`     // of the program that made it
	Instance   string    `json:"instance"`    // tells backups of one data file from those of others
}

// The trailer is the JSON of an Info and a footer of a fixed size:
//
//	SHA-256 of the JSON, length of the JSON uint32, format of the trailer uint32, magic
//
// Numbers are big-endian. The footer of a later format ends in the same two.
const (
	magic       = "zendeskblocks backup end"
	format      = 1
	footerBytes = sha256.Size + 4 + 4 + len(magic)
	maxJSON     = 64 << 10
)

func trailer(info Info) ([]byte, error) {
	text, err := json.Marshal(info)
	if err != nil {
		return nil, err
	}
	if len(text) > maxJSON {
		return nil, fmt.Errorf("what is to be said of a backup has %d bytes, more than %d", len(text), maxJSON)
	}
	sum := sha256.Sum256(text)
	text = append(text, sum[:]...)
	text = binary.BigEndian.AppendUint32(text, uint32(len(text)-len(sum)))
	text = binary.BigEndian.AppendUint32(text, format)
	return append(text, magic...), nil
}

// Write writes a backup of data, which ends with its reader, and returns the info that it has with the size and the digest.
func Write(w io.Writer, data io.Reader, info Info) (Info, error) {
	digest := sha256.New()
	size, err := io.Copy(w, io.TeeReader(data, digest))
	if err != nil {
		return Info{}, err
	}
	info.Size, info.SHA256 = size, hex.EncodeToString(digest.Sum(nil))
	end, err := trailer(info)
	if err == nil {
		_, err = w.Write(end)
	}
	return info, err
}

// Read reads the trailer of a file of a size. Errors: [ErrNoBackup], [ErrDamaged], [ErrNewer].
func Read(file io.ReaderAt, size int64) (Info, error) {
	var footer [footerBytes]byte
	if size < int64(len(footer)) {
		return Info{}, ErrNoBackup
	}
	if _, err := file.ReadAt(footer[:], size-int64(len(footer))); err != nil {
		return Info{}, fmt.Errorf("reading its end: %w", err)
	}
	sum, numbers, end := footer[:sha256.Size], footer[sha256.Size:sha256.Size+8], footer[sha256.Size+8:]
	if string(end) != magic {
		return Info{}, ErrNoBackup
	}
	length, made := int64(binary.BigEndian.Uint32(numbers)), binary.BigEndian.Uint32(numbers[4:])
	if made > format {
		return Info{}, fmt.Errorf("its trailer has format %d, this program knows %d: %w", made, format, ErrNewer)
	}
	if made < 1 || length > maxJSON || length > size-int64(len(footer)) {
		return Info{}, fmt.Errorf("a trailer of format %d and %d bytes: %w", made, length, ErrDamaged)
	}
	text := make([]byte, length)
	if _, err := file.ReadAt(text, size-int64(len(footer))-length); err != nil {
		return Info{}, fmt.Errorf("reading its trailer: %w", err)
	}
	var info Info
	if has := sha256.Sum256(text); !bytes.Equal(has[:], sum) {
		return Info{}, fmt.Errorf("its trailer has changed: %w", ErrDamaged)
	}
	if err := json.Unmarshal(text, &info); err != nil {
		return Info{}, fmt.Errorf("its trailer: %w: %w", err, ErrDamaged)
	}
	if has := size - int64(len(footer)) - length; info.Size != has {
		return Info{}, fmt.Errorf("it has %d bytes of data, and was made with %d: %w", has, info.Size, ErrDamaged)
	}
	return info, nil
}

// Copy writes the data of a backup, which Read has told of, to w. What it has written is nothing to go by when it returns an
// error: [ErrDamaged], when the digest is another one.
func Copy(w io.Writer, file io.ReaderAt, info Info) error {
	digest := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, digest), io.NewSectionReader(file, 0, info.Size))
	switch {
	case err != nil:
		return err
	case n != info.Size:
		return fmt.Errorf("it ends after %d bytes of %d: %w", n, info.Size, ErrDamaged)
	case hex.EncodeToString(digest.Sum(nil)) != info.SHA256:
		return fmt.Errorf("its data have changed since it was made: %w", ErrDamaged)
	}
	return nil
}
