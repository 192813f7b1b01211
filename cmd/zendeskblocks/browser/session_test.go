package browser

import (
	"context"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// guarded is a site whose callers show tokens, of which it returns one for each name with its roles.
func guarded(t testing.TB, callers map[string][]string) (s *site, tokens map[string]string, tokenFile string) {
	t.Helper()
	tokenFile, tokens = filepath.Join(t.TempDir(), "tokens.jsonl"), map[string]string{}
	for name, roles := range callers {
		args := []string{"tokens", "create", "--token-file", tokenFile, "--name", name}
		for _, role := range roles {
			args = append(args, "--role", role)
		}
		tokens[name] = run(t, args...)
	}
	return newSite(t, "--token-file", tokenFile), tokens, tokenFile
}

// signIn signs in with a token, as a person does.
func (b *tab) signIn(token string) {
	b.t.Helper()
	b.visit("/")
	b.fill("Token", token)
	b.follow("Sign in")
}

// Who has signed in is so in all tabs of a browser, and in no other one; who has signed out is so in all of them, and no page is there any
// more by going back. A token that is revoked signs out.
func TestSessionInChromium(t *testing.T) {
	s, tokens, file := guarded(t, map[string][]string{"ada": {"admin", "ops"}, "eve": {"desktop"}})
	b := s.open(t)
	b.visit("/accounts")
	b.shows("Sign in")
	b.fill("Token", "wrong")
	if status := b.follow("Sign in"); status != http.StatusUnauthorized {
		t.Errorf("a wrong token is answered %d", status)
	}
	b.fill("Token", tokens["ada"])
	b.follow("Sign in")
	b.shows("ada", "Sign out")
	if path := b.path(); path != "/accounts" {
		t.Errorf("after signing in the browser is at %s", path)
	}
	if kept := read[string](b, `JSON.stringify([localStorage, sessionStorage, document.cookie])`); kept != `[{},{},""]` {
		t.Errorf("scripts of the page can read %s", kept)
	}
	if source := read[string](b, `document.documentElement.outerHTML`); strings.Contains(source, tokens["ada"]) {
		t.Error("the token is in the page")
	}

	second, other := b.another(), s.open(t)
	second.visit("/accounts")
	second.shows("Sign out")
	other.visit("/accounts")
	other.lacks("Sign out")

	b.follow("Sign out")
	b.shows("Sign in")
	read[bool](b, `history.back(), true`)
	until(t, "the browser has gone back", func(context.Context) bool { return strings.HasPrefix(b.path(), "/signin?to=") })
	b.lacks("ada")
	second.visit("/accounts")
	second.shows("Sign in")

	other.signIn(tokens["eve"])
	other.shows("Sign out")
	run(t, "tokens", "revoke", "--token-file", file, "--name", "eve")
	until(t, "a revoked token is signed out", func(context.Context) bool {
		other.visit("/")
		return strings.HasPrefix(other.path(), "/signin")
	})
	other.shows("not accepted any more")
}

// A form on another site of the same machine, which has the cookie with it as far as sites go, changes nothing.
func TestForgedFormInChromium(t *testing.T) {
	s, tokens, _ := guarded(t, map[string][]string{"ada": {"admin"}})
	forger := newForger(t, s.url+"/signout")
	b := s.open(t)
	b.signIn(tokens["ada"])
	b.shows("Sign out")
	do(b, "go to the other site", chromedp.Navigate(forger))
	if status := b.follow("Win"); status != http.StatusForbidden {
		t.Errorf("the forged form is answered %d", status)
	}
	b.visit("/")
	b.shows("Sign out")
}
