package pipe

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/nettest"
)

var (
	clientAddr = &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}
	serverAddr = &net.TCPAddr{IP: net.IPv4(192, 0, 2, 2), Port: 2}
)

// It is what the tests of the network's own connections want of one.
func TestConn(t *testing.T) {
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		client, server := New(clientAddr, serverAddr)
		return client, server, func() { _, _ = client.Close(), server.Close() }, nil
	})
}

func TestAddresses(t *testing.T) {
	client, server := New(clientAddr, serverAddr)
	if client.LocalAddr() != clientAddr || client.RemoteAddr() != serverAddr || server.LocalAddr() != serverAddr || server.RemoteAddr() != clientAddr {
		t.Errorf("the ends are %v to %v and %v to %v", client.LocalAddr(), client.RemoteAddr(), server.LocalAddr(), server.RemoteAddr())
	}
}

// A write does not wait for the reader as long as the buffer has room, and what nobody reads waits until it does.
func TestBuffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := New(clientAddr, serverAddr)
		sent := bytes.Repeat([]byte("0123456789abcde"), bufferBytes/10) // does not fit into it as a whole
		n, err := client.Write(sent[:bufferBytes])
		if n != bufferBytes || err != nil {
			t.Fatalf("%d are written: %v", n, err)
		}
		written := make(chan error, 1)
		go func() {
			_, err := client.Write(sent[bufferBytes:])
			written <- errors.Join(err, client.Close())
		}()
		synctest.Wait()
		select {
		case err := <-written:
			t.Fatalf("more is written than there is room for: %v", err)
		default:
		}
		var got bytes.Buffer
		for piece := make([]byte, 1000); ; { // wraps around the buffer's end
			n, err := server.Read(piece)
			got.Write(piece[:n])
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := <-written; err != nil || !bytes.Equal(got.Bytes(), sent) {
			t.Errorf("%d of %d came, %v", got.Len(), len(sent), err)
		}
		if server.in.buffer != nil || server.out.buffer != nil {
			t.Error("a pipe on which nothing is under way holds a buffer")
		}
	})
}

// How an end tells why it can do nothing.
func TestErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := New(clientAddr, serverAddr)
		if err := server.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := server.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("after the deadline: %v", err)
		}
		_ = server.SetReadDeadline(time.Now().Add(time.Hour)) // another deadline, and none after it is closed
		if _, err := client.Write([]byte("last words")); err != nil {
			t.Fatal(err)
		}
		_ = client.Close()
		if last, err := io.ReadAll(server); string(last) != "last words" || err != nil {
			t.Errorf("after the other end closed: %q, %v", last, err)
		}
		if _, err := server.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("written to an end that is closed: %v", err)
		}
		if _, err := client.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("written by an end that is closed: %v", err)
		}
		if _, err := client.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("read by an end that is closed: %v", err)
		}
		_ = server.Close()
		if server.in.reading.timer != nil {
			t.Error("a deadline outlives the connection")
		}
	})
}
