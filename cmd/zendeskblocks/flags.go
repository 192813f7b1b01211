package main

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// envPrefix starts the name of every flag's environment variable: --key-file is ZENDESKBLOCKS_KEY_FILE.
const envPrefix = "ZENDESKBLOCKS_"

// keysetVariable holds the keyset itself. It has no flag: command lines are seen by everyone on the machine.
const keysetVariable = envPrefix + "KEYSET"

func envName(flag string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// environment is the values of variables by their names.
type environment map[string]string

// newEnvironment takes NAME=VALUE, as os.Environ gives it.
func newEnvironment(environ []string) environment {
	env := environment{}
	for _, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		env[name] = value
	}
	return env
}

// serviceLink is what Kubernetes puts into the environment of every pod, of each service in its namespace; here of one
// whose name begins with zendeskblocks. https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
var serviceLink = regexp.MustCompile(`^([A-Z0-9_]*_)?(SERVICE_HOST=|SERVICE_PORT(_[A-Z0-9_]+)?=[0-9]*$|PORT=(tcp|udp|sctp)://|PORT_[0-9]+_(TCP|UDP|SCTP)(_[A-Z]+)?=)`)

// unknown says which variables of ours nothing reads: a slip in a name must not pass for a setting. It does not show their
// values, which may be secret.
func (e environment) unknown(known []string) (problems []error) {
	for _, name := range slices.Sorted(maps.Keys(e)) {
		setting, ours := strings.CutPrefix(name, envPrefix)
		if !ours || slices.Contains(known, name) || serviceLink.MatchString(setting+"="+e[name]) {
			continue
		}
		problem := fmt.Sprintf("unknown variable %s", name)
		if near := nearest(name, known); near != "" {
			problem += fmt.Sprintf(", did you mean %s?", near)
		}
		problems = append(problems, errors.New(problem))
	}
	return problems
}

// nearest returns the name that was probably meant by another one; empty when none is near.
func nearest(name string, known []string) string {
	near, least := "", 0
	for _, k := range known {
		d := distance(strings.TrimPrefix(name, envPrefix), strings.TrimPrefix(k, envPrefix))
		if strings.HasPrefix(name, k) || strings.HasPrefix(k, name) {
			d = min(d, 2)
		}
		if near == "" || d < least {
			near, least = k, d
		}
	}
	if least > max(1, len(strings.TrimPrefix(name, envPrefix))/3) {
		return ""
	}
	return near
}

// distance is how many bytes must be put in, taken out or replaced to make b of a (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			changed := diagonal
			if a[i] != b[j] {
				changed++
			}
			diagonal = row[j+1]
			row[j+1] = min(changed, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// checked is a command whose flags have rules. Its problems are told with those of all other flags and variables.
type checked interface{ problems() []error }

// sourced is a command with rules about where values are from.
type sourced interface{ sourceProblems(from sources) []error }

// heedsVariables is a command that heeds variables of others, such as OpenTelemetry's.
type heedsVariables interface{ variableProblems(environment) []error }

// parse reads a command line and its variables. Its error joins everything that is wrong with them. The command is nil when
// help or the version was asked for, and shown.
func (p *process) parse(args []string) (*kong.Context, error) {
	values := &valueReader{env: p.env, sources: map[*kong.Value]string{}}
	shown := false
	parser, err := kong.New(&commandLine{},
		kong.Name("zendeskblocks"),
		kong.Description("The Zendesk blocks of contact-centre scenarios, as a gRPC service. Every flag has a variable, which the flag overrides: --key-file is "+envName("key-file")+"."),
		kong.Vars{"version": programVersion()},
		kong.Writers(p.stdout, p.stderr),
		kong.Exit(func(int) { shown = true }),
		kong.Resolvers(kong.ResolverFunc(values.resolve)),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.ValueFormatter(withDefault),
	)
	if err != nil {
		return nil, err
	}
	variables := []string{keysetVariable, tokenVariable, clientSecretVariable}
	eachFlag(parser.Model.Node, func(flag *kong.Flag) {
		if !global(flag) {
			variables = append(variables, envName(flag.Name))
		}
		flag.Mapper = lenient{Mapper: flag.Mapper, values: values}
	})
	problems := p.env.unknown(variables)
	args, unknown := knownFlags(parser.Model.Node, args)

	command, err := parser.Parse(args)
	if shown {
		return nil, nil
	}
	if failed, ok := errors.AsType[*kong.ParseError](err); ok {
		command = failed.Context
	}
	help := "zendeskblocks --help"
	if command != nil && command.Selected() != nil {
		help = "zendeskblocks " + command.Selected().Path() + " --help"
	}
	for _, flag := range unknown {
		problems = append(problems, fmt.Errorf("%w (see %s)", flag, help))
	}
	p.file = values.file
	problems = append(problems, values.problems...)
	if err != nil && (len(unknown) == 0 || command != nil && command.Error == nil) {
		problems = append(problems, fmt.Errorf("%w (see %s)", err, help))
	}
	// Without an error of the trace the flags have their values, also when one is missing.
	if command != nil && command.Error == nil && command.Selected() != nil {
		if err == nil && len(values.problems) == 0 {
			p.settings = settingsOf(command, values)
		}
		if c, ok := command.Selected().Target.Addr().Interface().(checked); ok {
			problems = append(problems, c.problems()...)
		}
		if c, ok := command.Selected().Target.Addr().Interface().(sourced); ok {
			problems = append(problems, c.sourceProblems(values.sourcesOf(command))...)
		}
		if c, ok := command.Selected().Target.Addr().Interface().(heedsVariables); ok {
			problems = append(problems, c.variableProblems(p.env)...)
		}
	}
	return command, errors.Join(problems...)
}

// eachFlag visits the flags of a node and of those below.
func eachFlag(node *kong.Node, visit func(*kong.Flag)) {
	for _, flag := range node.Flags {
		visit(flag)
	}
	for _, child := range node.Children {
		eachFlag(child, visit)
	}
}

// global tells the flags that ask for something else than the command from those that set something.
func global(flag *kong.Flag) bool { return flag.Name == "help" || flag.Name == "version" }

// knownFlags returns the arguments without the flags that the command does not have, and what is wrong with those. A value
// that follows one goes with it.
func knownFlags(node *kong.Node, args []string) (known []string, problems []error) {
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			return append(known, args[i:]...), problems
		}
		long, isFlag := strings.CutPrefix(arg, "--")
		if !isFlag {
			if at := slices.IndexFunc(node.Children, func(child *kong.Node) bool { return child.Name == arg }); at >= 0 {
				node = node.Children[at]
			}
			known = append(known, arg)
			continue
		}
		name, _, whole := strings.Cut(long, "=")
		var names []string
		for _, flag := range slices.Concat(node.AllFlags(false)...) {
			names = append(names, flag.Name)
			if flag.Tag.Negatable != "" {
				names = append(names, "no-"+flag.Name)
			}
		}
		if slices.Contains(names, name) {
			known = append(known, arg)
			continue
		}
		problem := "unknown flag --" + name
		if near := nearest(name, names); near != "" {
			problem += fmt.Sprintf(", did you mean --%s?", near)
		}
		problems = append(problems, errors.New(problem))
		if !whole && i+1 < len(args) && !strings.HasPrefix(args[i+1], "-") && len(node.Children) == 0 {
			i++
		}
	}
	return known, problems
}

// valueReader reads the values of flags, variables and the configuration file, and collects what cannot be read.
type valueReader struct {
	env      environment
	file     *configFile            // nil: not looked for yet
	sources  map[*kong.Value]string // of values that are not from the command line
	problems []error
}

// resolve gives flags that are not on the command line the value of their variable, or else of the configuration file.
func (r *valueReader) resolve(ctx *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	if global(flag) {
		return nil, nil
	}
	if value := r.env[envName(flag.Name)]; value != "" {
		r.sources[flag.Value] = envName(flag.Name)
		return value, nil
	}
	if r.file == nil {
		r.file = r.configFile(ctx)
	}
	if value, ok := r.file.values[flag.Name]; ok {
		r.sources[flag.Value] = r.file.places[flag.Name]
		return value, nil
	}
	return nil, nil
}

// sourcesOf says where the values of a command's flags are from.
func (r *valueReader) sourcesOf(command *kong.Context) sources {
	return func(name string) string {
		for _, flag := range command.Selected().Flags {
			switch {
			case flag.Name != name:
			case r.sources[flag.Value] != "":
				return r.sources[flag.Value]
			case onCommandLine(command, flag):
				return "--" + name
			}
		}
		return ""
	}
}

// onCommandLine says whether a flag stands there.
func onCommandLine(command *kong.Context, flag *kong.Flag) bool {
	return slices.ContainsFunc(command.Path, func(p *kong.Path) bool { return p.Flag == flag && !p.Resolved })
}

// configFile reads the configuration file, if the command takes one and one is named.
func (r *valueReader) configFile(ctx *kong.Context) *configFile {
	node := ctx.Selected()
	if node == nil {
		return &configFile{}
	}
	at := slices.IndexFunc(node.Flags, func(flag *kong.Flag) bool { return flag.Name == configFlag })
	if at < 0 {
		return &configFile{}
	}
	path := r.env[envName(configFlag)]
	if onCommandLine(ctx, node.Flags[at]) {
		path, _ = ctx.FlagValue(node.Flags[at]).(string)
	}
	if path == "" {
		return &configFile{}
	}
	file, problems := readConfig(path, node.Flags)
	r.problems = append(r.problems, problems...)
	return &file
}

// lenient reads as another mapper does. A value that cannot be read is noted instead of ending the work, so that all
// problems are told at once.
type lenient struct {
	kong.Mapper
	values *valueReader
}

// Decode implements kong.Mapper.
func (l lenient) Decode(ctx *kong.DecodeContext, target reflect.Value) error {
	hasValue := ctx.Scan.Peek().IsValue()
	err := l.Mapper.Decode(ctx, target)
	if err == nil || !hasValue {
		return err
	}
	name := "--" + ctx.Value.Name
	if source := l.values.sources[ctx.Value]; strings.HasPrefix(source, envPrefix) {
		name = source
	} else if source != "" {
		name = source + ": " + ctx.Value.Name
	}
	l.values.problems = append(l.values.problems, fmt.Errorf("%s: %w", name, err))
	if !ctx.Value.HasDefault {
		return nil
	}
	// What has no value breaks no other rule.
	return l.Mapper.Decode(ctx.WithScanner(kong.ScanFromTokens(kong.Token{Type: kong.FlagValueToken, Value: ctx.Value.Default})), target)
}

// IsBool implements kong.BoolMapper.
func (l lenient) IsBool() bool {
	b, ok := l.Mapper.(kong.BoolMapper)
	return ok && b.IsBool()
}

// withDefault words the help of a flag.
func withDefault(value *kong.Value) string {
	if value.Default == "" {
		return value.Help
	}
	return value.Help + " Default: " + value.Default + "."
}
