package zendeskapi

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"
)

// phase is how far a request has come.
type phase int32

const (
	phaseQueued phase = iota
	phaseTurn
	phaseResolving
	phaseConnecting
	phaseHandshake
	phaseSending
	phaseWaiting
	phaseReading
	phaseRoom
)

var phaseTexts = map[phase]string{
	phaseQueued:     "while waiting for a connection",
	phaseTurn:       "while waiting for its turn",
	phaseResolving:  "while resolving the host's name",
	phaseConnecting: "while connecting",
	phaseHandshake:  "in the TLS handshake",
	phaseSending:    "while sending the request",
	phaseWaiting:    "while waiting for the answer",
	phaseReading:    "within the answer",
	phaseRoom:       "while other answers were read",
}

// progress follows a request. Its phase never goes back: a connection that is made in the background comes to an end
// after the request has found another.
type progress struct{ at atomic.Int32 }

func (p *progress) reach(next phase) {
	for {
		now := p.at.Load()
		if now >= int32(next) || p.at.CompareAndSwap(now, int32(next)) {
			return
		}
	}
}

func (p *progress) phase() phase { return phase(p.at.Load()) }

// left tells whether a request may have reached the other side: from when it had a connection on, nobody can tell.
func (p *progress) left() bool { return p.phase() >= phaseSending }

// watch follows the requests that are made with the context.
func watch(ctx context.Context) (context.Context, *progress) {
	p := new(progress)
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		DNSStart:          func(httptrace.DNSStartInfo) { p.reach(phaseResolving) },
		ConnectStart:      func(string, string) { p.reach(phaseConnecting) },
		TLSHandshakeStart: func() { p.reach(phaseHandshake) },
		GotConn:           func(httptrace.GotConnInfo) { p.reach(phaseSending) },
		WroteRequest: func(written httptrace.WroteRequestInfo) {
			if written.Err == nil {
				p.reach(phaseWaiting)
			}
		},
		GotFirstResponseByte: func() { p.reach(phaseReading) },
	}), p
}

// connectionError classifies an error of the HTTP client: there was no answer, or only a part of one.
func connectionError(ctx context.Context, err error, at phase) *Error {
	// Its text repeats the address with the query.
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err
	}
	e := &Error{Kind: Unavailable, Err: told(err)}
	_, badCertificate := errors.AsType[*tls.CertificateVerificationError](err)
	name, badName := errors.AsType[*net.DNSError](err)
	switch ctxErr := ctx.Err(); {
	// Asked of the context: timeouts of the transport satisfy errors.Is(err, context.DeadlineExceeded) too.
	case errors.Is(ctxErr, context.DeadlineExceeded):
		e.Kind, e.Err, e.Cause = Timeout, ctxErr, "time ran out "+phaseTexts[at]
	case ctxErr != nil:
		e.Kind, e.Err, e.Cause = Canceled, ctxErr, "it was given up "+phaseTexts[at]
	case timedOut(err):
		e.Kind, e.transient, e.Cause = Timeout, true, "time ran out "+phaseTexts[at]
	default:
		e.Cause = causeOf(err, at)
		e.transient = !errors.Is(err, errOwnNetwork) && !badCertificate && (!badName || !name.IsNotFound)
	}
	return e
}

func timedOut(err error) bool {
	network, ok := errors.AsType[net.Error](err)
	return ok && network.Timeout()
}

// causeOf words what broke a connection. None of its texts repeats what came from outside.
func causeOf(err error, at phase) string {
	var words string
	name, badName := errors.AsType[*net.DNSError](err)
	_, badCertificate := errors.AsType[*tls.CertificateVerificationError](err)
	_, noTLS := errors.AsType[tls.RecordHeaderError](err)
	_, alert := errors.AsType[tls.AlertError](err)
	switch {
	case errors.Is(err, errOwnNetwork):
		return errOwnNetwork.Error()
	case badCertificate:
		words = certificateProblem(err)
	case badName && name.IsNotFound:
		words = "the host's name is not known"
	case badName:
		words = "the host's name could not be resolved"
	case noTLS, errors.Is(err, http.ErrSchemeMismatch):
		words = "the other side does not speak TLS"
	case alert:
		words = "the other side refused the TLS handshake"
	case errors.Is(err, syscall.ECONNREFUSED):
		words = "the connection was refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNABORTED):
		words = "the connection was reset " + phaseTexts[at]
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		words = "there is no way to the host"
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		words = "this machine has no file descriptor left for a connection"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		words = "the connection broke off " + phaseTexts[at]
	case strings.Contains(err.Error(), "malformed HTTP"):
		words = "the answer is no HTTP"
	case at < phaseSending:
		words = "no connection could be made"
	default:
		words = "the connection broke off " + phaseTexts[at]
	}
	if operation, ok := errors.AsType[*net.OpError](err); ok && operation.Op == "proxyconnect" {
		return "at the proxy: " + words
	}
	return words
}

func certificateProblem(err error) string {
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return "the host's certificate is for another name"
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "the host's certificate is signed by an unknown authority"
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return "the host's certificate has expired, or is not valid yet"
	}
	return "the host's certificate is not valid"
}

var errConnection = errors.New("the connection broke")

// told keeps of an error what the operating system or the resolver said. Other texts of the HTTP client and of TLS can
// repeat what the other side sent, such as the names in a certificate.
func told(err error) error {
	if operation, ok := errors.AsType[*net.OpError](err); ok {
		return operation
	}
	if timedOut(err) {
		return err
	}
	return errConnection
}
