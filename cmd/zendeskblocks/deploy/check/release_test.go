package check

import (
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goreleaser/goreleaser/v2/pkg/config"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// The configuration of goreleaser has no field that it does not know, and names files that are there.
func TestGoreleaser(t *testing.T) {
	project, err := config.Load("../goreleaser.yaml")
	must(t, err)
	if project.Version != 2 || len(project.Builds) != 1 || len(project.Archives) != 1 || len(project.SBOMs) != 1 {
		t.Fatalf("version %d, %d builds, %d archives, %d bills of material", project.Version, len(project.Builds), len(project.Archives), len(project.SBOMs))
	}
	root := os.DirFS("../../../..")
	for _, file := range project.Archives[0].Files {
		if matches, err := fs.Glob(root, file.Source); err != nil || len(matches) == 0 {
			t.Errorf("no file is %s: %v", file.Source, err)
		}
	}
	build := project.Builds[0]
	if !slices.Contains(build.Env, "CGO_ENABLED=0") || !slices.Contains(build.Flags, "-trimpath") || build.ModTimestamp == "" {
		t.Errorf("the binary is not static, or not the same each time: %q, %q, %q", build.Env, build.Flags, build.ModTimestamp)
	}
	if got, want := stamped(build.Ldflags...), stamped(containerfile(t)); !slices.Equal(got, want) || len(got) != 3 {
		t.Errorf("releases are stamped with %q, images with %q", got, want)
	}
}

// stamped are the variables that texts set by -X.
func stamped(texts ...string) (names []string) {
	for _, text := range texts {
		for _, match := range regexp.MustCompile(`-X (main\.\w+)=`).FindAllStringSubmatch(text, -1) {
			names = append(names, match[1])
		}
	}
	slices.Sort(names)
	return names
}

func containerfile(t *testing.T) string {
	text, err := os.ReadFile("../Containerfile")
	must(t, err)
	return string(text)
}

// The Containerfile is one that BuildKit reads and has nothing to say of; its bases have digests, and the image has no root and no
// shell.
func TestContainerfile(t *testing.T) {
	parsed, err := parser.Parse(strings.NewReader(containerfile(t)))
	must(t, err)
	for _, warning := range parsed.Warnings {
		t.Errorf("%s", warning.Short)
	}
	stages, arguments, err := instructions.Parse(parsed.AST, linter.New(&linter.Config{
		Warn: func(rule, _, _, message string, _ []parser.Range) { t.Errorf("%s: %s", rule, message) },
	}))
	must(t, err)
	bases := map[string]string{}
	for _, argument := range arguments {
		for _, pair := range argument.Args {
			if pair.Value != nil {
				bases["${"+pair.Key+"}"] = *pair.Value
			}
		}
	}
	pinned := regexp.MustCompile(`:[\w.-]+@sha256:[0-9a-f]{64}$`)
	for _, stage := range stages {
		if base := bases[stage.BaseName]; !pinned.MatchString(base) {
			t.Errorf("stage %q is made from %q, which is %q", stage.Name, stage.BaseName, base)
		}
	}
	said := map[string]bool{}
	for _, command := range stages[len(stages)-1].Commands {
		said[command.Name()] = true
		switch c := command.(type) {
		case *instructions.UserCommand:
			if !regexp.MustCompile(`^[1-9]\d*:[1-9]\d*$`).MatchString(c.User) {
				t.Errorf("the user is %q", c.User)
			}
		case *instructions.EntrypointCommand:
			if c.PrependShell {
				t.Error("it is started by a shell, which is not there")
			}
		case *instructions.CmdCommand:
			if c.PrependShell {
				t.Error("it is started by a shell, which is not there")
			}
		case *instructions.HealthCheckCommand:
			if c.Health.Test[0] != "CMD" {
				t.Errorf("health is asked by %q", c.Health.Test[0])
			}
		case *instructions.RunCommand:
			t.Errorf("the image would run %q, and has no shell", c.CmdLine)
		}
	}
	for _, name := range []string{"USER", "ENTRYPOINT", "HEALTHCHECK", "EXPOSE", "VOLUME", "STOPSIGNAL"} {
		if !said[strings.ToLower(name)] && !said[name] {
			t.Errorf("the image has no %s", name)
		}
	}
}

// The image is built from every folder of packages that there is.
func TestContainerfileCopiesAll(t *testing.T) {
	entries, err := os.ReadDir("../../../..")
	must(t, err)
	for _, entry := range entries {
		if entry.IsDir() && !strings.HasPrefix(entry.Name(), ".") && !strings.Contains(containerfile(t), "\nCOPY "+entry.Name()+" "+entry.Name()+"\n") {
			t.Errorf("%s is not copied", entry.Name())
		}
	}
}
