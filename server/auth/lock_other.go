//go:build !unix || aix || solaris

package auth

import (
	"io/fs"
	"os"
)

// lockFile does nothing: of two commands that change a token file at the same time, one may undo what the other did.
func lockFile(*os.File) error { return nil }

func keepOwner(*os.File, fs.FileInfo) error { return nil }
