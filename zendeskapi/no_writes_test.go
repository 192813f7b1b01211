package zendeskapi

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/scenarioblocks/zendeskblocks/store/secret"
)

// Where nothing is written, reads go through, and nothing else is sent: neither by a method of the client, nor for a token, nor
// by whoever has the pool of connections.
func TestNoWrites(t *testing.T) {
	var asked, wrote atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if !Reads(r.Method) {
			wrote.Add(1)
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"user":{"id":1,"role":"admin","email":"a@b.c"},"ticket":{"id":1,"status":"open","updated_at":"2026-01-01T00:00:00Z"}}`))
	}))
	t.Cleanup(server.Close)
	transport, err := NewTransport(TransportConfig{AllowHosts: []string{strings.TrimPrefix(server.URL, "http://")}, NoWrites: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(transport.Close)
	client, err := New(Config{
		Origin: server.URL, Tenant: "t", Account: "a", Credential: APITokenCredential("a@b.c", secret.New("token")), Transport: transport,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if _, err := client.Me(ctx); err != nil || asked.Load() != 1 {
		t.Errorf("a read: %v, and %d were sent", err, asked.Load())
	}
	for name, write := range map[string]func(context.Context) error{
		"UpdateTicket": func(ctx context.Context) error {
			_, err := client.UpdateTicket(ctx, "1", TicketUpdate{Comment: "x"})
			return err
		},
		"CreateTicket": func(ctx context.Context) error {
			_, err := client.CreateTicket(ctx, TicketCreate{Subject: "x", Comment: "x"}, "key")
			return err
		},
		"DisplayTicket": func(ctx context.Context) error { return client.DisplayTicket(ctx, "1", "1") },
		"RequestToken": func(ctx context.Context) error {
			_, err := client.RequestToken(ctx, TokenRequest{ClientID: "x", ClientSecret: secret.New("y"), Grant: RefreshTokenGrant(secret.New("z"))})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := write(ctx)
			api, ok := errors.AsType[*Error](err)
			if !ok || api.Kind != NoWrites || !api.Unsent || api.Attempts != 0 || api.Unknown() {
				t.Errorf("error is %v: %+v", err, api)
			}
		})
	}
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, "ODD"} {
		req, err := http.NewRequestWithContext(ctx, method, server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		if res, err := transport.client.Do(req); !errors.Is(err, errNoWrites) {
			if err == nil {
				_ = res.Body.Close()
			}
			t.Errorf("%s: %v", method, err)
		}
	}
	if wrote.Load() != 0 {
		t.Errorf("%d requests were sent that write", wrote.Load())
	}
}
