package main

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/store/kv/pgkv/pgtest"
)

func TestWithoutPassword(t *testing.T) {
	for _, test := range []struct {
		where, shown string
		had, fails   bool
	}{
		{"", "", false, false},
		{"bolt:data.db", "bolt:data.db", false, false},
		{"bolt:a=b://c@d", "bolt:a=b://c@d", false, false},
		{"bolt:", "", false, true},
		{"data.db", "", false, true},
		{"mysql://host/db", "", false, true},
		{"postgres://", "postgres://", false, false},
		{"postgres://db.example/data", "postgres://db.example/data", false, false},
		{"postgresql://u@a:5432,b:5433/data?sslmode=verify-full&sslrootcert=/etc/ca", "postgresql://u@a:5432,b:5433/data?sslmode=verify-full&sslrootcert=/etc/ca", false, false},
		{"postgres://u:SECRET@a/data", "postgres://u@a/data", true, false},
		{"postgres://u:@a/data", "postgres://u@a/data", true, false},
		{"postgres://u:SEC?RET@a/data?x=y", "postgres://u@a/data?x=y", true, false},
		{"postgres://a/data?password=SECRET&user=u", "postgres://a/data?user=u", true, false},
		{"postgres://a/data?pass%77ord=SECRET", "postgres://a/data", true, false},
		{"postgres://a/data?sslpassword=SECRET", "postgres://a/data", true, false},
		{"postgres://a/data?application_name=x@y", "postgres://a/data?application_name=x@y", false, false},
		{"postgres://u:SEC/RET@a/data", "", false, true},
		{"postgres://a/data?port=5432 password=SECRET", "", false, true},
		{"postgres://u@[::1]:5432/data", "postgres://u@[::1]:5432/data", false, false},
		{"host=a dbname=data user=u", "host=a dbname=data user=u", false, false},
		{" host = a  dbname = 'my data' ", "host=a dbname='my data'", false, false},
		{"host=a password=SECRET dbname=data", "host=a dbname=data", true, false},
		{`password = 'SEC \' RET' host=a`, "host=a", true, false},
		{`password=SEC\ RET host=a`, "host=a", true, false},
		{"sslpassword=SECRET host=a", "host=a", true, false},
		{"application_name='a password=b' host=a", "application_name='a password=b' host=a", false, false},
		{"host='a", "", false, true},
		{`host='a\`, "", false, true},
		{"host=a SECRET", "", false, true},
		{"host dbname=data", "", false, true},
		{"=x", "", false, true},
	} {
		where := whereabouts(test.where)
		shown, had, err := where.withoutPassword()
		if shown != test.shown || had != test.had || (err != nil) != test.fails {
			t.Errorf("%q: %q, %t, %v", test.where, shown, had, err)
		}
		if err != nil && (strings.Contains(err.Error(), "SECRET") || strings.Contains(where.String(), "SECRET")) {
			t.Errorf("%q: it is shown: %v, %s", test.where, err, where)
		}
		// What is left is the same place to those who connect.
		if whole, wholeErr := pgconn.ParseConfig(test.where); where.inDatabase() && err == nil && wholeErr == nil {
			left, err := pgconn.ParseConfig(shown)
			must(t, err)
			if left.Host != whole.Host || left.Port != whole.Port || left.Database != whole.Database || left.User != whole.User || len(left.Fallbacks) != len(whole.Fallbacks) {
				t.Errorf("%q became another place: %q", test.where, shown)
			}
			if test.had != (whole.Password != left.Password) && !strings.Contains(test.where, "ssl") && !strings.Contains(test.where, ":@") {
				t.Errorf("%q has the password %q, and %q the password %q", test.where, whole.Password, shown, left.Password)
			}
		}
	}
}

// What is wrong with where the data is said to be is told with all else, and no password is.
func TestProblemsOfStores(t *testing.T) {
	folder := t.TempDir()
	open := writeFile(t, filepath.Join(folder, "open"), "SECRET\n", 0o644)
	must(t, os.Chmod(open, 0o644))
	config := writeFile(t, filepath.Join(folder, "serve.yaml"), "store: postgres://u:SECRET@a/data\nkey-file: x\n", 0o600)
	const database = "postgres://u@127.0.0.1:1/data"
	for name, test := range map[string]struct {
		env   map[string]string
		args  []string
		named []string // one for each line
	}{
		"password on the command line": {nil, []string{"serve", "--store", "postgres://u:SECRET@a/data", "--key-file", "x"}, []string{"the variable ZENDESKBLOCKS_STORE"}},
		"password in a file":           {nil, []string{"serve", "--config", config}, []string{"serve.yaml:1: store has a password"}},
		"password to migrate":          {nil, []string{"migrate", "--store", "host=a password=SECRET"}, []string{"PGPASSWORD"}},
		"password to copy":             {nil, []string{"copy", "--from", "bolt:x", "--to", "postgres://u:SECRET@a/data"}, []string{"ZENDESKBLOCKS_TO"}},
		"both":                         {map[string]string{"ZENDESKBLOCKS_DATA": "x"}, []string{"serve", "--store", "bolt:y"}, []string{"(--store, ZENDESKBLOCKS_DATA)"}},
		"none of the forms":            {nil, []string{"serve", "--store", "SECRET"}, []string{"must be bolt:FILE"}},
		"a database as a file":         {nil, []string{"serve", "--data", database}, []string{"--store"}},
		"no key":                       {nil, []string{"serve", "--store", database}, []string{"--key-file is missing"}},
		"no key file to drop of":       {nil, []string{"keys", "drop", "--store", database, "--key", "1"}, []string{"--key-file is missing"}},
		"for databases": {nil, []string{"serve", "--require-synchronous-standby", "--store-password-file", open},
			[]string{"--require-synchronous-standby", "--store-password-file is for a database"}},
		"password file for all": {nil, []string{"migrate", "--store", database, "--store-password-file", open}, []string{open}},
		"a file is restored":    {nil, []string{"migrate", "--restored", "--data", "x"}, []string{"--data is a data file"}},
		"restored, and no key":  {nil, []string{"migrate", "--restored", "--store", database}, []string{"--key-file is missing"}},
		"compact":               {nil, []string{"compact", "--store", database}, []string{"VACUUM"}},
		"restore":               {nil, []string{"restore", "x", "--store", database}, []string{"pg_restore"}},
		"check":                 {nil, []string{"check", database}, []string{"pg_amcheck"}},
		"copy back":             {nil, []string{"copy", "--from", database, "--to", "bolt:x"}, []string{"--from bolt:FILE --to a database"}},
		"everything": {map[string]string{"ZENDESKBLOCKS_TIMEOUT": "0s"}, []string{"serve", "--store", "host=a password=SECRET", "--data", "x", "--bogus"},
			[]string{"--timeout", "password", "--store and --data", "--key-file is missing", "--bogus"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			stdout, stderr, err := runCommand(t, test.env, test.args...)
			told := reasons(err)
			if err == nil || stdout != "" || len(told) != len(test.named) || strings.Contains(stderr, "SECRET") {
				t.Errorf("%d problems, want %d:\n%s%s", len(told), len(test.named), stdout, stderr)
			}
			for _, part := range test.named {
				if !strings.Contains(stderr, part) {
					t.Errorf("no problem says %q:\n%s", part, stderr)
				}
			}
			if files := filesIn(t, "."); len(files) > 0 {
				t.Errorf("files were made: %v", files)
			}
		})
	}
}

// What serve would find at its start, serve --check finds: no database, none that is ready, a wrong key. The commands make a
// database ready, and a copy is served as the data file was.
func TestDatabaseCommands(t *testing.T) {
	database := pgtest.Start(t)
	url := database.URL(t, "data")
	folder := t.TempDir()
	key, other := filepath.Join(folder, "key"), filepath.Join(folder, "other")
	writeKey(t, key)
	writeKey(t, other)
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	nowhere := l.Addr().String()
	must(t, l.Close())
	t.Chdir(folder)
	check := func(url, key string) (stdout, stderr string, err error) {
		t.Helper()
		return runCheck(t, map[string]string{"ZENDESKBLOCKS_STORE": url}, "--listen", "127.0.0.1:0", "--key-file", key)
	}
	mustFail := func(what, url, key, says string) {
		t.Helper()
		if _, stderr, err := check(url, key); err == nil || !strings.Contains(stderr, says) || strings.Count(stderr, "\n") != 1 || strings.Contains(stderr, "SECRET") {
			t.Errorf("%s: %v\n%s", what, err, stderr)
		}
	}
	mustSay := func(says string, args ...string) {
		t.Helper()
		stdout, stderr, err := runCommand(t, nil, args...)
		if err != nil || !strings.Contains(stdout, says) || stderr != "" {
			t.Errorf("%q: %v\n%s%s", args, err, stdout, stderr)
		}
	}
	mustFail("away", "postgres://u:SECRET@"+nowhere+"/data", key, "(see --store and --key-file)")
	mustFail("no tables", url, key, "run migrate")
	mustSay("nothing to do", "migrate", "--data", "x.db")
	mustSay("Made the tables", "migrate", "--store", url)
	mustSay("already: nothing to do", "migrate", "--store", url)
	if stdout, stderr, err := check(url+"&password=SECRET", key); err != nil || stderr != "" || strings.Contains(stdout, "SECRET") || !strings.Contains(stdout, "store = "+url+"  (variable") {
		t.Errorf("ready: %v\n%s%s", err, stdout, stderr)
	}
	st, err := store.Open(t.Context(), store.Config{URL: url, KeyFile: key})
	must(t, err)
	must(t, st.UpdateInteraction(t.Context(), "default", "call", func(tx *store.InteractionTxn) error {
		_, err := tx.Complete(store.Activity{ID: "waits", State: store.ActivityPending, CreateTime: time.Now()})
		return err
	}))
	_, stderr, err := runCommand(t, nil, "migrate", "--restored", "--store", url, "--key-file", key)
	if err == nil || !strings.Contains(stderr, "a replica works on the data") {
		t.Errorf("it is marked as restored while a replica serves it: %v\n%s", err, stderr)
	}
	must(t, st.Close())
	mustSay("marked as a copy of the past", "migrate", "--restored", "--store", url, "--key-file", key)
	st, err = store.Open(t.Context(), store.Config{URL: url, KeyFile: key})
	must(t, err)
	if a, err := st.Activity(t.Context(), "default", "waits"); err != nil || !a.Restored {
		t.Errorf("what waits is looked for: %t, %v", a.Restored, err)
	}
	must(t, st.Close())
	mustFail("another key", url, other, "another key")

	// A key is added, promoted, and the old one dropped, which values were sealed with, when none are any more.
	old, _ := keyIDs(t, key)
	mustSay("seals nothing yet", "keys", "add", "--key-file", key)
	_, others := keyIDs(t, key)
	mustSay("is now the primary key", "keys", "promote", "--key-file", key, "--key", others[0])
	if primary, _ := keyIDs(t, key); len(others) != 1 || primary != others[0] {
		t.Errorf("%s is promoted, and %s is the primary key", others, primary)
	}
	if _, stderr, err := runCommand(t, nil, "keys", "drop", "--store", url, "--key-file", key, "--key", old); err == nil {
		t.Errorf("a key was dropped that values are sealed with: %s", stderr)
	}
	st, err = store.Open(t.Context(), store.Config{URL: url, KeyFile: key})
	must(t, err)
	must(t, st.Reencrypt(t.Context()))
	must(t, st.Close())
	mustSay("Backups of the database made before", "keys", "drop", "--store", url, "--key-file", key, "--key", old)

	// What is copied is there.
	data := filepath.Join(t.TempDir(), "data.db")
	st, err = store.Open(t.Context(), store.Config{Path: data})
	must(t, err)
	_, err = st.CreateAccount(t.Context(), "default", store.Account{ID: "acme", Name: "Acme", URL: "https://acme.zendesk.com"})
	must(t, err)
	must(t, st.Close())
	copied := database.URL(t, "copied")
	mustSay("Made the tables", "migrate", "--store", copied)
	mustSay("and compared them", "copy", "--from", "bolt:"+data, "--to", copied)
	st, err = store.Open(t.Context(), store.Config{URL: copied, KeyFile: data + ".key"})
	must(t, err)
	account, err := st.Account(t.Context(), "default", "acme")
	if err != nil || account.Name != "Acme" {
		t.Errorf("the copy has the account %+v, %v", account, err)
	}
	must(t, st.Close())
	if left := filesIn(t, "."); len(left) != 2 {
		t.Errorf("files were made: %v", left)
	}
	_, err = os.Stat("zendeskblocks.db")
	if !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
