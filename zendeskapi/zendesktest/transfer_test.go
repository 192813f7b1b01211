package zendesktest

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// get asks over a real connection, for the status, the Content-Length and the
// body; status 0 means that there was no header.
func (a *account) get(t *testing.T, server *httptest.Server, path string) (int, int64, []byte, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	person(Admin)(r)
	res, err := server.Client().Do(r)
	if err != nil {
		return 0, 0, nil, err
	}
	body, err := io.ReadAll(res.Body)
	return res.StatusCode, res.ContentLength, body, errors.Join(err, res.Body.Close())
}

func TestCuts(t *testing.T) {
	a := open(t, Config{})
	server := httptest.NewServer(a)
	defer server.Close()
	_, _, whole, err := a.get(t, server, groupsPath)
	if err != nil {
		t.Fatal(err)
	}
	half := string(whole[:len(whole)/2])
	for _, test := range []struct {
		fault    string
		status   int // 0: there is no header
		body     string
		err      error
		recorded int
	}{
		{`{"drop":"before"}`, 0, "", io.EOF, 0},
		{`{"drop":"before","reset":true}`, 0, "", syscall.ECONNRESET, 0},
		{`{"drop":"after","reset":true}`, 0, "", syscall.ECONNRESET, 0},
		{`{"drop":"middle"}`, 200, half, io.ErrUnexpectedEOF, 200},
		{`{"drop":"middle","chunked":true}`, 200, half, io.ErrUnexpectedEOF, 200},
		{`{"drop":"middle","reset":true}`, 200, half, syscall.ECONNRESET, 200},
		{`{"drop":"middle","status":503,"body":"<html></html>"}`, 503, "<html>", io.ErrUnexpectedEOF, 503},
		{`{"drop":"middle","gzip":true}`, 200, half, io.ErrUnexpectedEOF, 200},
		{`{"drop":"middle","slow_bytes":1000,"slow_ms":1}`, 200, half, io.ErrUnexpectedEOF, 200},
		{`{"drop":"middle","status":204}`, 204, "", nil, 204},
		{`{"truncate":true}`, 200, half, nil, 200},
		{`{"truncate":true,"chunked":true}`, 200, half, nil, 200},
		{`{"truncate":true,"gzip":true}`, 200, half, nil, 200},
		{`{"chunked":true}`, 200, string(whole), nil, 200},
		{`{"gzip":true}`, 200, string(whole), nil, 200},
	} {
		a.do("POST", "/_sandbox/faults", test.fault).want(t, 200)
		status, length, body, err := a.get(t, server, groupsPath)
		if chunked := strings.Contains(test.fault, "chunked") || strings.Contains(test.fault, "gzip"); (length < 0) != chunked {
			t.Errorf("%s: Content-Length %d", test.fault, length)
		}
		if status != test.status || string(body) != test.body || !errors.Is(err, test.err) {
			t.Errorf("%s: %d %q, %v, want %d %q, %v", test.fault, status, body, err, test.status, test.body, test.err)
		}
		if requests := a.Requests(); requests[len(requests)-1].Status != test.recorded {
			t.Errorf("%s: recorded %d, want %d", test.fault, requests[len(requests)-1].Status, test.recorded)
		}
		a.ClearFaults()
	}
	if _, _, body, err := a.get(t, server, groupsPath); err != nil || !bytes.Equal(body, whole) {
		t.Errorf("well again: %q, %v", body, err)
	}
}

// A reset needs the connection itself, also below TLS.
func TestResetOverTLS(t *testing.T) {
	a := open(t, Config{})
	server := httptest.NewTLSServer(a)
	defer server.Close()
	a.AddFault(Fault{Drop: DropMiddle, Reset: true})
	if status, _, _, err := a.get(t, server, groupsPath); status != 200 || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("answered %d, %v", status, err)
	}
}

// The write of an answer that is cut in the middle has happened, once; that of
// an answer which a fault gave has not, unless it is to.
func TestCutWrites(t *testing.T) {
	a := open(t, Config{})
	audits := func() int { return a.do("GET", ticketPath(CallerTickets[1], "/audits"), "").length("audits") }
	before := audits()
	for _, test := range []struct {
		fault string
		acted int
	}{
		{`{"method":"PUT","drop":"middle"}`, 1},
		{`{"method":"PUT","drop":"middle","status":503}`, 0},
		{`{"method":"PUT","drop":"middle","status":503,"act":"before"}`, 1},
	} {
		a.do("POST", "/_sandbox/faults", test.fault).want(t, 200)
		a.drop("PUT", ticketPath(CallerTickets[1], ""), `{"ticket":{"comment":{"body":"x","public":false}}}`)
		a.ClearFaults()
		if before += test.acted; audits() != before {
			t.Errorf("%s: there are %d audits, want %d", test.fault, audits(), before)
		}
	}
}

// hang asks and gives up after a second of the bubble; it tells what has come
// until then.
func (a *account) hang(method, path, body string) *httptest.ResponseRecorder {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), time.Second)
	defer cancel()
	r := httptest.NewRequestWithContext(ctx, method, path, strings.NewReader(body))
	person(Admin)(r)
	w := httptest.NewRecorder()
	start := time.Now()
	func() {
		defer func() {
			if recover() != http.ErrAbortHandler {
				a.t.Error("the connection was not cut")
			}
		}()
		a.ServeHTTP(w, r)
	}()
	if took := time.Since(start); took != time.Second {
		a.t.Errorf("it hung for %v", took)
	}
	return w
}

func TestHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := open(t, Config{})
		whole := a.do("GET", groupsPath, "").raw
		audits := func() int { return a.do("GET", ticketPath(CallerTickets[1], "/audits"), "").length("audits") }
		before := audits()
		write := func(fault string) *httptest.ResponseRecorder {
			a.do("POST", "/_sandbox/faults", fault).want(t, 200)
			defer a.ClearFaults()
			return a.hang("PUT", ticketPath(CallerTickets[1], ""), `{"ticket":{"comment":{"body":"x","public":false}}}`)
		}
		if w := write(`{"hang":"before"}`); w.Body.Len() != 0 || len(w.Header()) != 0 || audits() != before {
			t.Errorf("before the header came %v %s, and %d new audits", w.Header(), w.Body, audits()-before)
		}
		if w := write(`{"hang":"before","act":"before"}`); w.Body.Len() != 0 || audits() != before+1 {
			t.Errorf("before the header came %s, and %d new audits", w.Body, audits()-before)
		}
		if w := write(`{"hang":"middle"}`); w.Code != 200 || !strings.HasPrefix(w.Body.String(), `{"ticket":`) || audits() != before+2 {
			t.Errorf("in the middle: %d %s, and %d new audits", w.Code, w.Body, audits()-before)
		}
		a.AddFault(Fault{Hang: HangMiddle})
		w := a.hang("GET", groupsPath, "")
		if w.Code != 200 || w.Body.String() != string(whole[:len(whole)/2]) || w.Header().Get("Content-Length") != strconv.Itoa(len(whole)) {
			t.Errorf("in the middle: %d %v %s", w.Code, w.Header(), w.Body)
		}
		a.ClearFaults()
		a.AddFault(Fault{Hang: HangBefore})
		a.hang("GET", groupsPath, "")
		if requests := a.Requests(); requests[len(requests)-1].Status != 0 {
			t.Errorf("recorded %d", requests[len(requests)-1].Status)
		}
	})
}

// A client that goes ends what hangs for it, and so does Close.
func TestHangsEnd(t *testing.T) {
	z := New(Config{})
	if err := z.Start("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	z.AddFault(Fault{Hang: HangMiddle})
	res, err := http.Get(z.Origin() + groupsPath)
	if err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(res.Body); err == nil {
		t.Error("the answer is whole")
	}
	if err := res.Body.Close(); err != nil {
		t.Error(err)
	}
}

func TestSlowBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := open(t, Config{})
		a.AddFault(Fault{Body: new("0123456789"), Transfer: Transfer{SlowBytes: 4, SlowEvery: 5 * time.Second}})
		start := time.Now()
		if got := a.do("GET", groupsPath, "").want(t, 200); string(got.raw) != "0123456789" {
			t.Errorf("body %q", got.raw)
		}
		if took := time.Since(start); took != 15*time.Second {
			t.Errorf("it took %v", took)
		}
		a.ClearFaults()
		a.AddFault(Fault{Body: new("0123456789"), Transfer: Transfer{SlowBytes: 3, SlowEvery: 400 * time.Millisecond}})
		if w := a.hang("GET", groupsPath, ""); w.Body.String() != "012345678" {
			t.Errorf("after a second there is %q", w.Body)
		}
	})
}

func TestSizes(t *testing.T) {
	a := open(t, Config{})
	for _, test := range []struct {
		fault string
		size  int
		start string
	}{
		{`{"size":100000}`, 100000, `{"count":5,"groups":[`},
		{`{"size":1000,"body":{}}`, 1000, `{"padding":"xxx`},
		{`{"size":1000,"body":" { } "}`, 1000, `{ "padding":"xxx`},
		{`{"size":1000,"body":{"a":1}}`, 1000, `{"a":1,"padding":"xxx`},
		{`{"size":1000,"body":"[1]"}`, 1000, `[1]   `},
		{`{"size":1000,"status":502,"body":"<html>"}`, 1000, `<html>   `},
		{`{"size":15,"body":{"a":1}}`, 20, `{"a":1,"padding":""}`},
		{`{"size":3,"body":{"a":1}}`, 7, `{"a":1}`},
		{`{"size":1000,"truncate":true,"body":"{\"a\":1}"}`, 500, `{"a":1,"padding":"xxx`},
	} {
		a.do("POST", "/_sandbox/faults", test.fault).want(t, 200)
		r := httptest.NewRequest(http.MethodGet, groupsPath, nil)
		person(Admin)(r)
		w := httptest.NewRecorder()
		a.ServeHTTP(w, r)
		body := w.Body.Bytes()
		if len(body) != test.size || !strings.HasPrefix(string(body), test.start) {
			t.Errorf("%s: %d bytes %.30s", test.fault, len(body), body)
		}
		if isObject := body[0] == '{'; isObject && json.Valid(body) == strings.Contains(test.fault, "truncate") {
			t.Errorf("%s: JSON is %v: %.50s", test.fault, json.Valid(body), body)
		}
		a.ClearFaults()
	}
}

// A bomb is small where it is sent and large where it is opened. It is made
// while it is sent, and takes no room here.
func TestGzipBomb(t *testing.T) {
	a := open(t, Config{})
	server := httptest.NewServer(a)
	defer server.Close()
	const size = 64 << 20
	a.AddFault(Fault{Transfer: Transfer{Size: size, Gzip: true}})
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+groupsPath, nil)
	if err != nil {
		t.Fatal(err)
	}
	person(Admin)(r)
	r.Header.Set("Accept-Encoding", "identity") // is not heeded
	res, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	sent, err := io.ReadAll(res.Body)
	if err := errors.Join(err, res.Body.Close()); err != nil {
		t.Fatal(err)
	}
	opened, err := gzip.NewReader(bytes.NewReader(sent))
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, opened)
	if n != size || err != nil || len(sent) > size/500 || res.Header.Get("Content-Encoding") != "gzip" {
		t.Errorf("%d bytes sent, %d opened, %v", len(sent), n, err)
	}
}

func TestWrongContentType(t *testing.T) {
	a := open(t, Config{})
	for _, kind := range []string{"text/html", "application/octet-stream", "application/json; charset=utf-16", ""} {
		a.AddFault(Fault{Edit: &Edit{Header: map[string]string{"Content-Type": kind}}, Times: 1})
		if got := a.do("GET", groupsPath, "").want(t, 200); got.header.Get("Content-Type") != kind {
			t.Errorf("%q: %v", kind, got.header)
		}
	}
}
