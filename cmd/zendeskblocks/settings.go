package main

import (
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"fmt"
	"io"
	"net/url"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// setting is a value that is in force.
type setting struct {
	Name  string `json:"name"`  // of its flag, without dashes before
	Value string `json:"value"` // without what is secret
	From  string `json:"from"`  // flag, variable, file or default
	Place string `json:"place"` // the variable's name, or where in the file; else empty
}

// settings are those of a command, in the order of their names.
type settings []setting

// derived are commands whose defaults follow from other flags.
type derived interface {
	// derivedDefaults returns what is in force where a flag is empty, by its name.
	derivedDefaults(environment) map[string]string
}

// settingsOf returns what the flags of a command are set to.
func settingsOf(command *kong.Context, values *valueReader) settings {
	node, follows := command.Selected(), map[string]string{}
	if d, ok := node.Target.Addr().Interface().(derived); ok {
		follows = d.derivedDefaults(values.env)
	}
	all := settings{}
	for _, flag := range node.Flags {
		if global(flag) || slices.Contains(asked, flag.Name) {
			continue
		}
		s := setting{Name: flag.Name, Value: inForce(flag.Target), From: "default"}
		switch source := values.sources[flag.Value]; {
		case strings.HasPrefix(source, envPrefix):
			s.From, s.Place = "variable", source
		case source != "":
			s.From, s.Place = "file", source
		case onCommandLine(command, flag):
			s.From = "flag"
		}
		if s.Value == "" {
			s.Value = follows[flag.Name]
		}
		all = append(all, s)
	}
	if values.env[keysetVariable] != "" {
		all = append(all, setting{Name: "keyset", Value: "set", From: "variable", Place: keysetVariable})
	}
	slices.SortFunc(all, func(a, b setting) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// inForce words the value of a flag, however it was written: one day is 24h0m0s and 1d.
func inForce(value reflect.Value) string {
	if list, ok := value.Interface().([]string); ok {
		shown := make([]string, len(list))
		for i, text := range list {
			shown[i] = withoutSecrets(text)
		}
		return strings.Join(shown, ",")
	}
	switch v := value.Addr().Interface().(type) {
	case encoding.TextMarshaler: // levels of the log
		text, err := v.MarshalText()
		if err != nil {
			return "?"
		}
		return strings.ToLower(string(text))
	case fmt.Stringer: // numbers with units
		return v.String()
	}
	return withoutSecrets(fmt.Sprint(value.Interface()))
}

// withoutSecrets hides the parts of an address that credentials are put into: user and query. No flag is a secret.
func withoutSecrets(text string) string {
	u, err := url.Parse(text)
	switch {
	case err != nil && strings.Contains(text, "://"):
		return "(an address that cannot be read)"
	case err != nil || u.Host == "":
		return text
	}
	if u.User != nil {
		u.User = url.User("redacted")
	}
	if u.RawQuery != "" {
		u.RawQuery = "redacted"
	}
	return u.String()
}

// digest is the same for all processes that have the same values, wherever those are from: SHA-256, in hexadecimal. Of a
// secret it holds no more than that there is one, and of a file no more than its name. Replicas with names of their own are
// configured alike.
func (s settings) digest() string {
	hash := sha256.New()
	for _, one := range s {
		if one.Name == replicaFlag {
			continue
		}
		_, _ = fmt.Fprintf(hash, "%s=%q\n", one.Name, one.Value) // a hash takes everything
	}
	return hex.EncodeToString(hash.Sum(nil))
}

// print lists them for people.
func (s settings) print(w io.Writer) error {
	for _, one := range s {
		from := one.From
		if one.Place != "" {
			from += " " + one.Place
		}
		if _, err := fmt.Fprintf(w, "%s = %s  (%s)\n", one.Name, one.Value, from); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "digest = %s\n", s.digest())
	return err
}
