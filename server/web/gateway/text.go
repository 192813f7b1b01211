package gateway

import (
	"bytes"
	"encoding/base64"
	"io"
	"net/http"
	"strings"
)

// GRPC-Web's text is the same messages in base64, for browsers that show an answer in parts only as text. It may be put together of pieces
// that are padded each. https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md

// fromText decodes a request, in place.
func fromText(text []byte) ([]byte, error) {
	data := text[:0]
	for len(text) > 0 {
		piece := len(text)
		if pad := bytes.IndexByte(text, '='); pad >= 0 {
			piece = min(pad+4-pad%4, len(text))
		}
		n, err := base64.StdEncoding.Decode(data[len(data):cap(data)][:piece], text[:piece])
		if err != nil {
			return nil, malformed("is no base64", err)
		}
		data, text = data[:len(data)+n], text[piece:]
	}
	return data, nil
}

// textWriter encodes an answer. What was written is padded when it is flushed.
type textWriter struct {
	*writer
	encoder io.WriteCloser
}

func newTextWriter(w *writer) *textWriter {
	t := &textWriter{writer: w}
	t.encoder = base64.NewEncoder(base64.StdEncoding, w)
	return t
}

// WriteHeader implements http.ResponseWriter.
func (t *textWriter) WriteHeader(status int) {
	if rest, ok := strings.CutPrefix(t.Header().Get("Content-Type"), "application/grpc-web"); ok {
		t.Header().Set("Content-Type", "application/grpc-web-text"+rest)
	}
	t.writer.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (t *textWriter) Write(p []byte) (int, error) { return t.encoder.Write(p) }

// Flush implements http.Flusher.
func (t *textWriter) Flush() {
	t.end()
	t.encoder = base64.NewEncoder(base64.StdEncoding, t.writer)
	t.writer.Flush()
}

// end pads what was written.
func (t *textWriter) end() { _ = t.encoder.Close() } // its error is that of the connection

// Unwrap hides what is below: who flushes it does not pad.
func (t *textWriter) Unwrap() http.ResponseWriter { return nil }
