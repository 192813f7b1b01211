package main

import (
	"errors"

	"github.com/scenarioblocks/zendeskblocks/server/metrics"
	"github.com/scenarioblocks/zendeskblocks/server/readiness"
)

// metricsFlags say how much metrics tell.
type metricsFlags struct {
	MetricsAccounts int `help:"How many accounts have series of their own in the metrics, and how many tenants and Zendesks, the first that appear; all others together are one. 0: none has." default:"100" placeholder:"NUMBER"`
}

func (f *metricsFlags) problems() []error {
	if f.MetricsAccounts < 0 {
		return []error{errors.New("--metrics-accounts must not be less than 0")}
	}
	return nil
}

// watched is what those who run a process see of it.
type watched struct {
	ready   *readiness.Registry
	metrics *metrics.Metrics
}

func (f *metricsFlags) watched() watched {
	ready, built := readiness.New(), buildInfo()
	return watched{ready, metrics.New(metrics.Config{
		Accounts: f.MetricsAccounts, Version: built.Version, Commit: built.Commit, Date: built.Date,
		Ready: func() map[string]bool {
			passes := make(map[string]bool)
			for _, check := range ready.Checks() {
				passes[check.Name] = check.Err == nil
			}
			return passes
		},
	})}
}
