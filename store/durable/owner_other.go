//go:build !unix

package durable

import (
	"io/fs"
	"os"
)

// keepOwner does nothing: the folder decides who may read its files.
func keepOwner(*os.File, fs.FileInfo) error { return nil }
