// Package keyfile keeps the keys that values are sealed with in a file.
//
// It hides that the file is a Tink keyset in JSON, how values tell which key has sealed them, and how the file is made,
// checked and changed. A file that is there is whole: it is made and replaced at once, durably. Errors are one sentence
// that neither quotes a key nor, but for those of [Rotate], [Drop] and [List], names the file; they wrap the Err
// variables here, or are the file system's.
//
//	keys, err := keyfile.Read("data.db.key")
//	if err != nil {
//		return err
//	}
//	sealed, err := keys.Seal(value, place)
package keyfile

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/scenarioblocks/zendeskblocks/store/durable"
	"github.com/scenarioblocks/zendeskblocks/store/trustedfile"
)

// What is wrong with a key file, or with a keyset.
var (
	ErrMissing     = errors.New("it is missing, and data cannot be read without it")
	ErrExposed     = trustedfile.ErrExposed
	ErrEmpty       = errors.New("it is empty")
	ErrTruncated   = errors.New("it is cut short")
	ErrNotKeyset   = errors.New("not a Tink keyset in JSON, or damaged")
	ErrNotAEAD     = errors.New("its keys are not for AEAD")
	ErrNotPrefixed = errors.New("a key has an output prefix other than TINK, so that its values could not be told from others")
	ErrNoPrimary   = errors.New("it has no primary key that is enabled")
)

// Why a key file is not changed.
var (
	ErrBusy    = durable.ErrBusy
	ErrUnknown = errors.New("the key file has no such key")
	ErrPrimary = errors.New("it is the primary key; rotate first")
)

// Read reads a key file. It refuses one that others may have read or changed: see [trustedfile].
func Read(path string) (*Keys, error) { return read(path, trustedfile.Rule{Secret: true}) }

// readAsOwner reads a key file for a command, which root may give for a service.
func readAsOwner(path string) (*Keys, error) {
	return read(path, trustedfile.Rule{Secret: true, AnyOwner: os.Geteuid() == 0})
}

func read(path string, rule trustedfile.Rule) (*Keys, error) {
	text, err := trustedfile.Read(path, rule)
	switch {
	case errors.Is(err, trustedfile.ErrMissing):
		return nil, ErrMissing
	case err != nil:
		return nil, fmt.Errorf("it %w", err)
	}
	return Parse(string(text))
}

// Make makes a key file with one new XChaCha20-Poly1305 key and mode 0600, in a folder that exists. When there is one
// already, as when another process was faster, that one stands.
func Make(path string) error {
	handle, err := keyset.NewHandle(aead.XChaCha20Poly1305KeyTemplate())
	if err != nil {
		return err
	}
	text, err := formatKeyset(handle)
	if err != nil {
		return err
	}
	for tries := 0; ; tries++ {
		// Another process may sweep away, as it starts, what this one makes.
		if err = makeOnce(path, text); tries == 10 || !errors.Is(err, errSwept) {
			return err
		}
	}
}

var errSwept = errors.New("the new key file was taken away before it had its name")

func makeOnce(path string, text []byte) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), temporary+"*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if removeErr := os.Remove(file.Name()); !errors.Is(removeErr, fs.ErrNotExist) {
			err = errors.Join(err, removeErr)
		}
	}()
	_, err = file.Write(text)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	// A link, unlike a rename, replaces nothing.
	switch err := os.Link(file.Name(), path); {
	case errors.Is(err, fs.ErrNotExist):
		return errSwept
	case err != nil && !errors.Is(err, fs.ErrExist):
		return err
	}
	return durable.SyncFolder(path)
}

// temporary begins the names of the files that Make makes and takes away again; digits follow.
const temporary = ".key-"

// Sweep takes away what interrupted runs of Make, Rotate and Drop have left beside a key file that is there. It holds keys,
// or is the key file itself under another name.
func Sweep(path string) error {
	err := durable.Sweep(path)
	folder := filepath.Dir(path)
	entries, readErr := os.ReadDir(folder)
	err = errors.Join(err, readErr)
	for _, entry := range entries {
		if !leftOver(entry.Name()) || !entry.Type().IsRegular() {
			continue
		}
		if removeErr := os.Remove(filepath.Join(folder, entry.Name())); !errors.Is(removeErr, fs.ErrNotExist) {
			err = errors.Join(err, removeErr)
		}
	}
	return err
}

func leftOver(name string) bool {
	digits, ok := strings.CutPrefix(name, temporary)
	return ok && digits != "" && strings.Trim(digits, "0123456789") == ""
}

func formatKeyset(handle *keyset.Handle) ([]byte, error) {
	var text bytes.Buffer
	err := insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(&text))
	return text.Bytes(), err
}

// Keys are the keys of a key file. They are safe for concurrent use.
type Keys struct {
	handle  *keyset.Handle
	aead    tink.AEAD
	primary uint32
	enabled []uint32
}

// Parse reads a keyset: what a key file holds.
func Parse(text string) (*Keys, error) {
	// No error has a cause: it could quote the key.
	if strings.TrimSpace(text) == "" {
		return nil, ErrEmpty
	}
	var value json.RawMessage
	if err := json.NewDecoder(strings.NewReader(text)).Decode(&value); errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, ErrTruncated
	}
	parsed, err := keyset.NewJSONReader(strings.NewReader(text)).Read()
	if err != nil || len(parsed.GetKey()) == 0 {
		return nil, ErrNotKeyset
	}
	keys := &Keys{primary: parsed.GetPrimaryKeyId()}
	for _, key := range parsed.GetKey() {
		if key.GetStatus() != tinkpb.KeyStatusType_ENABLED {
			continue
		}
		if key.GetOutputPrefixType() != tinkpb.OutputPrefixType_TINK {
			return nil, ErrNotPrefixed
		}
		keys.enabled = append(keys.enabled, key.GetKeyId())
	}
	if !slices.Contains(keys.enabled, keys.primary) {
		return nil, ErrNoPrimary
	}
	if keys.handle, err = insecurecleartextkeyset.Read(keyset.NewJSONReader(strings.NewReader(text))); err != nil {
		return nil, ErrNotKeyset
	}
	if keys.aead, err = aead.New(keys.handle); err != nil {
		return nil, ErrNotAEAD
	}
	return keys, nil
}

// Primary returns the id of the key that seals.
func (k *Keys) Primary() uint32 { return k.primary }

// Enabled returns the ids of the keys that open.
func (k *Keys) Enabled() []uint32 { return slices.Clone(k.enabled) }

// Seal encrypts a value for a place, with the primary key. [SealedWith] knows it by its key.
func (k *Keys) Seal(value, place []byte) ([]byte, error) { return k.aead.Encrypt(value, place) }

// Open decrypts a value that one of the keys has sealed for the place.
func (k *Keys) Open(sealed, place []byte) ([]byte, error) { return k.aead.Decrypt(sealed, place) }

// SealedWith reports whether a key sealed a value: Tink's prefix, a 1 and the key's id in four bytes, says so. See
// https://developers.google.com/tink/wire-format.
func SealedWith(value []byte, id uint32) bool {
	return len(value) > 5 && value[0] == 1 && binary.BigEndian.Uint32(value[1:]) == id
}

// Key is a key of a key file, without what is secret.
type Key struct {
	ID      uint32
	Primary bool   // it seals
	Status  string // ENABLED; DISABLED or DESTROYED: it does not open either
}

// List returns the keys of a key file, in its order.
func List(path string) ([]Key, error) {
	keys, err := readAsOwner(path)
	if err != nil {
		return nil, fmt.Errorf("key file %q: %w", path, err)
	}
	return keys.list(), nil
}

func (k *Keys) list() (all []Key) {
	for _, info := range k.handle.KeysetInfo().GetKeyInfo() {
		all = append(all, Key{ID: info.GetKeyId(), Primary: info.GetKeyId() == k.primary, Status: info.GetStatus().String()})
	}
	return all
}

// Rotate adds a new XChaCha20-Poly1305 key to a key file and makes it the primary one. The others stay, to open what they
// have sealed. The file's mode and, where that is permitted, its owner stay.
func Rotate(path string) (id uint32, err error) {
	err = change(path, func(_ *Keys, m *keyset.Manager) error {
		if id, err = m.Add(aead.XChaCha20Poly1305KeyTemplate()); err != nil {
			return err
		}
		return m.SetPrimary(id)
	})
	return id, err
}

// Add adds a new XChaCha20-Poly1305 key to a key file, which opens, and does not seal before it is promoted: processes that share
// data get it all before the first of them seals with it.
func Add(path string) (id uint32, err error) {
	err = change(path, func(_ *Keys, m *keyset.Manager) (err error) {
		id, err = m.Add(aead.XChaCha20Poly1305KeyTemplate())
		return err
	})
	return id, err
}

// Promote makes a key of a key file the primary one.
func Promote(path string, id uint32) error {
	return change(path, func(keys *Keys, m *keyset.Manager) error {
		if !slices.Contains(keys.enabled, id) {
			return fmt.Errorf("key %d: %w", id, ErrUnknown)
		}
		return m.SetPrimary(id)
	})
}

// Drop removes a key that is not the primary one from a key file, if release agrees, which is called while no other
// process can change the file. Its error comes back in one sentence.
func Drop(path string, id uint32, release func() error) error {
	return change(path, func(keys *Keys, m *keyset.Manager) error {
		var err error
		switch {
		case !slices.ContainsFunc(keys.list(), func(key Key) bool { return key.ID == id }):
			err = ErrUnknown
		case id == keys.primary:
			err = ErrPrimary
		default:
			err = release()
		}
		if err != nil {
			return fmt.Errorf("key %d: %w", id, err)
		}
		return m.Delete(id)
	})
}

// change replaces a key file by what edit makes of it, while no other process does.
func change(path string, edit func(*Keys, *keyset.Manager) error) error {
	_, err := readAsOwner(path) // before it is opened, which waits if it is a pipe
	if err == nil {
		err = durable.Change(path, os.O_RDONLY, false, func(*os.File) error {
			text, err := edited(path, edit)
			if err != nil {
				return err
			}
			return durable.Rewrite(path, text)
		})
	}
	if err != nil {
		return fmt.Errorf("key file %q: %w", path, err)
	}
	return nil
}

func edited(path string, edit func(*Keys, *keyset.Manager) error) ([]byte, error) {
	keys, err := readAsOwner(path)
	if err != nil {
		return nil, err
	}
	manager := keyset.NewManagerFromHandle(keys.handle)
	if err := edit(keys, manager); err != nil {
		return nil, err
	}
	handle, err := manager.Handle()
	if err != nil {
		return nil, err
	}
	return formatKeyset(handle)
}
