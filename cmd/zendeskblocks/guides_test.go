package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"image/png"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	_ "google.golang.org/genproto/googleapis/rpc/errdetails" // what details of errors are
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthsrv "google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
)

var update = flag.Bool("update", false, "run the commands of the guides, with the grpcurl and curl of the path, and write what they print into the guides")

// The guides, from here, and the addresses that are in them.
const (
	readme        = "../../README.md"
	clientGuide   = "../../proto/README.md"
	operatorGuide = "README.md"

	guideAddress = "127.0.0.1:50051"
	guideSandbox = "127.0.0.1:50080"
)

func readGuide(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	return string(text)
}

// example is a command of a guide, and what the guide says that it prints.
type example struct {
	command string // may span lines, with a here-document
	prints  string
	until   string // the command is repeated until it prints this; empty: it is run once
	start   int    // of what it prints, in the guide
	end     int
}

// A console block has commands, each after "$ ", and what they print. A comment before it can say what to wait for.
var consoleBlock = regexp.MustCompile("(?s)(?:<!-- until: ([^\n]*) -->\n+)?```console\n(.*?)```")

// examplesOf returns the examples of a guide.
func examplesOf(text string) (examples []example) {
	for _, at := range consoleBlock.FindAllStringSubmatchIndex(text, -1) {
		until := ""
		if at[2] >= 0 {
			until = text[at[2]:at[3]]
		}
		hereEnd, inCommand := "", false
		for offset := at[4]; offset < at[5]; {
			line := text[offset : offset+strings.IndexByte(text[offset:], '\n')+1]
			offset += len(line)
			last := len(examples) - 1
			switch {
			case hereEnd == "" && strings.HasPrefix(line, "$ "):
				examples = append(examples, example{command: line[2:], until: until, start: offset, end: offset})
				if _, name, found := strings.Cut(line, "<<'"); found {
					hereEnd, inCommand = strings.TrimRight(name, "'\n"), true
				}
			case inCommand:
				examples[last].command += line
				examples[last].start, examples[last].end = offset, offset
				if line == hereEnd+"\n" {
					hereEnd, inCommand = "", false
				}
			default:
				examples[last].prints += line
				examples[last].end = offset
			}
		}
	}
	return examples
}

func TestExamplesOf(t *testing.T) {
	got := examplesOf("a\n```console\n$ one <<'JSON'\n{}\nJSON\nprinted\n$ two\n```\n\n<!-- until: DONE -->\n\n```console\n$ three\nDONE\n```\n```sh\n$ none\n```\n")
	for i := range got {
		got[i].start, got[i].end = 0, 0
	}
	want := []example{
		{command: "one <<'JSON'\n{}\nJSON\n", prints: "printed\n"}, {command: "two\n"}, {command: "three\n", prints: "DONE\n", until: "DONE"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("examples are %+v, want %+v", got, want)
	}
}

// volatile is what is another one each time: values of JSON by their names, times, tokens and keys.
var (
	identifier = regexp.MustCompile(`"(activityId|screenPopId|deliveryId|etag|nextPageToken|zendeskRequestId|code)":\s*"([^"]*)"`)
	// A stream whose time is over ends with what either side says of it, whoever is first.
	overdue  = regexp.MustCompile(`(?s)ERROR:\n  Code: DeadlineExceeded\n.*`)
	volatile = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z|"latency": "[^"]*"|zendeskblocks_[a-z2-7]{52}|\b[A-Z2-7]{26}\b|"storedBytes": "\d{4,5}"|\b\d{7,10}\b| bytes? and has \d+|\b\d+ bytes\b|\b\d+ of them free in \d+ pages|OPENED  \d+|INSTANCE +[0-9a-f]{16}`)
)

// comparable returns what a command prints, without what is another one each time.
func comparable(prints string) string {
	prints = identifier.ReplaceAllString(prints, `"$1": "…"`)
	return volatile.ReplaceAllString(overdue.ReplaceAllString(prints, "its time is over"), "…")
}

// pairs returns identifiers of one output with those in the same places of another.
func pairs(before, now string) (oldNew []string) {
	values := func(text string) map[string][]string {
		found := map[string][]string{}
		for _, match := range identifier.FindAllStringSubmatch(text, -1) {
			found[match[1]] = append(found[match[1]], match[2])
		}
		return found
	}
	nows := values(now)
	for name, olds := range values(before) {
		for i, old := range olds {
			if i < len(nows[name]) && old != "" {
				oldNew = append(oldNew, old, nows[name][i])
			}
		}
	}
	return oldNew
}

// Every command of the guides' console blocks prints what the guides say. Each guide has a service with a sandbox of its own.
// With -update the guides are written anew, with what grpcurl and curl themselves print.
func TestGuides(t *testing.T) {
	for name, path := range map[string]string{"readme": readme, "client": clientGuide, "operator": operatorGuide} {
		t.Run(name, func(t *testing.T) {
			path, err := filepath.Abs(path)
			must(t, err)
			checkGuide(t, path)
		})
	}
}

func checkGuide(t *testing.T, path string) {
	text := readGuide(t, path)
	examples := examplesOf(text)
	if len(examples) == 0 {
		t.Fatal("the guide has no commands")
	}
	t.Chdir(t.TempDir())
	p := startProgram(t, "serve", "--listen", "127.0.0.1:0", "--sandbox", "--sandbox-listen", "127.0.0.1:0")
	address := p.await(t, p.stderr, `msg=serving address=(\S+)`)
	sandbox := p.await(t, p.stderr, `msg="serving a fake Zendesk" origin=http://(\S+)`)
	// Sandboxes of the guide's address and of this one look the same to whoever reads them.
	here, there := strings.NewReplacer(guideAddress, address, guideSandbox, sandbox), strings.NewReplacer(address, guideAddress, sandbox, guideSandbox)

	execute := inProcess
	if *update {
		execute = inShell
	}
	var ids []string // of the guide, each with the one that it is now
	var written strings.Builder
	done := 0
	for _, example := range examples {
		command := strings.NewReplacer(ids...).Replace(example.command)
		want := strings.NewReplacer(ids...).Replace(example.prints)
		var prints string
		once := func() bool {
			var err error
			prints, err = execute(t, here.Replace(command))
			must(t, err)
			if prints = there.Replace(prints); prints != "" && !strings.HasSuffix(prints, "\n") {
				prints += "\n"
			}
			if *update {
				return example.until == "" || strings.Contains(prints, example.until)
			}
			return example.until == "" || comparable(prints) == comparable(want)
		}
		until(t, "this prints what the guide says: "+command, once)
		if !*update && comparable(prints) != comparable(want) {
			t.Fatalf("%s\nprints\n%s\nand the guide says that it prints\n%s", command, prints, want)
		}
		ids = append(pairs(example.prints, prints), ids...)
		written.WriteString(strings.Replace(text[done:example.start], example.command, command, 1))
		written.WriteString(prints)
		done = example.end
	}
	if *update {
		must(t, os.WriteFile(path, []byte(written.String()+text[done:]), 0o600))
	}
}

// inShell runs a command as a reader of the guide does.
func inShell(t *testing.T, command string) (string, error) {
	if strings.HasPrefix(command, "zendeskblocks ") {
		return inProcess(t, command) // which is this process
	}
	prints, err := exec.CommandContext(t.Context(), "bash", "-c", quietly(command)).CombinedOutput()
	if _, failed := errors.AsType[*exec.ExitError](err); failed {
		err = nil // some are to fail
	}
	return string(prints), err
}

// inProcess does what a command would do, for those that the guides have, and prints the same.
func inProcess(t *testing.T, command string) (string, error) {
	line, input, _ := strings.Cut(command, "\n")
	line, _, _ = strings.Cut(line, " <<'")
	words := wordsOf(line)
	switch words[0] {
	case "grpcurl":
		return grpcurl(t, words[1:], input)
	case "curl":
		return curl(t, words[1:])
	case "zendeskblocks":
		stdout, stderr, _ := runCommand(t, nil, words[1:]...)
		return stdout + stderr, nil
	}
	return "", fmt.Errorf("the guides have commands that this test does not know: %s", words[0])
}

// wordsOf splits a command line as a shell does. Of its syntax only white space and single quotes are known.
func wordsOf(line string) (words []string) {
	word, quoted, begun := "", false, false
	for _, r := range line + " " {
		switch {
		case r == '\'':
			quoted, begun = !quoted, true
		case r == ' ' && !quoted:
			if begun {
				words = append(words, word)
			}
			word, begun = "", false
		default:
			word, begun = word+string(r), true
		}
	}
	return words
}

// curl makes a request as curl does: a POST when it has a body.
func curl(t *testing.T, args []string) (string, error) {
	method, body, url := http.MethodGet, "", ""
	for i := 0; i < len(args); i++ {
		switch args[i] {
		case "-s":
		case "-d":
			i++
			method, body = http.MethodPost, args[i]
		case "-X":
			i++
			method = args[i]
		default:
			url = args[i]
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+url, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	prints, err := io.ReadAll(resp.Body)
	return string(prints), errors.Join(err, resp.Body.Close())
}

// grpcurl makes a call as grpcurl does, and words the answer as it does.
func grpcurl(t *testing.T, args []string, input string) (string, error) {
	ctx := t.Context()
	data, place := "", []string(nil)
	for i := 0; i < len(args); i++ {
		switch args[i] {
		case "-plaintext":
		case "-d":
			i++
			data = args[i]
		case "-H":
			i++
			name, value, _ := strings.Cut(args[i], ": ")
			ctx = metadata.AppendToOutgoingContext(ctx, name, value)
		case "-max-time":
			i++
			seconds, err := strconv.Atoi(args[i])
			if err != nil {
				return "", err
			}
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, time.Duration(seconds)*time.Second)
			defer cancel()
		default:
			place = append(place, args[i])
		}
	}
	if data == "@" {
		data = input[:strings.LastIndexByte(strings.TrimSuffix(input, "\n"), '\n')+1]
	}
	service, name, _ := strings.Cut(place[1], "/")
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
	if err != nil {
		return "", err
	}
	method := found.(protoreflect.ServiceDescriptor).Methods().ByName(protoreflect.Name(name))
	if method == nil {
		return "", fmt.Errorf("no such method: %s", place[1])
	}
	request := dynamicpb.NewMessage(method.Input())
	if data != "" {
		if err := protojson.Unmarshal([]byte(maskAsText(data)), request); err != nil {
			return "", fmt.Errorf("%s: %w", place[1], err)
		}
	}
	conn, err := grpc.NewClient(place[0], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return "", err
	}
	defer func() { must(t, conn.Close()) }()
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/"+place[1])
	if err != nil {
		return "", err
	}
	if err := errors.Join(stream.SendMsg(request), stream.CloseSend()); err != nil {
		return "", err
	}
	var out strings.Builder
	for {
		reply := dynamicpb.NewMessage(method.Output())
		if err := stream.RecvMsg(reply); errors.Is(err, io.EOF) {
			return out.String(), nil
		} else if err != nil {
			return out.String() + wordStatus(t, status.Convert(err)), nil
		}
		out.WriteString(indented(t, marshalled(t, reply)) + "\n")
	}
}

// maskAsText words a field mask as protobuf's JSON does. grpcurl takes the message.
func maskAsText(data string) string {
	return regexp.MustCompile(`(?s)"update_mask":\s*\{\s*"paths":\s*\[(.*?)\]\s*\}`).ReplaceAllStringFunc(data, func(mask string) string {
		_, paths, _ := strings.Cut(mask, "[")
		paths, _, _ = strings.Cut(strings.ReplaceAll(paths, `"`, ""), "]")
		camel := regexp.MustCompile(`_[a-z]`).ReplaceAllStringFunc(paths, func(s string) string { return strings.ToUpper(s[1:]) })
		return fmt.Sprintf(`"update_mask": %q`, strings.ReplaceAll(camel, " ", ""))
	})
}

func marshalled(t *testing.T, m proto.Message) []byte {
	t.Helper()
	text, err := protojson.Marshal(m)
	must(t, err)
	return text
}

// indented is JSON as grpcurl prints it.
func indented(t *testing.T, text []byte) string {
	t.Helper()
	var escaped, out bytes.Buffer
	json.HTMLEscape(&escaped, text)
	must(t, json.Indent(&out, escaped.Bytes(), "", "  "))
	return out.String()
}

// wordStatus words an error as grpcurl does.
func wordStatus(t *testing.T, s *status.Status) string {
	t.Helper()
	out := fmt.Sprintf("ERROR:\n  Code: %s\n  Message: %s\n", s.Code(), s.Message())
	for i, detail := range s.Proto().GetDetails() {
		if i == 0 {
			out += "  Details:\n"
		}
		m, err := detail.UnmarshalNew()
		must(t, err)
		fields := map[string]json.RawMessage{}
		must(t, json.Unmarshal(marshalled(t, m), &fields))
		fields["@type"], err = json.Marshal(detail.GetTypeUrl())
		must(t, err)
		text, err := json.Marshal(fields)
		must(t, err)
		out += fmt.Sprintf("  %d)\t%s\n", i+1, strings.ReplaceAll(indented(t, text), "\n", "\n    \t"))
	}
	return out
}

var fence = regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```$")

// fenced returns the block of a guide's code, in a language, that has a text in it.
func fenced(t testing.TB, guide, language, text string) string {
	t.Helper()
	for _, block := range fence.FindAllStringSubmatch(guide, -1) {
		if block[1] == language && strings.Contains(block[2], text) {
			return block[2]
		}
	}
	t.Fatalf("no block of %q has %q", language, text)
	return ""
}

// The README's layout has the folders of all packages, and no others.
func TestLayoutOfTheReadme(t *testing.T) {
	t.Parallel()
	var drawn, above []string
	for line := range strings.Lines(fenced(t, readGuide(t, readme), "", "cmd/zendeskblocks/ ")) {
		name := strings.TrimLeft(line, " ")
		depth := (len(line) - len(name)) / 2
		if name, _, found := strings.Cut(name, "/ "); found {
			above = append(above[:depth], name)
			drawn = append(drawn, strings.Join(above, "/"))
		}
	}
	var there []string
	must(t, filepath.WalkDir("../..", func(path string, entry os.DirEntry, err error) error {
		if err == nil && entry.IsDir() && (strings.HasPrefix(entry.Name(), ".") && entry.Name() != "..") {
			return filepath.SkipDir
		}
		if filepath.Ext(path) == ".go" {
			there = append(there, filepath.ToSlash(strings.TrimPrefix(filepath.Dir(path), "../../")))
		}
		return err
	}))
	slices.Sort(there)
	slices.Sort(drawn)
	if there = slices.Compact(there); !slices.Equal(drawn, there) {
		t.Errorf("the README draws\n%q\nand there are\n%q", drawn, there)
	}
}

// What the guides link to, and the files that they name, are there.
func TestLinksOfTheGuides(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\]\(([^): ]*)\)`)
	named := regexp.MustCompile("`((?:cmd|proto|server|store|zendeskapi)/[a-z0-9_/.]+)`")
	for _, guide := range []string{readme, clientGuide, operatorGuide, runbook, deploymentGuide} {
		text := fence.ReplaceAllString(readGuide(t, guide), "")
		for _, match := range link.FindAllStringSubmatch(text, -1) {
			path, fragment, _ := strings.Cut(match[1], "#")
			target := guide
			if path != "" {
				target = filepath.Join(filepath.Dir(guide), path)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s: %v", guide, match[1], err)
			} else if fragment != "" && !slices.Contains(anchorsOf(readGuide(t, target)), fragment) {
				t.Errorf("%s links to %s, and there is no such heading", guide, match[1])
			}
		}
		for _, match := range named.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join("../..", match[1])); err != nil {
				t.Errorf("%s names %s: %v", guide, match[1], err)
			}
		}
	}
}

// The pictures that the operator's guide shows are there, as PNG of some size, and it shows all that are.
func TestPicturesOfTheOperatorGuide(t *testing.T) {
	t.Parallel()
	var shown []string
	for _, match := range regexp.MustCompile(`!\[[^\]]+\]\((pictures/[^)]+)\)`).FindAllStringSubmatch(readGuide(t, operatorGuide), -1) {
		shown = append(shown, match[1])
		file, err := os.Open(match[1])
		must(t, err)
		seen, err := png.DecodeConfig(file)
		must(t, errors.Join(err, file.Close()))
		if seen.Width < 390 || seen.Height < 390 {
			t.Errorf("%s has %d by %d pixels", match[1], seen.Width, seen.Height)
		}
	}
	there, err := filepath.Glob("pictures/*")
	must(t, err)
	slices.Sort(shown)
	if len(shown) == 0 || !slices.Equal(shown, there) {
		t.Errorf("the guide shows %q, and there are %q", shown, there)
	}
}

// anchorsOf returns what links to the headings of a text end with, as GitHub makes it.
func anchorsOf(text string) (anchors []string) {
	for _, heading := range regexp.MustCompile("(?m)^#+ (.*)$").FindAllStringSubmatch(text, -1) {
		kept := regexp.MustCompile("[^a-z0-9_ -]").ReplaceAllString(strings.ToLower(heading[1]), "")
		anchors = append(anchors, strings.ReplaceAll(kept, " ", "-"))
	}
	return anchors
}

// methodsOf returns the methods of the API's services, or of one of them.
func methodsOf(t testing.TB, service string) (methods []protoreflect.MethodDescriptor) {
	t.Helper()
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			of := file.Services().Get(i)
			for j := range of.Methods().Len() {
				if strings.HasPrefix(string(of.FullName()), "scenarioblocks.") && (service == "" || service == string(of.Name())) {
					methods = append(methods, of.Methods().Get(j))
				}
			}
		}
		return true
	})
	if len(methods) == 0 {
		t.Fatalf("the API has no methods of %q", service)
	}
	return methods
}

// The walk calls every RPC, and each block leaves by NEXT at least once, having done something.
func TestWalkOfTheClientGuide(t *testing.T) {
	t.Parallel()
	called, done := map[string]bool{}, map[string]bool{}
	for _, example := range examplesOf(readGuide(t, clientGuide)) {
		words := strings.Fields(example.command[:strings.IndexByte(example.command+"\n", '\n')])
		for _, word := range words {
			if rpc, found := strings.CutPrefix(word, "scenarioblocks.zendesk.v1."); found {
				called[rpc] = true
				done[rpc] = done[rpc] || strings.Contains(example.prints, `"exit": "EXIT_NEXT"`) && !strings.Contains(example.command, "validate_only")
			}
		}
	}
	for _, method := range methodsOf(t, "") {
		rpc := fmt.Sprintf("%s/%s", method.Parent().Name(), method.Name())
		if rpc == "OperationsService/Backup" {
			continue // the operator's guide shows its command: what comes is not for people
		}
		if !called[rpc] || method.Parent().Name() == "BlockService" && !done[rpc] {
			t.Errorf("the walk does not show %s", rpc)
		}
	}
}

// The tables of the client guide have a row for each exit, policy and grade.
func TestTablesOfTheClientGuide(t *testing.T) {
	t.Parallel()
	guide := readGuide(t, clientGuide)
	for _, name := range []protoreflect.FullName{"Exit", "MatchPolicy", "MatchGrade"} {
		found, err := protoregistry.GlobalFiles.FindDescriptorByName("scenarioblocks.zendesk.v1." + name)
		must(t, err)
		values := found.(protoreflect.EnumDescriptor).Values()
		for i := 1; i < values.Len(); i++ { // the first is not specified
			if row := fmt.Sprintf("\n| `%s`", values.Get(i).Name()); !strings.Contains(guide, row) {
				t.Errorf("no table has a row for %s", values.Get(i).Name())
			}
		}
	}
}

// The program in Go of the client guide runs, with every block.
func TestProgramOfTheClientGuide(t *testing.T) {
	t.Parallel()
	guide, dir := readGuide(t, clientGuide), t.TempDir()
	source, binary := filepath.Join(dir, "main.go"), filepath.Join(dir, "client")
	must(t, os.WriteFile(source, []byte(fenced(t, guide, "go", "package main")), 0o600))
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, source).CombinedOutput(); err != nil {
		t.Fatalf("the guide's program is not built: %v\n%s", err, out)
	}
	want := fenced(t, guide, "text", "caller: ")
	checkProgram(t, dir, want, binary)
	for _, method := range methodsOf(t, "BlockService") {
		if !strings.Contains(want, fmt.Sprintf("%s EXIT_NEXT\n", method.Name())) {
			t.Errorf("it does not run %s", method.Name())
		}
	}
}

// The program for Node does the same, where Node and the packages that the guide names are: NODE_PATH says where.
func TestNodeProgramOfTheClientGuide(t *testing.T) {
	t.Parallel()
	const packages = "['@grpc/grpc-js', '@grpc/proto-loader', 'google-proto-files/package.json', 'protobufjs'].forEach(require)"
	if out, err := exec.CommandContext(t.Context(), "node", "-e", packages).CombinedOutput(); err != nil {
		t.Skipf("no Node with its packages: %v\n%s", err, out)
	}
	guide, dir := readGuide(t, clientGuide), t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "client.js"), []byte(fenced(t, guide, "js", "BlockService")), 0o600))
	must(t, os.CopyFS(filepath.Join(dir, "proto"), os.DirFS("../../proto")))
	inNode := strings.NewReplacer("InvalidArgument", "INVALID_ARGUMENT", "map[fields:recordset_name]", "{ fields: 'recordset_name' }")
	checkProgram(t, dir, inNode.Replace(fenced(t, guide, "text", "caller: ")), "node", "client.js")
}

// checkProgram runs a client in a folder against a service with a sandbox, and compares what it prints.
func checkProgram(t *testing.T, dir, want string, command ...string) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(dir, "service-config.json"), []byte(fenced(t, readGuide(t, clientGuide), "json", "methodConfig")), 0o600))
	p := startProgram(t, "serve", "--listen", "127.0.0.1:0", "--sandbox", "--sandbox-listen", "127.0.0.1:0", "--data", filepath.Join(dir, "data.db"))
	address := p.await(t, p.stderr, `msg=serving address=(\S+)`)
	sandbox := p.await(t, p.stderr, `msg="serving a fake Zendesk" origin=http://(\S+)`)
	cmd := exec.CommandContext(t.Context(), command[0], append(command[1:], address)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if got := strings.ReplaceAll(string(out), sandbox, guideSandbox); err != nil || got != want {
		t.Errorf("the guide's program ends with %v and prints\n%s\nand the guide says that it prints\n%s", err, got, want)
	}
}

// The service config of the client guide repeats what may be repeated, and nothing else, when the service is not there.
func TestServiceConfigOfTheClientGuide(t *testing.T) {
	t.Parallel()
	config := fenced(t, readGuide(t, clientGuide), "json", "methodConfig")
	for _, method := range methodsOf(t, "") {
		if method.IsStreamingServer() {
			continue // a watch is begun again by its caller, who knows what was seen
		}
		t.Run(string(method.FullName()), func(t *testing.T) {
			t.Parallel()
			want := 1
			if mayRepeat(method) {
				want = 2
			}
			if got := attempts(t, config, method); got != want {
				t.Errorf("a call that is answered UNAVAILABLE once is sent %d times, want %d", got, want)
			}
		})
	}
}

// With the entries for several replicas calls are spread over those that serve, and what one does not take another one does.
func TestReplicasOfTheClientGuide(t *testing.T) {
	t.Parallel()
	guide := readGuide(t, clientGuide)
	config := map[string]json.RawMessage{}
	for _, part := range []string{"methodConfig", "round_robin"} {
		must(t, json.Unmarshal([]byte(fenced(t, guide, "json", part)), &config))
	}
	merged, err := json.Marshal(config)
	must(t, err)
	type replica struct {
		health  *healthsrv.Server
		asked   atomic.Int64
		refuses atomic.Bool
	}
	var replicas [2]replica
	addresses := manual.NewBuilderWithScheme("replicas")
	var state resolver.State
	for i := range replicas {
		r := &replicas[i]
		r.health = healthsrv.NewServer()
		service := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
			if err := stream.RecvMsg(&zendeskv1.GetUsageRequest{}); err != nil {
				return err
			}
			r.asked.Add(1)
			if r.refuses.Load() {
				return status.Error(codes.Unavailable, "the service is shutting down")
			}
			return stream.SendMsg(&zendeskv1.GetUsageResponse{})
		}))
		healthv1.RegisterHealthServer(service, r.health)
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		served := make(chan error, 1)
		go func() { served <- service.Serve(listener) }()
		t.Cleanup(func() {
			service.Stop()
			must(t, <-served)
		})
		state.Addresses = append(state.Addresses, resolver.Address{Addr: listener.Addr().String()})
	}
	addresses.InitialState(state)
	conn, err := grpc.NewClient("replicas:///", grpc.WithResolvers(addresses), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultServiceConfig(string(merged)))
	must(t, err)
	defer func() { must(t, conn.Close()) }()
	// calls makes some, all of which are answered, and returns how often each replica was asked.
	calls := func() (asked [2]int64) {
		t.Helper()
		before := [2]int64{replicas[0].asked.Load(), replicas[1].asked.Load()}
		for range 10 {
			_, err := zendeskv1.NewOperationsServiceClient(conn).GetUsage(t.Context(), &zendeskv1.GetUsageRequest{}, grpc.WaitForReady(true))
			must(t, err)
		}
		return [2]int64{replicas[0].asked.Load() - before[0], replicas[1].asked.Load() - before[1]}
	}
	until(t, "both replicas are asked", func() bool { return calls() == [2]int64{5, 5} })
	replicas[0].health.SetServingStatus("", healthv1.HealthCheckResponse_NOT_SERVING)
	until(t, "only the one that serves is asked", func() bool { return calls() == [2]int64{0, 10} })
	replicas[0].health.SetServingStatus("", healthv1.HealthCheckResponse_SERVING)
	until(t, "both are asked again", func() bool { return calls() == [2]int64{5, 5} })
	replicas[0].refuses.Store(true)
	if asked := calls(); asked[0] == 0 || asked[1] != 10 {
		t.Errorf("while one refuses, they are asked %v times", asked)
	}
}

// mayRepeat says whether a call may be repeated without harm by callers who always set a request_id.
func mayRepeat(method protoreflect.MethodDescriptor) bool {
	options, _ := method.Options().(*descriptorpb.MethodOptions)
	return options.GetIdempotencyLevel() == descriptorpb.MethodOptions_NO_SIDE_EFFECTS ||
		method.Input().Fields().ByName("request_id") != nil ||
		method.Name() == "CompleteInteraction" // with the same details it gives the same activity
}

// attempts makes one call with a service config, and says how often it was sent to a service that answers UNAVAILABLE the
// first time.
func attempts(t *testing.T, config string, method protoreflect.MethodDescriptor) int {
	t.Helper()
	sent := 0
	service := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		if err := stream.RecvMsg(dynamicpb.NewMessage(method.Input())); err != nil { // what is answered before may be reset
			return err
		}
		if sent++; sent == 1 {
			return status.Error(codes.Unavailable, "the service is shutting down")
		}
		return stream.SendMsg(dynamicpb.NewMessage(method.Output()))
	}))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	served := make(chan error, 1)
	go func() { served <- service.Serve(listener) }()
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultServiceConfig(config))
	must(t, err)
	err = conn.Invoke(t.Context(), fmt.Sprintf("/%s/%s", method.Parent().FullName(), method.Name()),
		dynamicpb.NewMessage(method.Input()), dynamicpb.NewMessage(method.Output()))
	must(t, conn.Close())
	service.Stop()
	must(t, <-served)
	if code := status.Code(err); code != map[bool]codes.Code{true: codes.OK, false: codes.Unavailable}[sent > 1] {
		t.Errorf("the call ended with %v", err)
	}
	return sent
}

// quietly keeps curl from showing how far it is, which it does only when it prints to no terminal.
func quietly(command string) string {
	if rest, found := strings.CutPrefix(command, "curl "); found {
		return "curl -s " + rest
	}
	return command
}
