package web

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

func TestAnswered(t *testing.T) {
	var told []string
	var log bytes.Buffer
	routes := http.NewServeMux()
	routes.HandleFunc("GET /accounts/{id}", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("id") == "streamed" {
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
			return
		}
		w.WriteHeader(http.StatusTeapot)
	})
	handler := answered(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})), func(route string, status int) {
		told = append(told, route+" "+http.StatusText(status))
	}, routes)
	for _, path := range []string{"/accounts/secret-name", "/accounts/streamed", "/nowhere"} {
		handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, path, nil))
	}
	if want := []string{"GET /accounts/{id} I'm a teapot", "GET /accounts/{id} OK", "none Not Found"}; !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
	if lines := log.String(); strings.Count(lines, "\n") != 3 || strings.Contains(lines, "secret") {
		t.Errorf("the log has %s", lines)
	}
}
