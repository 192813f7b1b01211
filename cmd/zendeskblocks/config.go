package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"

	"github.com/scenarioblocks/zendeskblocks/store/trustedfile"
)

// configFlag names the flag of the configuration file. A command that has it takes its other flags from the file, too.
const configFlag = "config"

// asked are flags that ask for something, and set nothing: they cannot stand in a configuration file.
var asked = []string{configFlag, "check", "json"}

// configFile is what a configuration file sets, by the names of flags.
type configFile struct {
	values map[string]any // a string, or, of a flag that is repeatable, an []any of strings
	places map[string]string
}

// readConfig reads a configuration file: YAML, a mapping from the names of flags, without dashes before, to their values;
// lists of those that are repeatable. It returns what could be read, and all that is wrong with the rest, each with its place.
func readConfig(path string, flags []*kong.Flag) (configFile, []error) {
	content, err := trustedfile.Read(path, trustedfile.Rule{}) // it says who may call
	if err != nil {
		return configFile{}, []error{fmt.Errorf("--%s: file %q %w", configFlag, path, err)}
	}
	return parseConfig(path, content, flags)
}

var yamlPlace = regexp.MustCompile(`^yaml: (?:line ([0-9]+): )?`)

func parseConfig(path string, content []byte, flags []*kong.Flag) (file configFile, problems []error) {
	file = configFile{values: map[string]any{}, places: map[string]string{}}
	wrong := func(line int, format string, args ...any) {
		problems = append(problems, fmt.Errorf("%s:%d: %w", path, line, fmt.Errorf(format, args...)))
	}
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	var document, second yaml.Node
	if err := decoder.Decode(&document); errors.Is(err, io.EOF) {
		return file, nil
	} else if err != nil {
		return file, []error{unreadable(path, err)}
	}
	if err := decoder.Decode(&second); err == nil {
		wrong(second.Line, "a second document is not taken")
	} else if !errors.Is(err, io.EOF) {
		problems = append(problems, unreadable(path, err))
	}
	top := document.Content[0]
	if top.Kind == yaml.ScalarNode && top.ShortTag() == "!!null" {
		return file, problems // nothing but comments
	}
	if top.Kind != yaml.MappingNode {
		wrong(top.Line, "the file must be a mapping, such as: listen: 127.0.0.1:50051")
		return file, problems
	}
	known := map[string]*kong.Flag{}
	var names []string
	for _, flag := range flags {
		if !global(flag) && !slices.Contains(asked, flag.Name) {
			known[flag.Name] = flag
			names = append(names, flag.Name)
		}
	}
	for i := 0; i < len(top.Content); i += 2 {
		key, value := top.Content[i], top.Content[i+1]
		name := key.Value
		flag, ok := known[name]
		switch place, before := file.places[name]; {
		case key.Kind != yaml.ScalarNode:
			wrong(key.Line, "a key must be a word")
		case strings.EqualFold(name, "keyset"):
			wrong(key.Line, "a keyset does not stand in a file of settings: %s has it, or a key-file names one", keysetVariable)
		case slices.Contains(asked, name):
			wrong(key.Line, "%q is a flag only", name)
		case !ok:
			if near := nearest(name, names); near != "" {
				wrong(key.Line, "unknown key %.40q, did you mean %q?", name, near)
			} else {
				wrong(key.Line, "unknown key %.40q", name)
			}
		case before:
			wrong(key.Line, "%s is set before, at %s", name, place)
		default:
			file.places[name] = fmt.Sprintf("%s:%d", path, key.Line)
			read, err := valueOf(value, flag)
			if err != nil {
				wrong(value.Line, "%s: %w", name, err)
				continue
			}
			file.values[name] = read
		}
	}
	return file, problems
}

// unreadable words an error of the YAML library.
func unreadable(path string, err error) error {
	place, said := path, err.Error()
	if found := yamlPlace.FindStringSubmatch(said); found != nil {
		said = said[len(found[0]):]
		if found[1] != "" {
			place += ":" + found[1]
		}
	}
	return fmt.Errorf("%s: not readable as YAML: %s", place, oneLine(said))
}

// valueOf returns the value of a flag as its text, or as a list of texts. What the text must be is the flag's.
func valueOf(node *yaml.Node, flag *kong.Flag) (any, error) {
	if node.Kind != yaml.SequenceNode {
		return scalarOf(node, flag)
	}
	if !flag.IsSlice() {
		return nil, errors.New("takes one value, and is a list")
	}
	list := []any{}
	for _, element := range node.Content {
		text, err := scalarOf(element, flag)
		if err != nil {
			return nil, err
		}
		list = append(list, text)
	}
	return list, nil
}

func scalarOf(node *yaml.Node, flag *kong.Flag) (string, error) {
	switch {
	case node.Kind == yaml.AliasNode:
		return "", errors.New("an alias is not taken: write the value")
	case node.Kind != yaml.ScalarNode:
		return "", errors.New("takes a single value, and is a mapping or a list in a list")
	}
	switch node.ShortTag() {
	case "!!null":
		return "", errors.New("has no value: give one, or leave it out")
	case "!!bool":
		if !flag.IsBool() {
			return "", fmt.Errorf("takes %s, and is true or false", strings.Trim(flag.FormatPlaceHolder(), `"`))
		}
	case "!!str", "!!int", "!!float", "!!timestamp":
		if flag.IsBool() {
			return "", errors.New("takes true or false")
		}
	default:
		return "", errors.New("takes a text, a number, true or false")
	}
	return node.Value, nil
}
