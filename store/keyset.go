package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// What is wrong with a key.
var (
	errKeyMissing = errors.New("it is missing, and the data file, which is there, cannot be read without it")
	errKeyExposed = errors.New("everyone can read or write it; it should have mode 0600")
	errNotKeyset  = errors.New("not a Tink keyset for AEAD in JSON, or damaged")
)

// readKeyFile returns the text of a key file. It makes one when there is no data file either.
func readKeyFile(path, dataPath string, log *slog.Logger) (string, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(dataPath); err == nil {
			return "", errKeyMissing
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		if err := makeKeyFile(path); err != nil {
			return "", fmt.Errorf("making it: %w", err)
		}
		if log != nil {
			log.Info("made a key file; back it up: the data cannot be read without it", "key_file", path, "data_file", dataPath)
		}
	} else if err != nil {
		return "", err
	} else if info.Mode().Perm()&0o007 != 0 {
		return "", errKeyExposed
	}
	text, err := os.ReadFile(path)
	return string(text), err
}

// makeKeyFile makes a key file that is whole and durable from the moment it has its name. When another process was
// faster, its file stands.
func makeKeyFile(path string) (err error) {
	handle, err := keyset.NewHandle(aead.XChaCha20Poly1305KeyTemplate())
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if err := insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(&text)); err != nil {
		return err
	}
	folder := filepath.Dir(path)
	file, err := os.CreateTemp(folder, ".key-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, os.Remove(file.Name()))
	}()
	_, err = file.Write(text.Bytes())
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	// A link, unlike a rename, replaces nothing.
	if err := os.Link(file.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	dir, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// parseKeyset returns no cause with its error: it could quote the key.
func parseKeyset(text string) (tink.AEAD, error) {
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(strings.NewReader(text)))
	if err != nil {
		return nil, errNotKeyset
	}
	primitive, err := aead.New(handle)
	if err != nil {
		return nil, errNotKeyset
	}
	return primitive, nil
}
