package server

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
	"github.com/scenarioblocks/zendeskblocks/server/auth"
	"github.com/scenarioblocks/zendeskblocks/server/readiness"
	"github.com/scenarioblocks/zendeskblocks/zendeskapi"
)

// Health says of each service what all checks of readiness say together, to who asks and to who watches.
func TestHealthFollowsReadiness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s := openSick(t)
		ready := readiness.New()
		b := serveBubble(t, Config{Store: s, Ready: ready}, auth.Config{})
		conn := b.client(t)
		client := healthv1.NewHealthClient(conn)
		watch, err := client.Watch(t.Context(), &healthv1.HealthCheckRequest{})
		must(t, err)
		synctest.Wait()
		mustBe := func(why string, want healthv1.HealthCheckResponse_ServingStatus) {
			t.Helper()
			for _, service := range []string{
				"", zendeskv1.AccountService_ServiceDesc.ServiceName, zendeskv1.BlockService_ServiceDesc.ServiceName,
				zendeskv1.InteractionService_ServiceDesc.ServiceName, zendeskv1.OperationsService_ServiceDesc.ServiceName,
				healthv1.Health_ServiceDesc.ServiceName,
			} {
				resp, err := client.Check(t.Context(), &healthv1.HealthCheckRequest{Service: service})
				if err != nil || resp.GetStatus() != want {
					t.Errorf("%s, health of %q is %v, %v", why, service, resp.GetStatus(), err)
				}
			}
			list, err := client.List(t.Context(), &healthv1.HealthListRequest{})
			must(t, err)
			for service, resp := range list.GetStatuses() {
				if resp.GetStatus() != want {
					t.Errorf("%s, the list has %v of %q", why, resp.GetStatus(), service)
				}
			}
			seen, err := watch.Recv()
			if err != nil || seen.GetStatus() != want {
				t.Errorf("%s, who watches sees %v, %v", why, seen.GetStatus(), err)
			}
		}
		mustBe("at first", healthv1.HealthCheckResponse_SERVING)
		for _, check := range ready.Checks() {
			ready.Set(check.Name, errors.New("lacking"))
			mustBe("without "+check.Name, healthv1.HealthCheckResponse_NOT_SERVING)
			ready.Set(check.Name, nil)
			mustBe("with "+check.Name, healthv1.HealthCheckResponse_SERVING)
		}
		must(t, conn.Close())
		b.end(t)
	})
}

// What has been lacking is asked for again, so that it is known when it is there.
func TestKeysAreLookedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s := openSick(t)
		ready := readiness.New()
		b := serveBubble(t, Config{Store: s, Ready: ready}, auth.Config{})
		synctest.Wait()
		ready.Set(readiness.Keys, errors.New("lacking"))
		time.Sleep(keysEvery + time.Millisecond)
		synctest.Wait()
		if !ready.Ready() {
			t.Errorf("the checks are %v", ready.Checks())
		}
		b.end(t)
	})
}

// A drain is told first, and is no reason to start again.
func TestReadinessOfADrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s := openSick(t)
		ready := readiness.New()
		b := serveBubble(t, Config{Store: s, Ready: ready, DrainDelay: time.Hour}, auth.Config{})
		conn := b.client(t)
		if health, err := checkHealth(t, conn); err != nil || health != healthv1.HealthCheckResponse_SERVING {
			t.Errorf("health is %v, %v", health, err)
		}
		b.stop()
		time.Sleep(time.Hour - time.Second)
		synctest.Wait()
		for _, check := range ready.Checks() {
			if (check.Err != nil) != (check.Name == readiness.Drain) {
				t.Errorf("while it drains, %s: %v", check.Name, check.Err)
			}
		}
		if health, err := checkHealth(t, conn); err != nil || health != healthv1.HealthCheckResponse_NOT_SERVING {
			t.Errorf("while it drains health is %v, %v", health, err)
		}
		must(t, conn.Close())
		b.end(t)
	})
}

// What writes activities makes its rounds also when there is nothing to write; that it does not is found out.
func TestWriterStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s := openSick(t)
		ready := readiness.New()
		b := serveBubble(t, Config{Store: s, Ready: ready}, auth.Config{})
		time.Sleep(time.Hour)
		synctest.Wait()
		if !ready.Ready() {
			t.Errorf("after an hour the checks are %v", ready.Checks())
		}
		transport, err := zendeskapi.NewTransport(zendeskapi.TransportConfig{})
		must(t, err)
		idle, err := New(Config{Store: s, Auth: b.config.Auth, Transport: transport, Log: slog.New(slog.DiscardHandler)})
		must(t, err)
		time.Sleep(stalledAfter)
		if err := idle.writerStalled(t.Context()); err != nil {
			t.Errorf("after %s: %v", stalledAfter, err)
		}
		time.Sleep(time.Second)
		if err := idle.writerStalled(t.Context()); err == nil || !strings.Contains(err.Error(), "1m1s") {
			t.Errorf("a second later: %v", err)
		}
		drained, drain := context.WithCancel(t.Context())
		drain()
		if err := idle.writerStalled(drained); err != nil {
			t.Errorf("while it drains: %v", err)
		}
		if idle.noWrites = true; idle.writerStalled(t.Context()) != nil {
			t.Error("a service that writes nothing is taken for one that hangs")
		}
		b.end(t)
	})
}
