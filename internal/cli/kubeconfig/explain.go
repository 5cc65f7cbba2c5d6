package kubeconfig

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/annex-api/annex/internal/printable"
)

// maxError bounds what an error says.
const maxError = 1500

// Error says that nothing could be asked, why, and what to do.
type Error struct {
	text string
	err  error
}

func (e *Error) Error() string { return e.text }

// Unwrap is what it came from; nil where that may tell a secret.
func (e *Error) Unwrap() error { return e.err }

// ExitCode is what a command ends with that could not ask.
func (e *Error) ExitCode() int { return 2 }

func failed(err error, format string, args ...any) *Error {
	return &Error{printable.Line(fmt.Sprintf(format, args...), maxError), err}
}

// Explain says in one sentence why a request failed, what it failed at, and what to do about it.
// doing is what was attempted, such as "list APIServices".
func (c *Connection) Explain(doing string, err error) error {
	var explained *Error
	switch {
	case err == nil, errors.As(err, &explained):
		return err
	case errors.Is(err, context.Canceled):
		return failed(err, "stopped before %s answered", c.Server)
	}
	return failed(err, "cannot %s: %s", doing, hide(c.why(err), c.secrets))
}

// from names the place of the credentials.
func (c *Connection) from() string {
	if c.Context == "" {
		return c.Source
	}
	return fmt.Sprintf("context %q of %s", shown(c.Context), c.Source)
}

func (c *Connection) why(err error) string {
	switch {
	case apierrors.IsUnauthorized(err):
		return c.unauthorized()
	case apierrors.IsForbidden(err):
		return c.forbidden(err)
	case apierrors.IsTimeout(err), apierrors.IsServerTimeout(err), apierrors.IsTooManyRequests(err), apierrors.IsServiceUnavailable(err):
		return fmt.Sprintf("%s is up, and has no answer now (%s); try again, or see its state with: kubectl get --raw '/readyz?verbose'", c.Server, text(err))
	case apierrors.IsNotFound(err):
		return fmt.Sprintf("%s has no such thing (%s); check that this is the address of a Kubernetes API server (%s)", c.Server, text(err), c.from())
	case apierrors.ReasonForError(err) != metav1.StatusReasonUnknown:
		return fmt.Sprintf("%s answers: %s; try again, or see its state with: kubectl get --raw '/readyz?verbose'", c.Server, text(err))
	}
	if why := c.certificate(err); why != "" {
		return why
	}
	return c.network(err)
}

// maxQuoted bounds what is quoted of others' texts.
const maxQuoted = 600

// text is what the API server said, where it said something; what was attempted is told already.
func text(err error) string {
	said := err.Error()
	var status apierrors.APIStatus
	if errors.As(err, &status) && status.Status().Message != "" {
		said = status.Status().Message
	}
	return printable.Line(said, maxQuoted)
}

func (c *Connection) unauthorized() string {
	who := "the credentials"
	if c.user != "" {
		who = fmt.Sprintf("the credentials of user %q", shown(c.user))
	}
	who += " (" + c.from() + ")"
	if cert := c.clientCertificate(); cert != nil {
		now := time.Now()
		switch {
		case now.After(cert.NotAfter):
			return fmt.Sprintf(`%s refuses %s: the client certificate expired on %s; get a new one: with kubeadm "kubeadm certs renew admin.conf", with Annex start "annex up" anew`,
				c.Server, who, day(cert.NotAfter))
		case now.Before(cert.NotBefore):
			return fmt.Sprintf("%s refuses %s: the client certificate is valid from %s on, and this machine's clock says %s; set the clock that is wrong",
				c.Server, who, day(cert.NotBefore), day(now))
		}
	}
	return fmt.Sprintf("%s refuses %s; log in again or get a new kubeconfig, then see who you are with: kubectl auth whoami", c.Server, who)
}

func (c *Connection) forbidden(err error) string {
	remedy := "see what you may with: kubectl auth can-i --list"
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		if d := status.Status().Details; d != nil && isResource(d.Kind) && (d.Group == "" || isResource(d.Group)) {
			resource := strings.TrimSuffix(d.Kind+"."+d.Group, ".")
			remedy = fmt.Sprintf("an administrator gives you the right with: kubectl create clusterrole read-%s --verb=get,list,watch --resource=%s "+
				"&& kubectl create clusterrolebinding read-%s --clusterrole=read-%s --user=USER", d.Kind, resource, d.Kind, d.Kind)
		}
	}
	return fmt.Sprintf("%s forbids it to you (%s): %s; %s", c.Server, c.from(), text(err), remedy)
}

// isResource is whether a text can stand in a command unquoted.
func isResource(s string) bool {
	return s != "" && len(s) <= maxName && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '.' || r == '-')
	})
}

// certificate explains what is wrong with the server's certificate; empty where it is not that.
func (c *Connection) certificate(err error) string {
	var (
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		invalid x509.CertificateInvalidError
		alert   tls.AlertError
		noTLS   tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &unknown):
		return fmt.Sprintf("the certificate of %s is not from the CA that is trusted (%s): the server is another one, or got a new CA; "+
			`get its kubeconfig anew, or name the CA with --certificate-authority`, c.Server, c.from())
	case errors.As(err, &name):
		return fmt.Sprintf("the certificate of %s is for other names (%s); use one of them as the address, or name it with --tls-server-name", c.Server, text(name))
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		now := time.Now()
		if invalid.Cert != nil && now.Before(invalid.Cert.NotBefore) {
			return fmt.Sprintf("the certificate of %s is valid from %s on, and this machine's clock says %s; set the clock that is wrong", c.Server, day(invalid.Cert.NotBefore), day(now))
		}
		expired := ""
		if invalid.Cert != nil {
			expired = " on " + day(invalid.Cert.NotAfter)
		}
		return fmt.Sprintf(`the certificate of %s expired%s by this machine's clock, which says %s; renew it (with kubeadm: "kubeadm certs renew apiserver"), or set the clock`, c.Server, expired, day(now))
	case errors.As(err, &alert):
		return fmt.Sprintf("%s ended the TLS handshake (%s); it does not take the client certificate of %s", c.Server, text(alert), c.from())
	case errors.As(err, &noTLS), errors.Is(err, http.ErrSchemeMismatch):
		return fmt.Sprintf("%s does not speak TLS; check the address (%s), or use http:// if that is meant", c.Server, c.from())
	}
	return ""
}

// network explains why there was no answer.
func (c *Connection) network(err error) string {
	check := fmt.Sprintf(`check the address (%s); "annex up" starts a server`, c.from())
	var (
		dns *net.DNSError
		out net.Error
	)
	proxied := ""
	if at := c.proxy(); at != "" {
		proxied = fmt.Sprintf(" through the proxy %s (of --proxy-url, the kubeconfig or HTTPS_PROXY)", at)
	}
	switch {
	case errors.As(err, &dns):
		return fmt.Sprintf("%s cannot be reached%s: the name %q has no address here; %s", c.Server, proxied, shown(dns.Name), check)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Sprintf("%s cannot be reached%s: nobody listens there (connection refused); %s", c.Server, proxied, check)
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return fmt.Sprintf("%s cannot be reached%s: there is no way to it from here (%s); check the network or VPN, and the address (%s)", c.Server, proxied, text(err), c.from())
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &out) && out.Timeout():
		return fmt.Sprintf("%s gave no answer in time%s; a longer time is given with --request-timeout, and a firewall or VPN on the way drops without a word: %s", c.Server, proxied, check)
	}
	var inURL *url.Error
	if errors.As(err, &inURL) {
		err = inURL.Err // the address is told already
	}
	return fmt.Sprintf("%s%s: %s; %s", c.Server, proxied, text(err), check)
}

// proxy is the address of the proxy that requests go through; empty where there is none. A proxy that
// refuses a connection says so in words of its own, which do not tell that they are a proxy's.
func (c *Connection) proxy() string {
	choose := c.Config.Proxy
	if choose == nil {
		choose = http.ProxyFromEnvironment
	}
	to, _, err := rest.DefaultServerUrlFor(c.Config)
	if err != nil {
		return ""
	}
	proxy, err := choose(&http.Request{URL: to})
	if err != nil || proxy == nil {
		return ""
	}
	return shown(proxy.Host)
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }

// clientCertificate is the first that the configuration shows to the server; nil where there is none.
func (c *Connection) clientCertificate() *x509.Certificate {
	data := c.Config.CertData
	if len(data) == 0 && c.Config.CertFile != "" {
		var err error
		if data, err = os.ReadFile(c.Config.CertFile); err != nil {
			return nil
		}
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil
	}
	return cert
}
