package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// What is wrong with a key.
var (
	errKeyMissing   = errors.New("it is missing, and data cannot be read without it")
	errKeyExposed   = errors.New("everyone can read or write it; it should have mode 0600")
	errKeyEmpty     = errors.New("it is empty")
	errKeyTruncated = errors.New("it is cut short")
	errNotKeyset    = errors.New("not a Tink keyset in JSON, or damaged")
	errNotAEAD      = errors.New("its keys are not for AEAD")
	errNotPrefixed  = errors.New("a key has an output prefix other than TINK, so that its values could not be told from others")
	errNoPrimary    = errors.New("it has no primary key that is enabled")
)

// prepareKeyFile makes a key file when neither it nor the data file is there.
func prepareKeyFile(path, dataPath string, log *slog.Logger) error {
	for _, p := range []string{path, dataPath} {
		if _, err := os.Stat(p); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := makeKeyFile(path); err != nil {
		return fmt.Errorf("making it: %w", err)
	}
	log.Info("made a key file; back it up: the data cannot be read without it", "key_file", path, "data_file", dataPath)
	return nil
}

func readKeyFile(path string) (*keyring, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, errKeyMissing
	case err != nil:
		return nil, errors.Unwrap(err) // without the path, which callers name
	case info.Mode().Perm()&0o007 != 0:
		return nil, errKeyExposed
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	return parseKeyset(string(text))
}

// makeKeyFile makes a key file that is whole and durable from the moment it has its name. When another process was
// faster, its file stands.
func makeKeyFile(path string) (err error) {
	handle, err := keyset.NewHandle(aead.XChaCha20Poly1305KeyTemplate())
	if err != nil {
		return err
	}
	text, err := formatKeyset(handle)
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".key-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, os.Remove(file.Name()))
	}()
	_, err = file.Write(text)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	// A link, unlike a rename, replaces nothing.
	if err := os.Link(file.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncFolder(path)
}

// syncFolder makes the name of a file as durable as its contents.
func syncFolder(path string) error {
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

func formatKeyset(handle *keyset.Handle) ([]byte, error) {
	var text bytes.Buffer
	err := insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(&text))
	return text.Bytes(), err
}

// keyring is a keyset that was read.
type keyring struct {
	handle  *keyset.Handle
	aead    tink.AEAD
	primary uint32   // id of the key that seals
	enabled []uint32 // ids of the keys that open
}

// parseKeyset returns no cause with its error: it could quote the key.
func parseKeyset(text string) (*keyring, error) {
	if strings.TrimSpace(text) == "" {
		return nil, errKeyEmpty
	}
	var value json.RawMessage
	if err := json.NewDecoder(strings.NewReader(text)).Decode(&value); errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, errKeyTruncated
	}
	parsed, err := keyset.NewJSONReader(strings.NewReader(text)).Read()
	if err != nil || len(parsed.GetKey()) == 0 {
		return nil, errNotKeyset
	}
	ring := &keyring{primary: parsed.GetPrimaryKeyId()}
	for _, key := range parsed.GetKey() {
		if key.GetStatus() != tinkpb.KeyStatusType_ENABLED {
			continue
		}
		if key.GetOutputPrefixType() != tinkpb.OutputPrefixType_TINK {
			return nil, errNotPrefixed
		}
		ring.enabled = append(ring.enabled, key.GetKeyId())
	}
	if !slices.Contains(ring.enabled, ring.primary) {
		return nil, errNoPrimary
	}
	if ring.handle, err = insecurecleartextkeyset.Read(keyset.NewJSONReader(strings.NewReader(text))); err != nil {
		return nil, errNotKeyset
	}
	if ring.aead, err = aead.New(ring.handle); err != nil {
		return nil, errNotAEAD
	}
	return ring, nil
}
