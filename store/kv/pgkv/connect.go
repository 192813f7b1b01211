package pgkv

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/scenarioblocks/zendeskblocks/store/kv"
	"github.com/scenarioblocks/zendeskblocks/store/trustedfile"
)

// Connections are bounded: a database does the same work faster with few. Views hold one each while they run, and leave those
// for commits alone, however many there are at a time.
const (
	committers     = 4
	fetchers       = 2
	maxViews       = 4
	maxConnections = committers + fetchers + maxViews + 2 // others tell, look and sweep
)

const (
	// connectTime is how long connecting to one host may take, where the URL does not say.
	connectTime = 3 * time.Second
	// answerTime is how long an answer is waited for. A connection on which none comes is given up: where the database hung, and
	// the connections that it had are dead, all goes on soon after its return.
	answerTime = 4 * time.Second
)

// network is how the database is reached.
type network struct {
	config       *pgxpool.Config
	passwordFile string

	mu       sync.Mutex
	resolved map[string][]string // addresses of hosts, by their names
	last     string              // address of the last connection
}

// newNetwork reads a configuration, and sets what the engine relies on.
func newNetwork(c Config) (*network, error) {
	config, err := pgxpool.ParseConfig(c.URL)
	if err != nil {
		return nil, fmt.Errorf("address of the database: %w", err) // pgx leaves the password out
	}
	n := &network{config: config, passwordFile: c.PasswordFile, resolved: make(map[string][]string)}
	if _, err := n.password(); err != nil {
		return nil, err
	}
	config.MaxConns = maxConnections
	config.MaxConnIdleTime = 5 * time.Minute
	config.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return false } // what is broken shows when it is used
	config.BeforeConnect = n.prepare
	config.BeforeClose = func(conn *pgx.Conn) {
		if conn.IsClosed() { // for a fault: its place is free at once
			_ = conn.PgConn().Conn().Close()
		}
	}
	connection := config.ConnConfig
	connection.ConnectTimeout = cmp.Or(connection.ConnectTimeout, connectTime)
	if connection.ValidateConnect == nil {
		connection.ValidateConnect = writable
	}
	dialer := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3}}
	connection.DialFunc = dialer.DialContext
	connection.OnNotice = func(conn *pgconn.PgConn, notice *pgconn.Notice) {
		if notice.SeverityUnlocalized == "WARNING" {
			conn.CustomData()[warned] = true
		}
	}
	connection.RuntimeParams["application_name"] = cmp.Or(connection.RuntimeParams["application_name"], "zendeskblocks")
	return n, nil
}

// settings are those of each session. They are not sent as it begins: PgBouncer takes few that way.
//
// A statement is planned once for a connection, maybe while there is next to nothing in the table: a plan that reads all of it would stay
// while it grows. A plan that has no way around that counts as so dear that compiling it would seem to pay.
const settings = `
SET synchronous_commit = on;
SET default_transaction_isolation = 'read committed';
SET lock_timeout = '2s';
SET statement_timeout = '30s';
SET idle_in_transaction_session_timeout = '60s';
SET enable_seqscan = off;
SET jit = off`

// password is what the file says now. As with key files, root may be given a service's.
func (n *network) password() (string, error) {
	if n.passwordFile == "" {
		return "", nil
	}
	content, err := trustedfile.Read(n.passwordFile, trustedfile.Rule{Secret: true, AnyOwner: os.Geteuid() == 0})
	if err != nil {
		return "", fmt.Errorf("password file %q %w", n.passwordFile, err)
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(content), "\n"), "\r"), nil
}

// prepare is called before each connection is made.
func (n *network) prepare(_ context.Context, c *pgx.ConnConfig) error {
	if n.passwordFile != "" {
		password, err := n.password()
		if err != nil {
			return err
		}
		c.Password = password
	}
	n.preferLast(&c.Config)
	lookUp, dial := c.LookupFunc, c.DialFunc
	c.LookupFunc = func(ctx context.Context, host string) ([]string, error) {
		found, err := lookUp(ctx, host)
		if err == nil {
			n.mu.Lock()
			n.resolved[host] = found
			n.mu.Unlock()
		}
		return found, err
	}
	var connected atomic.Bool
	var dialed string
	c.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		if connected.Load() {
			return nil, errNoCancel
		}
		dialed = address
		return dial(ctx, network, address)
	}
	c.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		if err := conn.Exec(ctx, settings).Close(); err != nil {
			return err
		}
		connected.Store(true)
		n.mu.Lock()
		n.last = dialed
		n.mu.Unlock()
		return nil
	}
	return nil
}

// errNoCancel keeps pgx from asking the server to cancel what is given up. A commit that waits for a standby would end its wait,
// and be seen by all before it is safe.
var errNoCancel = errors.New("statements are not cancelled")

// preferLast has the host tried first to which the last connection was made: one before it that is dead would cost each
// connection the time to connect.
func (n *network) preferLast(c *pgconn.Config) {
	n.mu.Lock()
	defer n.mu.Unlock()
	hosts := slices.Concat([]*pgconn.FallbackConfig{{Host: c.Host, Port: c.Port, TLSConfig: c.TLSConfig}}, c.Fallbacks)
	isLast := func(host *pgconn.FallbackConfig) bool {
		if _, address := pgconn.NetworkAddress(host.Host, host.Port); address == n.last {
			return true
		}
		return slices.ContainsFunc(n.resolved[host.Host], func(ip string) bool {
			return net.JoinHostPort(ip, strconv.Itoa(int(host.Port))) == n.last
		})
	}
	slices.SortStableFunc(hosts, func(a, b *pgconn.FallbackConfig) int {
		switch {
		case isLast(a) == isLast(b):
			return 0
		case isLast(a):
			return -1
		default:
			return 1
		}
	})
	c.Host, c.Port, c.TLSConfig, c.Fallbacks = hosts[0].Host, hosts[0].Port, hosts[0].TLSConfig, hosts[1:]
}

// connect makes a connection beside the pool.
func (n *network) connect(ctx context.Context) (*pgx.Conn, error) {
	c := n.config.ConnConfig.Copy()
	if err := n.prepare(ctx, c); err != nil {
		return nil, err
	}
	return pgx.ConnectConfig(ctx, c)
}

// writable refuses a server that cannot be written, such as a standby: of several hosts the next one is tried then.
func writable(ctx context.Context, conn *pgconn.PgConn) error {
	return pgconn.ValidateConnectTargetSessionAttrsReadWrite(ctx, conn)
}

// ask runs what only reads on a connection; and again on a new one, where that had broken unnoticed.
func (d *DB) ask(ctx context.Context, fn func(context.Context, *pgxpool.Conn) error) error {
	limited, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	for again := true; ; again = false {
		conn, err := d.pool.Acquire(limited)
		if err != nil {
			return err
		}
		err = fn(limited, conn)
		conn.Release()
		if err == nil || !d.drop(ctx, err) || !again || limited.Err() != nil {
			return err
		}
	}
}

// drop has connections replaced after an error that says that they lead nowhere any more: the server has gone, does not answer,
// or can no longer be written. It tells whether it is one. That a caller waits no longer says nothing about the server.
func (d *DB) drop(ctx context.Context, err error) bool {
	if ctx.Err() != nil || answered(err) && !readOnly(err) {
		return false
	}
	d.dropped.Add(1)
	d.pool.Reset()
	return true
}

// warned marks a connection on which a warning has come. On a commit, it may be that the wait for a standby was cancelled: the
// server takes that for success.
// https://www.postgresql.org/docs/current/runtime-config-wal.html#GUC-SYNCHRONOUS-COMMIT
const warned = "warned"

// commitBatch commits a batch of statements as one transaction. Success means that it is as safe as it is to be.
func (d *DB) commitBatch(batch *pgx.Batch) error {
	ctx, cancel := context.WithTimeout(d.ctx, answerTime)
	defer cancel()
	conn, err := d.pool.Acquire(ctx)
	if err != nil {
		return &unsentError{err}
	}
	defer conn.Release()
	marks := conn.Conn().PgConn().CustomData()
	delete(marks, warned)
	err = conn.SendBatch(ctx, batch).Close()
	switch {
	case err != nil:
		d.drop(d.ctx, err)
	case marks[warned] != nil:
		return errUnsafe
	}
	return err
}

var errUnsafe = errors.New("the commit may not have reached the standby")

// answered tells the errors by which the server itself says that a transaction was not made. A session that it ends may have
// ended within the commit.
func answered(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && e.SeverityUnlocalized == "ERROR"
}

// isCode says whether an error is of one of the server's codes: https://www.postgresql.org/docs/current/errcodes-appendix.html
func isCode(err error, codes ...string) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && slices.Contains(codes, e.Code)
}

// readOnly tells read_only_sql_transaction.
func readOnly(err error) bool { return isCode(err, "25006") }

// unavailable is the error for a database that cannot be asked; or that of the caller's context, if it has ended.
func unavailable(ctx context.Context, err error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return fmt.Errorf("%w: %v", kv.ErrUnavailable, err) //nolint:errorlint // a deadline in it is none of the caller's
}

// Standby returns nil when commits wait for a standby that follows, and else says in a sentence why they do not, or wait for
// nothing. Where the role may not see the standbys (pg_monitor may), that one is asked for has to do.
func (d *DB) Standby(ctx context.Context) error {
	const question = `SELECT current_setting('synchronous_standby_names') <> '', count(*), count(state), count(*) FILTER (WHERE sync_state IN ('sync', 'quorum') AND state = 'streaming')
FROM pg_stat_replication`
	var asked bool
	var all, seen, following int
	err := d.ask(ctx, func(ctx context.Context, conn *pgxpool.Conn) error {
		return conn.QueryRow(ctx, question).Scan(&asked, &all, &seen, &following)
	})
	switch {
	case err != nil:
		return unavailable(ctx, err)
	case !asked:
		return errors.New("commits of the database wait for no standby: synchronous_standby_names is empty")
	case following == 0 && (all == 0 || seen > 0):
		return errors.New("commits of the database wait for a standby, and none follows")
	}
	return nil
}
