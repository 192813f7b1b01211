package main

import (
	"errors"

	"github.com/scenarioblocks/zendeskblocks/server/metrics"
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

func (f *metricsFlags) metrics() *metrics.Metrics {
	return metrics.New(metrics.Config{Accounts: f.MetricsAccounts, Version: version()})
}
