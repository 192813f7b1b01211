package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/scenarioblocks/zendeskblocks/store"
	"github.com/scenarioblocks/zendeskblocks/store/trustedfile"
)

// whereabouts say where data is: bolt:FILE, or a PostgreSQL database, as a URL or a string of libpq.
// https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING
type whereabouts string

const (
	boltPrefix      = "bolt:"
	defaultDataFile = "zendeskblocks.db"
)

var errWhereabouts = errors.New(`must be bolt:FILE, or a database: postgres://USER@HOST/DATABASE, or a string of libpq such as "host=HOST dbname=DATABASE"`)

// file is the name of a data file; empty: it is in a database, or nobody can say where.
func (w whereabouts) file() string {
	if file, ok := strings.CutPrefix(string(w), boltPrefix); ok {
		return file
	}
	return ""
}

// isURL and isWords tell the two forms of a database.
func (w whereabouts) isURL() bool {
	return strings.HasPrefix(string(w), "postgres://") || strings.HasPrefix(string(w), "postgresql://")
}

func (w whereabouts) isWords() bool {
	return !strings.HasPrefix(string(w), boltPrefix) && !strings.Contains(string(w), "://") && strings.Contains(string(w), "=")
}

func (w whereabouts) inDatabase() bool { return w.isURL() || w.isWords() }

// String has no password.
func (w whereabouts) String() string {
	shown, _, err := w.withoutPassword()
	if err != nil {
		return "(an address that cannot be read)"
	}
	return shown
}

// config is where a store finds the data.
func (w whereabouts) config() store.Config {
	if w.inDatabase() {
		return store.Config{URL: string(w)}
	}
	return store.Config{Path: w.file()}
}

// withoutPassword leaves passwords out, and says whether there was one. It errs on what is none of the forms, and quotes nothing
// of it.
func (w whereabouts) withoutPassword() (shown string, had bool, err error) {
	switch {
	case w == "" || w.file() != "":
		return string(w), false, nil
	case w.isURL():
		return urlWithoutPassword(string(w))
	case w.isWords():
		return wordsWithoutPassword(string(w))
	}
	return "", false, errWhereabouts
}

// secretParameter tells parameters of a connection that hold secrets.
func secretParameter(name string) bool { return name == "password" || name == "sslpassword" }

// urlWithoutPassword is withoutPassword of a URL. As in libpq, only a slash ends the search for the user.
func urlWithoutPassword(text string) (shown string, had bool, err error) {
	scheme, rest, _ := strings.Cut(text, "://")
	shown = scheme + "://"
	if at := strings.IndexAny(rest, "@/"); at >= 0 && rest[at] == '@' {
		user, _, named := strings.Cut(rest[:at], ":")
		shown, had, rest = shown+user+"@", named, rest[at+1:]
	}
	before, query, _ := strings.Cut(rest, "?")
	if strings.Contains(before, "@") { // of a password with a slash, or another character that is to be escaped
		return "", false, errWhereabouts
	}
	var kept []string
	for pair := range strings.SplitSeq(query, "&") {
		if pair != "" && strings.Count(pair, "=") != 1 { // which is none of a URL, and may hide a password
			return "", false, errWhereabouts
		}
		name, _, _ := strings.Cut(pair, "=")
		if decoded, err := url.QueryUnescape(name); err != nil || secretParameter(strings.TrimSpace(decoded)) {
			had = true
			continue
		}
		if pair != "" {
			kept = append(kept, pair)
		}
	}
	shown += before
	if len(kept) > 0 {
		shown += "?" + strings.Join(kept, "&")
	}
	return shown, had, nil
}

const spaces = " \t\n\r\v\f"

// wordsWithoutPassword is withoutPassword of keywords and values: name=value, name = 'a value'.
func wordsWithoutPassword(text string) (shown string, had bool, err error) {
	var kept []string
	for rest := strings.TrimLeft(text, spaces); rest != ""; rest = strings.TrimLeft(rest, spaces) {
		name, value, found := strings.Cut(rest, "=")
		name = strings.Trim(name, spaces)
		if !found || name == "" || strings.ContainsAny(name, spaces) {
			return "", false, errWhereabouts
		}
		value = strings.TrimLeft(value, spaces)
		end, quoted := 0, strings.HasPrefix(value, "'")
		if quoted {
			end = 1
		}
		for ; end < len(value); end++ {
			if quoted && value[end] == '\'' || !quoted && strings.IndexByte(spaces, value[end]) >= 0 {
				break
			}
			if value[end] == '\\' {
				end++
			}
		}
		if quoted {
			end++
		}
		if quoted && end > len(value) {
			return "", false, errWhereabouts
		}
		end = min(end, len(value))
		if secretParameter(name) {
			had = true
		} else {
			kept = append(kept, name+"="+value[:end])
		}
		rest = value[end:]
	}
	return strings.Join(kept, " "), had, nil
}

// sources say where the value of a flag is from: "--flag", a variable, or a place in the configuration file; empty: it is the
// default.
type sources func(flag string) string

// problems says what is wrong with whereabouts that a flag has.
func (w whereabouts) problems(flag string, from sources) []error {
	_, had, err := w.withoutPassword()
	named := from(flag)
	inVariable := strings.HasPrefix(named, envPrefix)
	if !inVariable && !strings.HasPrefix(named, "--") { // a place in a file
		named += ": " + flag
	}
	switch {
	case err != nil:
		return []error{fmt.Errorf("%s %w", named, err)}
	case had && !inVariable:
		return []error{fmt.Errorf("%s has a password, where others can see it: have the variable %s hold the address, or leave the password to PGPASSWORD, ~/.pgpass or the file of --store-password-file", named, envName(flag))}
	}
	return nil
}

// lineError is an error in one line. Those of connections have one for each address that was tried.
type lineError struct{ error }

func (e lineError) Error() string { return oneLine(e.error.Error()) }
func (e lineError) Unwrap() error { return e.error }

// storeFlags say where the data of a command is.
type storeFlags struct {
	Store             whereabouts `help:"Where the data is: bolt:FILE, or a PostgreSQL database, which several replicas may serve, as postgres://USER@HOST/DATABASE or as a string of libpq; it is made ready by migrate. Default: the data file." placeholder:"WHERE"`
	Data              string      `help:"Data file: short for --store bolt:FILE. Default: zendeskblocks.db." placeholder:"FILE"`
	StorePasswordFile string      `help:"File with the password of the database, alone in a line. Without it the password is from where libpq looks for it: PGPASSWORD, ~/.pgpass." placeholder:"FILE"`
}

// where is where the data is.
func (f *storeFlags) where() whereabouts {
	return cmp.Or(f.Store, boltPrefix+whereabouts(cmp.Or(f.Data, defaultDataFile)))
}

// storeConfig is what a store needs to find the data.
func (f *storeFlags) storeConfig() store.Config {
	c := f.where().config()
	if c.URL != "" {
		c.PasswordFile = f.StorePasswordFile
	}
	return c
}

// named is which flag says where the data is.
func (f *storeFlags) named() string {
	if f.Store != "" {
		return "--store"
	}
	return "--data"
}

// sourceProblems implements sourced.
func (f *storeFlags) sourceProblems(from sources) []error {
	problems := f.Store.problems("store", from)
	switch {
	case from("store") != "" && from("data") != "":
		problems = append(problems, fmt.Errorf("--store and --data both say where the data is (%s, %s): give one", from("store"), from("data")))
	case from("data") != "" && f.Data == "":
		problems = append(problems, errors.New("--data must name a file"))
	case strings.Contains(f.Data, "://"):
		problems = append(problems, errors.New("--data must name a file: a database is named by --store"))
	}
	return append(problems, passwordFileProblems(f.StorePasswordFile, f.where())...)
}

// passwordFileProblems says what is wrong with the file that has the password of a database.
func passwordFileProblems(file string, database whereabouts) []error {
	if file == "" {
		return nil
	}
	if !database.inDatabase() {
		return []error{errors.New("--store-password-file is for a database, and the data is in a file")}
	}
	if _, err := trustedfile.Read(file, trustedfile.Rule{Secret: true, AnyOwner: os.Geteuid() == 0}); err != nil {
		return []error{fmt.Errorf("--store-password-file: file %q %w", file, err)}
	}
	return nil
}

// onlyFile refuses a database, for what is done to a data file alone; instead says what does that to a database.
func (f *storeFlags) onlyFile(instead string) []error {
	if f.where().inDatabase() {
		return []error{fmt.Errorf("--store is a database: %s", instead)}
	}
	return nil
}

// onlyDatabase refuses a data file, for what is done to a database alone; why says why a file does not need it.
func (f *storeFlags) onlyDatabase(why string) []error {
	if !f.where().inDatabase() {
		return []error{fmt.Errorf("%s is a data file: %s", f.named(), why)}
	}
	return nil
}

type migrateCommand struct {
	storeFlags `embed:""`
	KeyFile    string `help:"Keyset that encrypts the data, as serve has it. Without it, and without the variable, the tables are migrated, and not what is in them." placeholder:"FILE"`
	Restored   bool   `help:"The database is a copy of the past: restored by PostgreSQL, or a standby that had not everything has taken over. Have no replica run. It needs the key."`
}

// Help is what --help adds.
func (migrateCommand) Help() string {
	return `It makes the tables of a database that has none, or brings them, and with a key what is in them, to what this version needs. Run it before each roll-out of a new version: replicas of the version before go on meanwhile, and serve refuses a database that it has not been run on. It does nothing, and exits 0, where there is nothing to do. A data file is migrated by serve.

Before copy, run it without a key: with one it begins data of its own.

A database does not know that PostgreSQL has restored it: with --restored, activities that are PENDING or DEAD, and those that are completed in the 7 days after, are looked for in Zendesk before they are written: none is written twice. End all replicas before, and start them after; it is refused while one lives.`
}

// sourceProblems implements sourced.
func (c *migrateCommand) sourceProblems(from sources) []error {
	problems := c.storeFlags.sourceProblems(from)
	if c.Restored {
		problems = append(problems, c.onlyDatabase("a data file knows by itself that it was restored")...)
	}
	return problems
}

// variableProblems implements heedsVariables.
func (c *migrateCommand) variableProblems(env environment) []error {
	if c.Restored && c.where().inDatabase() && c.KeyFile == "" && env[keysetVariable] == "" {
		return []error{fmt.Errorf("--key-file is missing: what is marked as restored is opened with the key file of the replicas, or %s", keysetVariable)}
	}
	return nil
}

// Run migrates.
func (c *migrateCommand) Run(ctx context.Context, p *process) error {
	said := fmt.Sprintf("%s is a data file, which serve migrates: nothing to do.", c.where().file())
	if c.where().inDatabase() {
		config := c.storeConfig()
		config.KeyFile, config.Keyset, config.Restored = c.KeyFile, p.env[keysetVariable], c.Restored
		from, to, err := store.Migrate(ctx, config)
		switch {
		case err != nil:
			return fmt.Errorf("%w (see --store)", lineError{err})
		case from == 0:
			said = fmt.Sprintf("Made the tables of the database, of version %d.", to)
		case from == to:
			said = fmt.Sprintf("The tables of the database have version %d already: nothing to do.", to)
		default:
			said = fmt.Sprintf("Migrated the tables of the database from version %d to %d.", from, to)
		}
		if c.Restored {
			said += "\nThe database is marked as a copy of the past. " + ofThePast
		}
	}
	_, err := fmt.Fprintln(p.stdout, said)
	return err
}

type copyCommand struct {
	From              whereabouts `help:"Where the data is: bolt:FILE, which no server may have open." required:"" placeholder:"WHERE"`
	To                whereabouts `help:"Database that it is copied to, as serve has it in --store. It is made ready by migrate, and has no data yet." required:"" placeholder:"WHERE"`
	StorePasswordFile string      `help:"File with the password of the database, alone in a line." placeholder:"FILE"`
}

// Help is what --help adds.
func (copyCommand) Help() string {
	return `Stop the server first. All values are copied as they are, encrypted, so that no key is needed: give serve the key file of the data file. What has arrived is read again and compared. Interrupted, it is repeated, and goes on with what is there; until it is done serve refuses the database. Do not serve the data file afterwards: whoever renews a token kills the other's.`
}

// sourceProblems implements sourced.
func (c *copyCommand) sourceProblems(from sources) []error {
	problems := append(c.From.problems("from", from), c.To.problems("to", from)...)
	if len(problems) == 0 && (c.From.inDatabase() || !c.To.inDatabase()) {
		problems = append(problems, errors.New("copy goes --from bolt:FILE --to a database"))
	}
	return append(problems, passwordFileProblems(c.StorePasswordFile, c.To)...)
}

// Run copies.
func (c *copyCommand) Run(ctx context.Context, p *process) error {
	to := c.To.config()
	to.PasswordFile = c.StorePasswordFile
	copied, err := store.Copy(ctx, c.From.config(), to)
	if err != nil {
		return fmt.Errorf("%w (see --from and --to)", lineError{err})
	}
	_, err = fmt.Fprintf(p.stdout, "Copied %d entries of %d bytes from %s, and compared them with what was copied.\n", copied.Entries, copied.Bytes, c.From.file())
	return err
}
