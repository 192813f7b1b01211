package pages

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"net/http"
	"path"
)

//go:embed static
var staticFiles embed.FS

// staticPath is the address of a file below static. It changes with the file, so that browsers may keep it.
func staticPath(name string) string {
	content, err := staticFiles.ReadFile(path.Join("static", name))
	if err != nil {
		return "/static/" + name
	}
	digest := sha256.Sum256(content)
	return "/static/" + name + "?v=" + hex.EncodeToString(digest[:6])
}

func serveStatic() http.Handler {
	files := http.FileServerFS(staticFiles)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("v") {
			w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
		}
		files.ServeHTTP(w, r)
	})
}
