package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/scenarioblocks/zendeskblocks/server/admin"
)

// adminFlags say where those are answered who run the service.
type adminFlags struct {
	AdminListen string `help:"Address to serve probes, metrics and the log's level on, in plain HTTP and without a credential, for the inside of a machine or cluster; empty or off: not at all." default:"127.0.0.1:50052" placeholder:"HOST:PORT"`
	AdminDebug  bool   `help:"Serve profiles and gRPC's connections there too, and let whoever reaches it set the log's level."`
}

// off is what says in a variable that there is no listener: one that is empty is taken for one that is not set.
const off = "off"

func (f *adminFlags) isOff() bool { return f.AdminListen == "" || f.AdminListen == off }

func (f *adminFlags) problems() (problems []error) {
	if _, _, err := net.SplitHostPort(f.AdminListen); err != nil && !f.isOff() {
		problems = append(problems, fmt.Errorf("--admin-listen must be HOST:PORT, or off: %w", err))
	}
	return problems
}

// listeners are the sockets of a process: for the API, and for browsers and those who run it, which may be nil.
type listeners struct{ api, web, admin net.Listener }

// listen opens what the flags say. Its error tells of all that cannot be opened.
func (c *serveCommand) listen(ctx context.Context) (l listeners, err error) {
	open := func(flag, address string) net.Listener {
		opened, openErr := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
		if openErr != nil {
			err = errors.Join(err, fmt.Errorf("--%s: %w", flag, openErr))
			return nil
		}
		return opened
	}
	l.api = open("listen", c.Listen)
	if address := c.webAddress(c.Sandbox); address != "" {
		l.web = open("web-listen", address)
	}
	if !c.isOff() {
		l.admin = open("admin-listen", c.AdminListen)
	}
	if err != nil {
		l.close()
		return listeners{}, err
	}
	return l, nil
}

func (l *listeners) close() {
	for _, opened := range []net.Listener{l.api, l.web, l.admin} {
		if opened != nil {
			_ = opened.Close() // nothing was served on it
		}
	}
}

// lastProbeTime is how long the last who ask may take to be answered.
const lastProbeTime = time.Second

// serveAdmin answers those who run the service, from before the data file is opened until the function that it returns is
// called. Without a listener it does nothing.
func serveAdmin(l net.Listener, config admin.Config) (stop func()) {
	if l == nil {
		return func() {}
	}
	s, done := admin.New(config), make(chan struct{})
	config.Log.Info("serving probes and metrics", "admin_address", l.Addr().String())
	if config.Debug && !onLoopback(l.Addr().String()) {
		config.Log.Warn("whoever reaches the address of probes may take profiles, and set the log's level", "admin_address", l.Addr().String())
	}
	go func() {
		defer close(done)
		if err := s.Serve(l); err != nil { // calls go on
			config.Log.Error("probes and metrics are not served any more", "error", err)
		}
	}()
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), lastProbeTime)
		defer cancel()
		_ = s.Close(ctx) // nobody is left to tell
		<-done
	}
}
