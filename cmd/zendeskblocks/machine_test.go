package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	zendeskv1 "github.com/scenarioblocks/zendeskblocks/proto/scenarioblocks/zendesk/v1"
)

// serving waits until a process serves, and connects to it.
func serving(t testing.TB, p *program) (address string, conn *grpc.ClientConn) {
	t.Helper()
	address = p.await(t, p.stderr, `msg=serving address=(\S+)`)
	return address, dialGRPC(t, address)
}

func dialGRPC(t testing.TB, address string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithStaticStreamWindowSize(64<<10), grpc.WithStaticConnWindowSize(64<<10))
	must(t, err)
	t.Cleanup(func() { must(t, conn.Close()) })
	return conn
}

func attachOver(ctx context.Context, conn *grpc.ClientConn, interaction, value string) error {
	_, err := zendeskv1.NewBlockServiceClient(conn).AttachedData(ctx, &zendeskv1.AttachedDataRequest{
		InteractionId: interaction, Data: map[string]string{"a": value},
	})
	return err
}

// reasonOf is the reason in the details of an error; empty if there is none.
func reasonOf(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}

// mustEnd waits until the process has ended with an exit code, and checks that its log has so many lines at error level, and
// no stack.
func (p *program) mustEnd(t testing.TB, code, errorLines int) {
	t.Helper()
	if got := p.exitCode(t); got != code {
		t.Errorf("the process ended with code %d, want %d", got, code)
	}
	log := p.stderr.String()
	if got := strings.Count(log, "level=ERROR"); got != errorLines {
		t.Errorf("the log has %d lines at error level, want %d", got, errorLines)
	}
	if strings.Contains(log, "goroutine ") || strings.Contains(log, "panic") {
		t.Error("the log has a stack")
	}
}

// TestDrainAmidAll tells a process to end while its callers do all that could hold it up. A limit of an hour is not waited for.
func TestDrainAmidAll(t *testing.T) {
	sandbox := startSandbox(t)
	p := startProgram(t, "serve", "--listen", "127.0.0.1:0", "--data", filepath.Join(t.TempDir(), "data.db"),
		"--allow-host", hostOf(sandbox.origin), "--block-timeout", "20s", "--block-cap", "20s", "--drain-delay", "100ms", "--drain-timeout", "1h")
	address, conn := serving(t, p)
	s := &service{accounts: zendeskv1.NewAccountServiceClient(conn)}
	s.createAccount(t, "main", sandbox.origin)

	silent, err := net.Dial("tcp", address)
	must(t, err)
	t.Cleanup(func() { _ = silent.Close() })
	greeting, err := net.Dial("tcp", address)
	must(t, err)
	t.Cleanup(func() { _ = greeting.Close() })
	_, err = io.WriteString(greeting, http2.ClientPreface[:10])
	must(t, err)
	watch, err := healthv1.NewHealthClient(dialGRPC(t, address)).Watch(t.Context(), &healthv1.HealthCheckRequest{})
	must(t, err)
	_, err = watch.Recv()
	must(t, err)
	for _, requests := range []int{1, 200} { // the answers to 200 are more than the window, and nobody reads them
		stream, err := reflectionv1.NewServerReflectionClient(dialGRPC(t, address)).ServerReflectionInfo(t.Context())
		must(t, err)
		for range requests {
			must(t, stream.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_FileContainingSymbol{
				FileContainingSymbol: zendeskv1.BlockService_ServiceDesc.ServiceName,
			}}))
		}
		_, err = stream.Header()
		must(t, err)
	}
	sandbox.addFault(t, map[string]any{"path_prefix": "/api/v2/search", "delay_ms": 3000})
	outcome := make(chan error, 1)
	go func() {
		resp, err := zendeskv1.NewBlockServiceClient(conn).Search(context.Background(), &zendeskv1.SearchRequest{
			InteractionId: "one", SearchString: "type:user", RecordsetName: "RS",
		})
		if err == nil && resp.GetExit() != zendeskv1.Exit_EXIT_NEXT {
			err = fmt.Errorf("the block answered %v", resp)
		}
		outcome <- err
	}()
	until(t, "the block asks Zendesk", func() bool { return len(sandbox.requests(t)) > 0 })
	p.signal(t, syscall.SIGTERM)
	must(t, <-outcome)
	p.mustEnd(t, 0, 0)
}

// TestLogUnread serves calls whose lines in the log nobody reads, and whose reader has gone.
func TestLogUnread(t *testing.T) {
	for name, gone := range map[string]bool{"unread": false, "gone": true} {
		t.Run(name, func(t *testing.T) {
			read, write, err := os.Pipe()
			must(t, err)
			t.Cleanup(func() { _ = read.Close() })
			p := startProgramBy(t, nil, write, "serve", "--listen", "127.0.0.1:0", "--data", filepath.Join(t.TempDir(), "data.db"), "--drain-delay", "0s")
			must(t, write.Close())
			var address string
			for lines := bufio.NewReader(read); address == ""; {
				line, err := lines.ReadString('\n')
				must(t, err)
				if match := regexp.MustCompile(`msg=serving address=(\S+)`).FindStringSubmatch(line); match != nil {
					address = match[1]
				}
			}
			if gone {
				must(t, read.Close())
			}
			conn := dialGRPC(t, address)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			for range 2_000 {
				if _, err := zendeskv1.NewAccountServiceClient(conn).GetAccount(ctx, &zendeskv1.GetAccountRequest{AccountId: "none"}); status.Code(err) != codes.NotFound {
					t.Fatal(err)
				}
			}
			p.signal(t, syscall.SIGTERM)
			if code := p.exitCode(t); code != 0 {
				t.Errorf("the process ended with code %d", code)
			}
		})
	}
}

// TestLogReadLate reads a log whose beginning was lost for want of a reader: the rest is in order, and says how much.
func TestLogReadLate(t *testing.T) {
	read, write, err := os.Pipe()
	must(t, err)
	t.Cleanup(func() { _ = read.Close() })
	p := startProgramBy(t, nil, write, "serve", "--listen", "127.0.0.1:0", "--data", filepath.Join(t.TempDir(), "data.db"), "--drain-delay", "0s", "--log-format", "json")
	must(t, write.Close())
	lines := bufio.NewReader(read)
	first, err := lines.ReadString('\n')
	must(t, err)
	for !strings.Contains(first, `"msg":"serving"`) {
		first, err = lines.ReadString('\n')
		must(t, err)
	}
	address := regexp.MustCompile(`"address":"([^"]+)"`).FindStringSubmatch(first)[1]
	conn := dialGRPC(t, address)
	const calls = 8_000 // of some 300 bytes in the log
	done := make(chan error, 8)
	for range cap(done) {
		go func() {
			for range calls / cap(done) {
				if _, err := zendeskv1.NewAccountServiceClient(conn).GetAccount(context.Background(), &zendeskv1.GetAccountRequest{AccountId: "none"}); status.Code(err) != codes.NotFound {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range cap(done) {
		must(t, <-done)
	}
	p.signal(t, syscall.SIGTERM)
	rest, err := io.ReadAll(lines)
	must(t, err)
	finished, lost := 0, 0
	for _, line := range jsonLines(t, string(rest)) {
		if line["grpc.method"] != nil {
			finished++
		}
		if n, ok := line["lines"].(float64); ok && line["level"] == "WARN" {
			lost += int(n)
		}
	}
	if lost == 0 || finished+lost < calls || finished+lost > calls+3 {
		t.Errorf("the log has %d calls and says that it lost %d lines, of %d", finished, lost, calls)
	}
	if code := p.exitCode(t); code != 0 {
		t.Errorf("the process ended with code %d", code)
	}
}

// TestOutOfFileDescriptors takes all that the process may have.
func TestOutOfFileDescriptors(t *testing.T) {
	const limit = 64
	p := startProgramBy(t, []string{"sh", "-c", `ulimit -n ` + strconv.Itoa(limit) + `; exec "$@"`, "sh"}, newOutput(),
		"serve", "--listen", "127.0.0.1:0", "--data", filepath.Join(t.TempDir(), "data.db"), "--drain-delay", "0s")
	address, conn := serving(t, p)
	must(t, attachOver(t.Context(), conn, "one", "a"))
	var taken []net.Conn
	for range limit {
		c, err := net.Dial("tcp", address)
		must(t, err)
		taken = append(taken, c)
	}
	p.await(t, p.stderr, `level=ERROR msg="no new connection can be taken.*too many open files`)
	for n := range 100 {
		must(t, attachOver(t.Context(), conn, "one", strconv.Itoa(n)))
	}
	for _, c := range taken {
		must(t, c.Close())
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := healthv1.NewHealthClient(dialGRPC(t, address)).Check(ctx, &healthv1.HealthCheckRequest{}, grpc.WaitForReady(true))
	must(t, err)
	p.signal(t, syscall.SIGTERM)
	p.mustEnd(t, 0, 1)
}

// smallDisk mounts a disk of a size.
func smallDisk(t testing.TB, size string) string {
	t.Helper()
	disk := t.TempDir()
	if err := syscall.Mount("zendeskblocks-test", disk, "tmpfs", 0, "size="+size+",mode=0755"); err != nil {
		if errors.Is(err, syscall.EPERM) {
			t.Skipf("a disk of %s cannot be mounted: %v", size, err)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() { must(t, syscall.Unmount(disk, 0)) })
	return disk
}

// TestDiskFull fills the disk of the data file, and makes room again.
func TestDiskFull(t *testing.T) {
	disk := smallDisk(t, "24m")
	p := startProgram(t, "serve", "--listen", "127.0.0.1:0", "--data", filepath.Join(disk, "data.db"), "--drain-delay", "0s")
	_, conn := serving(t, p)
	health := healthv1.NewHealthClient(conn)
	must(t, attachOver(t.Context(), conn, "one", "a"))
	ballast := filepath.Join(disk, "ballast")
	for range 3 {
		file, err := os.Create(ballast)
		must(t, err)
		_, err = io.Copy(file, zeros{})
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("the disk takes everything: %v", err)
		}
		must(t, file.Close())
		for n := 0; err == nil || status.Code(err) != codes.Unavailable; n++ { // there may be free pages in the file
			if err = attachOver(t.Context(), conn, "large-"+strconv.Itoa(n), strings.Repeat("x", 60<<10)); n == 1000 {
				t.Fatalf("everything is stored: %v", err)
			}
		}
		if reason := reasonOf(err); reason != "STORE_UNAVAILABLE" {
			t.Fatalf("with a full disk the caller is told %v, %s", err, reason)
		}
		awaitHealth(t, health, healthv1.HealthCheckResponse_NOT_SERVING)
		_, err = zendeskv1.NewInteractionServiceClient(conn).GetInteraction(t.Context(), &zendeskv1.GetInteractionRequest{InteractionId: "one"})
		must(t, err)
		must(t, os.Remove(ballast))
		awaitHealth(t, health, healthv1.HealthCheckResponse_SERVING)
		must(t, attachOver(t.Context(), conn, "afterwards", "b"))
	}
	p.signal(t, syscall.SIGTERM)
	p.mustEnd(t, 0, 3)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// awaitHealth asks until health is as wanted. Meanwhile there is nothing to wait for.
func awaitHealth(t testing.TB, client healthv1.HealthClient, want healthv1.HealthCheckResponse_ServingStatus) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	watch, err := client.Watch(ctx, &healthv1.HealthCheckRequest{})
	must(t, err)
	for {
		resp, err := watch.Recv()
		must(t, err)
		if resp.GetStatus() == want {
			return
		}
	}
}

// lacks ends a test for want of something, which must not be lacking where changes are judged.
func lacks(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// TestDataDamaged damages the data file of a process that serves: whoever reads it next ends the process.
func TestDataDamaged(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data.db")
	p := startProgram(t, "serve", "--listen", "127.0.0.1:0", "--data", data, "--drain-delay", "1h", "--drain-timeout", "1h")
	_, conn := serving(t, p)
	must(t, attachOver(t.Context(), conn, "one", "a"))
	file, err := os.OpenFile(data, os.O_RDWR, 0)
	must(t, err)
	info, err := file.Stat()
	must(t, err)
	const metaPages = 2 * 4096
	_, err = file.WriteAt(bytes.Repeat([]byte{0xa5}, int(info.Size())-metaPages), metaPages)
	must(t, errors.Join(err, file.Close()))
	_, err = zendeskv1.NewInteractionServiceClient(conn).GetInteraction(t.Context(), &zendeskv1.GetInteractionRequest{InteractionId: "one"})
	if status.Code(err) != codes.Unavailable {
		t.Errorf("damaged data is answered %v", err)
	}
	p.mustEnd(t, 1, 1)
	if log := p.stderr.String(); !regexp.MustCompile(`level=ERROR msg=exiting .*damaged .*restore a backup`).MatchString(log) {
		t.Error("the log does not say what is wrong, and what to do")
	}
}

// TestDiskFails has the disk refuse to make a commit durable.
func TestDiskFails(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		lacks(t, "strace, which makes system calls fail, is not installed")
	}
	data := filepath.Join(t.TempDir(), "data.db")
	p := startProgram(t, "serve", "--listen", "127.0.0.1:0", "--data", data, "--drain-delay", "1h", "--drain-timeout", "1h")
	_, conn := serving(t, p)
	must(t, attachOver(t.Context(), conn, "one", "acknowledged"))
	watch, err := zendeskv1.NewInteractionServiceClient(conn).WatchScreenPops(t.Context(), &zendeskv1.WatchScreenPopsRequest{Agent: &zendeskv1.Agent{Email: "pat@example.com"}})
	must(t, err)
	_, err = watch.Header()
	must(t, err)

	traced := newOutput()
	tracer := exec.Command(strace, "-f", "-p", strconv.Itoa(p.cmd.Process.Pid), "-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO")
	tracer.Stderr = traced
	must(t, tracer.Start())
	defer func() { _ = tracer.Wait() }() // it ends with what it traces, which is killed at the latest
	defer p.signal(t, syscall.SIGKILL)
	late := time.After(patience)
	for text, changed := traced.current(); !strings.Contains(text, "attached"); text, changed = traced.current() {
		if strings.Contains(text, "Operation not permitted") {
			lacks(t, "processes cannot be traced: "+text)
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("strace says %s", text)
		}
	}
	err = attachOver(t.Context(), conn, "one", "not acknowledged")
	if status.Code(err) != codes.Unavailable {
		t.Errorf("a commit that is not durable is answered %v", err)
	}
	p.mustEnd(t, 1, 1)
	lines := strings.Split(strings.TrimSpace(p.stderr.String()), "\n")
	if last := lines[len(lines)-1]; !strings.Contains(last, "level=ERROR") || !strings.Contains(last, data) || !strings.Contains(last, "input/output error") {
		t.Errorf("the last line of the log is %s", last)
	}

	again := startProgram(t, "serve", "--listen", "127.0.0.1:0", "--data", data, "--drain-delay", "0s")
	_, conn = serving(t, again)
	resp, err := zendeskv1.NewInteractionServiceClient(conn).GetInteraction(t.Context(), &zendeskv1.GetInteractionRequest{InteractionId: "one"})
	must(t, err)
	if value := resp.GetInteraction().GetAttachedData()["a"]; value != "acknowledged" && value != "not acknowledged" {
		t.Errorf("afterwards the data is %q", value)
	}
	must(t, attachOver(t.Context(), conn, "one", "again"))
}

// TestAddressSpaceTooSmall starts the program where the map of the data file has no room.
func TestAddressSpaceTooSmall(t *testing.T) {
	var pages int
	if statm, err := os.ReadFile("/proc/self/statm"); err == nil {
		_, err = fmt.Sscan(string(statm), &pages)
		must(t, err)
	}
	if pages*os.Getpagesize() > 4<<30 {
		t.Skip("the program takes more address space by itself, as with the race detector")
	}
	p := startProgramBy(t, []string{"sh", "-c", `ulimit -v $((8 << 20)); exec "$@"`, "sh"}, newOutput(), // in KiB
		"serve", "--listen", "127.0.0.1:0", "--data", filepath.Join(t.TempDir(), "data.db"))
	p.mustEnd(t, 1, 1)
	if log := p.stderr.String(); !regexp.MustCompile(`level=ERROR msg=exiting .*address space.*ulimit -v`).MatchString(log) {
		t.Error("the log does not say what is wanted")
	}
}
