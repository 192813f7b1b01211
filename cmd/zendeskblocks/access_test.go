package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
)

// writeFile writes a file of this mode, whatever the umask.
func writeFile(t testing.TB, path, content string, mode fs.FileMode) string {
	t.Helper()
	must(t, os.WriteFile(path, []byte(content), mode))
	must(t, os.Chmod(path, mode))
	return path
}

// createToken runs `tokens create` and returns the token that it prints.
func createToken(t *testing.T, args ...string) string {
	t.Helper()
	stdout, stderr, err := runCommand(t, nil, append([]string{"tokens", "create"}, args...)...)
	if err != nil || stderr != "" || !regexp.MustCompile(`^zendeskblocks_[a-z2-7]{52}\n$`).MatchString(stdout) {
		t.Fatalf("tokens create: %v; it printed %q and %q", err, stdout, stderr)
	}
	return strings.TrimSpace(stdout)
}

// bearer returns a context whose calls show a token.
func bearer(ctx context.Context, token string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
}

// auditOf reads an audit: one JSON object a line.
func auditOf(t testing.TB, path string) (lines []map[string]any) {
	t.Helper()
	content, err := os.ReadFile(path)
	must(t, err)
	for text := range strings.Lines(string(content)) {
		var line map[string]any
		must(t, json.Unmarshal([]byte(text), &line))
		lines = append(lines, line)
	}
	return lines
}

// modeOf returns the permissions of a file.
func modeOf(t testing.TB, path string) fs.FileMode {
	t.Helper()
	info, err := os.Stat(path)
	must(t, err)
	return info.Mode().Perm()
}

// The tokens that the program makes let callers into the program, in their tenant and role; its audit outlives it; and of
// a token only the hash is ever written.
func TestTokens(t *testing.T) {
	dir := t.TempDir()
	file, auditFile := filepath.Join(dir, "tokens"), filepath.Join(dir, "audit")
	made := func(args ...string) string {
		t.Helper()
		return createToken(t, append([]string{"--token-file", file, "--audit-log", auditFile}, args...)...)
	}
	admin := made("--tenant", "acme", "--name", "acme admin", "--role", "admin", "--role", "ops", "--expires", "1h")
	runtime := made("--tenant", "acme", "--name", "acme runtime", "--role", "runtime")
	other := made("--name", "other", "--role", "admin,ops")
	tokens := []string{admin, runtime, other}
	for _, path := range []string{file, auditFile} {
		if mode := modeOf(t, path); mode != 0o600 {
			t.Errorf("%s has mode %o", path, mode)
		}
	}

	s := startService(t, "--token-file", file, "--audit-log", auditFile, "--allow-host", "127.0.0.1:*", "--log-level", "debug")
	create := func(ctx context.Context) error {
		_, err := s.accounts.CreateAccount(ctx, &zendeskv1.CreateAccountRequest{
			AccountId: "main", Account: &zendeskv1.Account{Name: "Main", Url: "http://127.0.0.1"},
		}, grpc.WaitForReady(true))
		return err
	}
	for _, test := range []struct {
		who  string
		ctx  context.Context
		want codes.Code
	}{
		{"nobody", t.Context(), codes.Unauthenticated},
		{"a wrong token", bearer(t.Context(), admin[:len(admin)-1]), codes.Unauthenticated},
		{"a runtime", bearer(t.Context(), runtime), codes.PermissionDenied},
		{"an admin", bearer(t.Context(), admin), codes.OK},
		{"an admin again", bearer(t.Context(), admin), codes.AlreadyExists},
		{"another tenant's", bearer(t.Context(), other), codes.OK},
	} {
		if err := create(test.ctx); status.Code(err) != test.want {
			t.Errorf("%s: %v, want %v", test.who, err, test.want)
		}
	}
	s.kill(t)
	s.start(t)
	_, err := s.accounts.DeleteAccount(bearer(t.Context(), other), &zendeskv1.DeleteAccountRequest{AccountId: "main"}, grpc.WaitForReady(true))
	must(t, err)
	s.stop(t)

	var events []string
	for _, line := range auditOf(t, auditFile) {
		if line["calls"] != nil {
			continue // of calls that were refused
		}
		events = append(events, fmt.Sprintf("%v by %v of %v", line["event"], line["credential"], line["tenant"]))
		if _, err := time.Parse(time.RFC3339Nano, fmt.Sprint(line["time"])); err != nil || line["caller"] == "" {
			t.Errorf("a line does not say who and when: %v", line)
		}
	}
	want := []string{
		"token created by command line of acme", "token created by command line of acme", "token created by command line of default",
		"account created by token of acme", "account created by token of default", "account deleted by token of default",
	}
	if !slices.Equal(events, want) {
		t.Errorf("the audit is %q, want %q", events, want)
	}
	places := filesIn(t, dir)
	for i, p := range s.processes {
		places[fmt.Sprint("standard output and error of process ", i)] = p.stdout.String() + p.stderr.String()
	}
	for path, content := range filesIn(t, s.dir) {
		places[path] = content
	}
	for place, content := range places {
		for _, token := range tokens {
			if strings.Contains(content, strings.TrimPrefix(token, "zendeskblocks_")) {
				t.Errorf("%s shows a token", place)
			}
			if hash := fmt.Sprintf("%x", sha256.Sum256([]byte(token))); strings.Contains(content, hash) != (place == file) {
				t.Errorf("that %s holds the hash of a token is %v", place, place != file)
			}
		}
	}
}

// What cannot be made is refused with one sentence, prints no token, and leaves the file as it was.
func TestTokensCreateRefusals(t *testing.T) {
	damaged := `{"tenant": "acme", "na`
	for name, test := range map[string]struct {
		args []string
		file func(t *testing.T, path string)
	}{
		"no role":            {args: []string{"--name", "x"}},
		"unknown role":       {args: []string{"--name", "x", "--role", "root"}},
		"one of two unknown": {args: []string{"--name", "x", "--role", "admin", "--role", "root"}},
		"no name":            {args: []string{"--role", "admin"}},
		"empty name":         {args: []string{"--name", "", "--role", "admin"}},
		"line feed in name":  {args: []string{"--name", "x\ny", "--role", "admin"}},
		"bad tenant":         {args: []string{"--name", "x", "--role", "admin", "--tenant", "Acme Inc"}},
		"operator of acme":   {args: []string{"--name", "x", "--role", "operator", "--tenant", "acme"}},
		"operator and ops":   {args: []string{"--name", "x", "--role", "operator", "--role", "ops"}},
		"no time":            {args: []string{"--name", "x", "--role", "admin", "--expires", "0"}},
		"zero":               {args: []string{"--name", "x", "--role", "admin", "--expires", "0s"}},
		"past":               {args: []string{"--name", "x", "--role", "admin", "--expires", "-1h"}},
		"agent of an admin":  {args: []string{"--name", "x", "--role", "admin", "--agent", "ann@acme.example"}},
		"agent without @":    {args: []string{"--name", "x", "--role", "desktop", "--agent", "ann"}},
		"folder":             {[]string{"--name", "x", "--role", "admin"}, func(t *testing.T, path string) { must(t, os.Mkdir(path, 0o700)) }},
		"exposed file":       {[]string{"--name", "x", "--role", "admin"}, func(t *testing.T, path string) { writeFile(t, path, "# none\n", 0o644) }},
		"damaged file":       {[]string{"--name", "x", "--role", "admin"}, func(t *testing.T, path string) { writeFile(t, path, damaged, 0o600) }},
		"audit that is a folder": {[]string{"--name", "x", "--role", "admin", "--audit-log", os.TempDir()}, func(t *testing.T, path string) {
			writeFile(t, path, "# none\n", 0o600)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "tokens")
			if test.file != nil {
				test.file(t, path)
			}
			before := fmt.Sprint(filesIn(t, dir))
			stdout, _, err := runCommand(t, nil, append([]string{"tokens", "create", "--token-file", path}, test.args...)...)
			if err == nil || stdout != "" {
				t.Fatalf("it printed %q, with error %v", stdout, err)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("the error is not one sentence: %v", err)
			}
			if after := fmt.Sprint(filesIn(t, dir)); after != before {
				t.Errorf("the files were %s and are %s", before, after)
			}
		})
	}
	t.Run("no folder", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "none", "tokens")
		stdout, _, err := runCommand(t, nil, "tokens", "create", "--token-file", path, "--name", "x", "--role", "admin")
		if err == nil || stdout != "" || !strings.Contains(err.Error(), path) {
			t.Errorf("it printed %q, with error %v", stdout, err)
		}
	})
}

// Tokens are listed without what is secret, their names are unique, and a server that runs lets nobody in by one that was
// revoked.
func TestTokensListAndRevoke(t *testing.T) {
	dir := t.TempDir()
	file, auditFile := filepath.Join(dir, "tokens"), filepath.Join(dir, "audit")
	flags := []string{"--token-file", file, "--audit-log", auditFile}
	tokens := func(args ...string) (string, error) {
		t.Helper()
		stdout, _, err := runCommand(t, nil, append([]string{"tokens"}, args...)...)
		return stdout, err
	}
	doomed := createToken(t, append(flags, "--tenant", "acme", "--name", "flow engine", "--role", "runtime,ops")...)
	kept := createToken(t, append(flags, "--tenant", "acme", "--name", "ann", "--role", "desktop", "--role", "ops", "--agent", "ann@acme.example")...)
	createToken(t, append(flags, "--name", "flow engine", "--role", "runtime")...)
	if _, err := tokens(append([]string{"create", "--tenant", "acme", "--name", "flow engine", "--role", "ops"}, flags...)...); err == nil || !strings.Contains(err.Error(), "flow engine") {
		t.Errorf("a name is given twice: %v", err)
	}

	text, err := tokens("list", "--token-file", file)
	must(t, err)
	if !regexp.MustCompile(`^TENANT +NAME +ROLES +EXPIRES +STATE +AGENT\nacme +flow engine +runtime,ops +20\S+Z +live *\nacme +ann +desktop,ops +20\S+Z +live +ann@acme.example\ndefault +flow engine +runtime +20\S+Z +live *\n$`).MatchString(text) {
		t.Errorf("the list is\n%s", text)
	}
	asJSON, err := tokens("list", "--token-file", file, "--tenant", "acme", "--json")
	must(t, err)
	var listed []struct {
		Tenant, Name, State, Agent string
		Roles                      []string
		Expires                    time.Time
	}
	must(t, json.Unmarshal([]byte(asJSON), &listed))
	if len(listed) != 2 || listed[0].Name != "flow engine" || listed[1].Agent != "ann@acme.example" || listed[1].State != "live" || len(listed[1].Roles) != 2 {
		t.Errorf("the list is\n%s", asJSON)
	}
	if none, err := tokens("list", "--token-file", file, "--tenant", "nobody", "--json"); err != nil || none != "[]\n" {
		t.Errorf("%q, %v", none, err)
	}
	content, err := os.ReadFile(file)
	must(t, err)
	for _, hash := range regexp.MustCompile(`[0-9a-f]{64}`).FindAllString(string(content), -1) {
		if strings.Contains(text+asJSON, hash) {
			t.Error("a list shows a hash")
		}
	}

	s := startService(t, "--token-file", file)
	call := func(token string) codes.Code {
		_, err := s.accounts.ListAccounts(bearer(t.Context(), token), &zendeskv1.ListAccountsRequest{}, grpc.WaitForReady(true))
		return status.Code(err)
	}
	if call(doomed) != codes.OK {
		t.Error("the token is not accepted")
	}
	if _, err := tokens(append([]string{"revoke", "--tenant", "acme", "--name", "flow"}, flags...)...); err == nil {
		t.Error("a token that is not there was revoked")
	}
	said, err := tokens(append([]string{"revoke", "--tenant", "acme", "--name", "flow engine"}, flags...)...)
	if err != nil || !strings.Contains(said, "flow engine") {
		t.Errorf("%q, %v", said, err)
	}
	until(t, "the token is refused", func() bool { return call(doomed) == codes.Unauthenticated })
	if call(kept) != codes.OK {
		t.Error("another token is refused")
	}
	last := auditOf(t, auditFile)
	if line := last[len(last)-1]; len(last) != 4 || line["event"] != "token revoked" || line["tenant"] != "acme" || line["name"] != "flow engine" || line["caller"] == "" {
		t.Errorf("the audit is %v", last)
	}
	createToken(t, append(flags, "--tenant", "acme", "--name", "flow engine", "--role", "runtime")...)

	// An operator's token is of no tenant.
	operator := createToken(t, append(flags, "--name", "flow engine", "--role", "operator")...)
	if text, err := tokens("list", "--token-file", file); err != nil || !regexp.MustCompile(`\n- +flow engine +operator +20\S+Z +live *\n$`).MatchString(text) {
		t.Errorf("error %v; the list is\n%s", err, text)
	}
	until(t, "the operator's token is accepted", func() bool { return call(operator) == codes.PermissionDenied })
	if said, err := tokens(append([]string{"revoke", "--operator", "--name", "flow engine"}, flags...)...); err != nil || !strings.Contains(said, "of no tenant (tokens: 1)") {
		t.Errorf("%q, %v", said, err)
	}
	if _, err := tokens(append([]string{"revoke", "--operator", "--tenant", "acme", "--name", "flow engine"}, flags...)...); err == nil {
		t.Error("a token of a tenant and of none was revoked")
	}

	// An unfit line keeps neither from being listed nor from being revoked, and is told of.
	must(t, os.WriteFile(file, append(content, "{\n"...), 0o600))
	if text, err := tokens("list", "--token-file", file); err == nil || strings.Count(text, "live") != 3 {
		t.Errorf("error %v; the list is\n%s", err, text)
	}
	if said, err := tokens(append([]string{"revoke", "--tenant", "acme", "--name", "ann"}, flags...)...); err == nil || !strings.Contains(said, "ann") {
		t.Errorf("%q, %v", said, err)
	}
	if after, err := os.ReadFile(file); err != nil || strings.Contains(string(after), "ann@") || !strings.HasSuffix(string(after), "\n{\n") {
		t.Errorf("%v; the file is\n%s", err, after)
	}
}

// selfSigned writes a certificate for localhost and its key.
func selfSigned(t testing.TB, dir string) (cert, key string, roots *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	must(t, err)
	parsed, err := x509.ParseCertificate(der)
	must(t, err)
	roots = x509.NewCertPool()
	roots.AddCert(parsed)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	must(t, err)
	cert = writeFile(t, filepath.Join(dir, "cert.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), 0o644)
	key = writeFile(t, filepath.Join(dir, "key.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})), 0o600)
	return cert, key, roots
}

// An address that others reach needs TLS and authentication, or to be told that it does not.
func TestServeForOthers(t *testing.T) {
	dir := t.TempDir()
	tokens := filepath.Join(dir, "tokens")
	createToken(t, "--token-file", tokens, "--name", "x", "--role", "admin")
	cert, key, _ := selfSigned(t, dir)
	withTokens, withTLS := []string{"--token-file", tokens}, []string{"--tls-cert", cert, "--tls-key", key}
	for name, test := range map[string]struct {
		flags []string
		lacks []string // empty: it serves
	}{
		"nothing":     {nil, []string{"TLS", "authentication"}},
		"tokens only": {withTokens, []string{"TLS"}},
		"TLS only":    {withTLS, []string{"authentication"}},
		"both":        {slices.Concat(withTokens, withTLS), nil},
		"insecure":    {[]string{"--insecure"}, nil},
	} {
		for _, host := range []string{"0.0.0.0", ""} {
			t.Run(fmt.Sprintf("%s on %q", name, host), func(t *testing.T) {
				dir := t.TempDir()
				p := startProgram(t, append([]string{"serve", "--listen", host + ":0", "--data", filepath.Join(dir, "data.db")}, test.flags...)...)
				if test.lacks == nil {
					p.await(t, p.stderr, `msg=serving address=(\S+)`)
					p.signal(t, syscall.SIGTERM)
					if code := p.exitCode(t); code != 0 {
						t.Errorf("exit code %d", code)
					}
					return
				}
				for _, lack := range test.lacks {
					mustRefuse(t, p, lack)
				}
				if files := filesIn(t, dir); len(files) != 0 {
					t.Errorf("files were made: %v", files)
				}
			})
		}
	}
}

// Every file that is not as it should be is told of, all at once, each in a line of its own, and nothing is served.
func TestServeRefusesAccessFiles(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	cert, key, _ := selfSigned(t, dir)
	pemOf := func(path string) string {
		content, err := os.ReadFile(path)
		must(t, err)
		return string(content)
	}
	writeFile(t, at("empty"), "\n", 0o600)
	writeFile(t, at("exposed"), "# none\n", 0o644)
	writeFile(t, at("truncated"), `{"tenant": "acme", "name"`, 0o600)
	writeFile(t, at("text"), "text\n", 0o600)
	writeFile(t, at("half.pem"), pemOf(key)[:60], 0o600)
	writeFile(t, at("exposed.pem"), pemOf(key), 0o644)
	other := t.TempDir()
	_, otherKey, _ := selfSigned(t, other)
	for name, test := range map[string]struct {
		flags []string
		named [][]string // what the lines of the error say, in any order
	}{
		"missing token file":   {[]string{"--token-file", at("none")}, [][]string{{at("none"), "not exist"}}},
		"empty token file":     {[]string{"--token-file", at("empty")}, [][]string{{at("empty"), "empty"}}},
		"exposed token file":   {[]string{"--token-file", at("exposed")}, [][]string{{at("exposed"), "0644"}}},
		"truncated token file": {[]string{"--token-file", at("truncated")}, [][]string{{at("truncated"), "truncated"}}},
		"folder":               {[]string{"--token-file", dir}, [][]string{{dir}}},
		"TLS of half a key":    {[]string{"--tls-cert", cert, "--tls-key", at("half.pem")}, [][]string{{cert, "truncated"}}},
		"TLS of another key":   {[]string{"--tls-cert", cert, "--tls-key", otherKey}, [][]string{{cert, "no pair"}}},
		"TLS of the key twice": {[]string{"--tls-cert", key, "--tls-key", key}, [][]string{{key, "PRIVATE KEY"}}},
		"exposed key":          {[]string{"--tls-cert", cert, "--tls-key", at("exposed.pem")}, [][]string{{at("exposed.pem"), "0644"}}},
		"no key":               {[]string{"--tls-cert", cert}, [][]string{{"--tls-key"}}},
		"JWT without issuer":   {[]string{"--jwt-key-file", at("text"), "--jwt-audience", "x"}, [][]string{{"--jwt-issuer"}, {at("text")}}},
		"CA without TLS":       {[]string{"--tls-client-ca", cert}, [][]string{{"--tls-identities"}, {"client certificates need TLS", "--tls-cert"}}},
		"everything": {
			[]string{"--token-file", at("exposed"), "--tls-cert", cert, "--tls-key", otherKey, "--jwt-key-file", at("empty"), "--jwt-issuer", "i", "--jwt-audience", "a", "--tls-client-ca", at("text"), "--tls-identities", at("none")},
			[][]string{{at("exposed")}, {cert}, {at("empty")}, {at("text")}, {at("none")}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			data := t.TempDir()
			_, stderr, err := runCommand(t, nil, append([]string{"serve", "--listen", "127.0.0.1:0", "--data", filepath.Join(data, "data.db")}, test.flags...)...)
			if err == nil {
				t.Fatal("serve started")
			}
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(test.named) {
				t.Errorf("the error has %d lines, want %d:\n%v", len(lines), len(test.named), err)
			}
			for _, parts := range test.named {
				if !slices.ContainsFunc(lines, func(line string) bool {
					return !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(line, part) })
				}) {
					t.Errorf("no line says %q:\n%v", parts, err)
				}
			}
			if strings.Contains(stderr, "serving") || len(filesIn(t, data)) != 0 {
				t.Errorf("something was begun: %s%v", stderr, filesIn(t, data))
			}
		})
	}
}

// The variables of the flags do what the flags do, and JWTs are accepted over TLS as the flags say.
func TestAccessByVariables(t *testing.T) {
	dir := t.TempDir()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	pkix, err := x509.MarshalPKIXPublicKey(public)
	must(t, err)
	keys := writeFile(t, filepath.Join(dir, "keys.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pkix})), 0o644)
	tokens := filepath.Join(dir, "tokens")
	stdout, _, err := runCommand(t, map[string]string{"ZENDESKBLOCKS_TOKEN_FILE": tokens, "ZENDESKBLOCKS_ROLE": "ops"}, "tokens", "create", "--name", "x")
	must(t, err)
	cert, key, roots := selfSigned(t, dir)
	env := map[string]string{
		"ZENDESKBLOCKS_LISTEN": "127.0.0.1:0", "ZENDESKBLOCKS_DATA": filepath.Join(dir, "data.db"), "ZENDESKBLOCKS_TOKEN_FILE": tokens,
		"ZENDESKBLOCKS_JWT_KEY_FILE": keys, "ZENDESKBLOCKS_JWT_ISSUER": "https://issuer.example", "ZENDESKBLOCKS_JWT_AUDIENCE": "zendeskblocks",
		"ZENDESKBLOCKS_JWT_TENANT_CLAIM": "org", "ZENDESKBLOCKS_JWT_ROLES_CLAIM": "access.roles", "ZENDESKBLOCKS_JWT_AGENT_CLAIM": "email",
		"ZENDESKBLOCKS_TLS_CERT": cert, "ZENDESKBLOCKS_TLS_KEY": key, "ZENDESKBLOCKS_LOG_LEVEL": "debug",
	}
	ctx, stop := context.WithCancel(t.Context())
	log, ended := newOutput(), make(chan error, 1)
	go func() {
		ended <- run(ctx, []string{"serve"}, environOf(env), &bytes.Buffer{}, log)
	}()
	t.Cleanup(func() {
		stop()
		must(t, <-ended)
	})
	address := ""
	for late := time.After(patience); address == ""; {
		text, changed := log.current()
		if match := regexp.MustCompile(`msg=serving address=(\S+)`).FindStringSubmatch(text); match != nil {
			address = match[1]
			break
		}
		select {
		case <-changed:
		case err := <-ended:
			t.Fatalf("serve: %v\n%s", err, text)
		case <-late:
			t.Fatalf("serve does not serve:\n%s", text)
		}
	}
	list := func(security credentials.TransportCredentials, token string) error {
		t.Helper()
		conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(security))
		must(t, err)
		defer func() { must(t, conn.Close()) }()
		_, err = zendeskv1.NewAccountServiceClient(conn).ListAccounts(bearer(t.Context(), token), &zendeskv1.ListAccountsRequest{})
		return err
	}
	segment := func(content any) string {
		encoded, err := json.Marshal(content)
		must(t, err)
		return base64.RawURLEncoding.EncodeToString(encoded)
	}
	sign := func(change map[string]any) string {
		claims := map[string]any{
			"iss": "https://issuer.example", "aud": "zendeskblocks", "sub": "joe", "exp": time.Now().Add(time.Hour).Unix(),
			"org": "acme", "access": map[string]any{"roles": []string{"ops", "unknown"}},
		}
		for name, value := range change {
			claims[name] = value
		}
		signed := segment(map[string]any{"alg": "EdDSA", "typ": "JWT"}) + "." + segment(claims)
		return signed + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(private, []byte(signed)))
	}
	protected := credentials.NewTLS(&tls.Config{RootCAs: roots, ServerName: "localhost"})
	good := sign(nil)
	for name, test := range map[string]struct {
		security credentials.TransportCredentials
		token    string
		want     codes.Code
	}{
		"token":                    {protected, strings.TrimSpace(stdout), codes.OK},
		"JWT":                      {protected, good, codes.OK},
		"no TLS":                   {insecure.NewCredentials(), good, codes.Unavailable},
		"JWT of another issuer":    {protected, sign(map[string]any{"iss": "https://other.example"}), codes.Unauthenticated},
		"JWT for somebody else":    {protected, sign(map[string]any{"aud": "other"}), codes.Unauthenticated},
		"JWT that has expired":     {protected, sign(map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}), codes.Unauthenticated},
		"JWT without tenant":       {protected, sign(map[string]any{"org": "", "tenant": "acme"}), codes.Unauthenticated},
		"JWT of another role":      {protected, sign(map[string]any{"access": map[string]any{"roles": "runtime"}}), codes.PermissionDenied},
		"JWT of a desktop of all":  {protected, sign(map[string]any{"access": map[string]any{"roles": "desktop ops"}}), codes.Unauthenticated},
		"JWT with a bad signature": {protected, good[:len(good)-6] + "AAAAAA", codes.Unauthenticated},
	} {
		if err := list(test.security, test.token); status.Code(err) != test.want {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
	for _, secret := range []string{strings.TrimSpace(stdout), good, good[strings.LastIndexByte(good, '.')+1:]} {
		if strings.Contains(log.String(), secret) {
			t.Error("the log shows a credential")
		}
	}
	if !strings.Contains(log.String(), "tenant=acme") || !strings.Contains(log.String(), "caller=joe") {
		t.Errorf("the log does not say who called:\n%s", log)
	}
}
