package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/timestamppb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
)

type usageCommand struct {
	JSON        bool `help:"The reply as one JSON object."`
	clientFlags `embed:"" group:"Server:"`
}

// Run shows what the tenant has and may have.
func (c *usageCommand) Run(ctx context.Context, p *process) (err error) {
	conn, err := c.connect(p.env)
	if err != nil {
		return err
	}
	defer conn.close(&err)
	reply, err := ask(ctx, conn, zendeskv1.NewOperationsServiceClient(conn).GetUsage, &zendeskv1.GetUsageRequest{})
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(p.stdout, reply)
	}
	has, may := reply.GetUsage(), reply.GetQuota()
	out := &listing{w: p.stdout, header: []string{"WHAT", "HAS", "MAY HAVE"}}
	for _, row := range []struct {
		what     string
		has, may int64
		word     func(int64) string
	}{
		{"accounts", has.GetAccounts(), may.GetAccounts(), count},
		{"interactions that are active", has.GetLiveInteractions(), may.GetLiveInteractions(), count},
		{"activities that are pending", has.GetPendingActivities(), may.GetPendingActivities(), count},
		{"activities that are dead", has.GetDeadActivities(), 0, count},
		{"stored", has.GetStoredBytes(), may.GetStoredBytes(), bytesWords},
	} {
		allowed := "any"
		if row.may > 0 {
			allowed = row.word(row.may)
		}
		if err := out.item(nil, row.what, row.word(row.has), allowed); err != nil {
			return err
		}
	}
	if err := out.table(); err != nil {
		return err
	}
	return out.say("%s", countedWords(reply.GetCountTime(), time.Now()))
}

// countedWords says how far the numbers of a usage can be relied on.
func countedWords(at *timestamppb.Timestamp, now time.Time) string {
	if at == nil {
		return "Not counted since the start."
	}
	return fmt.Sprintf("Counted %s.", ago(at, now))
}

func count(n int64) string { return fmt.Sprint(n) }

type tenantsCommand struct {
	JSON        bool `help:"One JSON object for each tenant, as the API has it."`
	clientFlags `embed:"" group:"Server:"`
}

// Run lists the tenants.
func (c *tenantsCommand) Run(ctx context.Context, p *process) (err error) {
	conn, err := c.connect(p.env)
	if err != nil {
		return err
	}
	defer conn.close(&err)
	out := &listing{w: p.stdout, json: c.JSON, header: []string{"TENANT", "ACCOUNTS", "INTERACTIONS", "PENDING", "DEAD", "STORED"}}
	listed := 0
	err = pages(ctx, conn, zendeskv1.NewOperationsServiceClient(conn).ListTenants, &zendeskv1.ListTenantsRequest{PageSize: 1000},
		func(page *zendeskv1.ListTenantsResponse) (bool, error) {
			for _, t := range page.GetTenants() {
				u := t.GetUsage()
				listed++
				if err := out.item(t, t.GetTenant(), count(u.GetAccounts()), count(u.GetLiveInteractions()), count(u.GetPendingActivities()),
					count(u.GetDeadActivities()), bytesWords(u.GetStoredBytes())); err != nil {
					return false, err
				}
			}
			return true, nil
		})
	if err != nil {
		return err
	}
	return errors.Join(out.table(), out.say("Tenants: %d", listed))
}

// services are the names that health is asked for: that of each service, and the empty one of the whole.
var services = []string{
	"", zendeskv1.AccountService_ServiceDesc.ServiceName, zendeskv1.BlockService_ServiceDesc.ServiceName,
	zendeskv1.InteractionService_ServiceDesc.ServiceName, zendeskv1.OperationsService_ServiceDesc.ServiceName,
}

type healthCommand struct {
	JSON        bool `help:"One JSON object for each service."`
	serverFlags `embed:"" group:"Server:"`
}

// Help is what --help adds.
func (healthCommand) Help() string {
	return `It exits 1 unless all are SERVING, and needs no credential: a container's probe.`
}

// Run asks the standard health service.
func (c *healthCommand) Run(ctx context.Context, p *process) (err error) {
	opened, err := c.dial()
	if err != nil {
		return err
	}
	conn := &connection{opened, &c.serverFlags}
	defer conn.close(&err)
	out := &listing{w: p.stdout, json: c.JSON, header: []string{"SERVICE", "HEALTH"}}
	var ill []string
	for _, service := range services {
		status, err := healthOf(ctx, conn, service)
		if err != nil {
			return err
		}
		name := service[strings.LastIndexByte(service, '.')+1:]
		if name == "" {
			name = "all"
		}
		if c.JSON {
			_, err = fmt.Fprintf(p.stdout, "{\"service\":%q,\"status\":%q}\n", service, status)
		} else {
			err = out.item(nil, name, status)
		}
		if err != nil {
			return err
		}
		if status != healthv1.HealthCheckResponse_SERVING.String() {
			ill = append(ill, name)
		}
	}
	if err := out.table(); err != nil {
		return err
	}
	if len(ill) > 0 {
		return fmt.Errorf("not SERVING: %s", strings.Join(ill, ", "))
	}
	return nil
}

// healthOf asks for one service. One that the server does not know is SERVICE_UNKNOWN, as a watch says.
func healthOf(ctx context.Context, conn *connection, service string) (string, error) {
	reply, err := ask(ctx, conn, healthv1.NewHealthClient(conn).Check, &healthv1.HealthCheckRequest{Service: service})
	if failed, ok := errors.AsType[*callError](err); ok && failed.single() {
		return healthv1.HealthCheckResponse_SERVICE_UNKNOWN.String(), nil
	}
	return reply.GetStatus().String(), err
}
