package main

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// flagsOf are the names of the flags that a command has.
func flagsOf(node *kong.Node) (names []string) {
	for _, flag := range slices.Concat(node.AllFlags(false)...) {
		names = append(names, flag.Name)
	}
	return names
}

// commandOf returns the command that words begin with; nil if they begin with none.
func commandOf(node *kong.Node, words []string) *kong.Node {
	for _, word := range words {
		at := slices.IndexFunc(node.Children, func(child *kong.Node) bool { return child.Name == word })
		if at < 0 {
			break
		}
		node = node.Children[at]
	}
	if node.Type == kong.ApplicationNode {
		return nil
	}
	return node
}

// What deployments and their guides set and call is there: commands, their flags, and the flags in configuration files.
func TestFlagsOfDeployments(t *testing.T) {
	t.Parallel()
	var cli commandLine
	parser, err := kong.New(&cli, kong.Vars{"version": ""})
	must(t, err)
	flag := regexp.MustCompile(`--([a-z][a-z-]*[a-z])`)
	mustHave := func(where string, command *kong.Node, names ...string) {
		t.Helper()
		for _, name := range names {
			if !slices.Contains(flagsOf(command), name) {
				t.Errorf("%s: %s has no flag --%s", where, command.Path(), name)
			}
		}
	}
	named := func(text string) (names []string) {
		for _, match := range flag.FindAllStringSubmatch(text, -1) {
			names = append(names, match[1])
		}
		return names
	}

	// Each call of the program, up to the end of its line, or of what the text shows of it.
	call := regexp.MustCompile("(?:^|[ /`(\n])zendeskblocks(?::1\\.2\\.3)?\"?,? \"?([a-z][^`\n;&|)]*)")
	for _, file := range []string{runbook, deploymentGuide, "deploy/systemd/zendeskblocks.service", "deploy/systemd/zendeskblocks-backup.service", "deploy/Containerfile"} {
		found := 0
		for _, match := range call.FindAllStringSubmatch(strings.ReplaceAll(readGuide(t, file), "\\\n", " "), -1) {
			words := strings.Fields(strings.NewReplacer(`"`, "", `,`, " ", `]`, "").Replace(match[1]))
			if command := commandOf(parser.Model.Node, words); command != nil {
				found++
				mustHave(file+": "+match[1], command, named(match[1])...)
			}
		}
		if found == 0 {
			t.Errorf("%s calls nothing", file)
		}
	}
	command := func(name string) *kong.Node {
		found := commandOf(parser.Model.Node, []string{name})
		if found == nil {
			t.Fatalf("there is no command %s", name)
		}
		return found
	}
	serve := command("serve")
	for file, command := range map[string]*kong.Node{
		"deploy/kubernetes/statefulset.yaml": serve, "deploy/kubernetes/backup.yaml": command("backup"),
		"deploy/kubernetes-replicas/deployment.yaml": serve, "deploy/kubernetes-replicas/migrate.yaml": command("migrate"),
	} {
		mustHave(file, command, named(regexp.MustCompile(`(?m)#.*$`).ReplaceAllString(readGuide(t, file), ""))...)
	}

	key := regexp.MustCompile(`(?m)^ *([a-z-]+): `)
	for where, text := range map[string]string{
		"deploy/kubernetes/config.yaml":          readGuide(t, "deploy/kubernetes/config.yaml"),
		"deploy/kubernetes-replicas/config.yaml": readGuide(t, "deploy/kubernetes-replicas/config.yaml"),
		deploymentGuide:                          fenced(t, strings.ReplaceAll(readGuide(t, deploymentGuide), "\n   ", "\n"), "yaml", "token-file: /etc"),
		deploymentGuide + ", browsers":           fenced(t, strings.ReplaceAll(readGuide(t, deploymentGuide), "\n   ", "\n"), "yaml", "web-listen: "),
	} {
		found := 0
		for _, match := range key.FindAllStringSubmatch(text, -1) {
			mustHave(where, serve, match[1])
			found++
		}
		if found == 0 {
			t.Errorf("%s sets nothing", where)
		}
	}

	// Variables that the manifests and guides set are those of flags.
	known := []string{"ZENDESKBLOCKS_TOKEN", keysetVariable}
	eachFlag(parser.Model.Node, func(flag *kong.Flag) { known = append(known, envName(flag.Name)) })
	for _, file := range []string{runbook, deploymentGuide, "deploy/kubernetes/statefulset.yaml", "deploy/kubernetes-web/pod.yaml"} {
		for _, name := range regexp.MustCompile(`ZENDESKBLOCKS_[A-Z_]+`).FindAllString(readGuide(t, file), -1) {
			if !slices.Contains(known, name) {
				t.Errorf("%s: nothing reads %s", file, name)
			}
		}
	}
}
