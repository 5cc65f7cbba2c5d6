// Package respond turns the reason why a request failed into what the client
// gets: one reason, one HTTP code, one metav1.Status, one metric label.
package respond

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	endpointmetrics "k8s.io/apiserver/pkg/endpoints/metrics"
	"k8s.io/apiserver/pkg/endpoints/request"
)

// Reason is why a request to an extension server failed.
type Reason string

const (
	// Unavailable: this server holds the APIService for unavailable.
	Unavailable Reason = "APIServiceUnavailable"
	// Unresolved: there is no address to send to.
	Unresolved Reason = "NoEndpoints"
	// TransportInvalid: the connection's settings cannot be used, for example
	// a caBundle without certificates.
	TransportInvalid Reason = "InvalidTransport"
	// NoUser: the request carries no authenticated identity.
	NoUser Reason = "MissingUser"
	// BackendFailed: the connection failed or broke before a response.
	BackendFailed Reason = "BackendFailed"
	// BackendTimeout: the extension server sent no response in time.
	BackendTimeout Reason = "BackendTimeout"
	// ClientLeft: the client ended its request before there was a response.
	ClientLeft Reason = "ClientLeft"
	// BodyBroken: the client's body ended before its announced end, or is malformed.
	BodyBroken Reason = "BrokenBody"
	// Unsendable: the request holds what an HTTP header cannot.
	Unsendable Reason = "UnsendableRequest"
	// HeaderTooLarge: the extension server announced that it takes no header of
	// this size.
	HeaderTooLarge Reason = "RequestHeaderTooLarge"
	// RedirectRejected: the extension server answered with a redirect.
	RedirectRejected Reason = "RedirectRejected"
	// UpgradeInvalid: the extension server answered an upgrade with neither
	// 101 nor an error.
	UpgradeInvalid Reason = "InvalidUpgradeResponse"
	// UpgradeRefused: the client asked for a protocol other than WebSocket and
	// SPDY.
	UpgradeRefused Reason = "UpgradeRefused"
	// PathRefused: the path could be read in two ways.
	PathRefused Reason = "AmbiguousPath"
	// QueryRefused: the query could be read in two ways.
	QueryRefused Reason = "AmbiguousQuery"
	// IdentityRefused: a part of the user's identity would not arrive at the
	// extension server as it is.
	IdentityRefused Reason = "IdentityRefused"
	// TooMany: the queue of requests for the extension server is full, or the
	// request has waited in it for too long.
	TooMany Reason = "TooManyRequests"
	// Moved: the APIService was deleted, or leads elsewhere, before the extension
	// server answered.
	Moved Reason = "APIServiceMoved"
	// NotHijackable: the client's connection cannot be taken over.
	NotHijackable Reason = "ConnectionNotHijackable"
)

type answer struct {
	code   int
	status metav1.StatusReason
	// message is used where the caller gives none.
	message string
	// look is where whoever runs the extension server finds more.
	look string
}

// Where to look. What a client is told holds no address, and no error of a connection:
// these are in the log, and in the condition, for those who may read them.
const (
	itsCondition = "see its condition Available"
	itsEndpoints = "see the endpoints of its Service"
	itsLog       = "see its condition Available and its server's log"
)

var answers = map[Reason]answer{
	Unavailable:      {http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable, "service unavailable", itsCondition},
	Unresolved:       {http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable, "service unavailable", itsEndpoints},
	TransportInvalid: {http.StatusInternalServerError, metav1.StatusReasonInternalError, "", "see its caBundle, or the proxy's client certificate"},
	NoUser:           {http.StatusInternalServerError, metav1.StatusReasonInternalError, "missing user", ""},
	BackendFailed:    {http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable, "error trying to reach service: no connection, or it ended without an answer", itsLog},
	BackendTimeout:   {http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable, "error trying to reach service: timed out", itsLog},
	ClientLeft:       {http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable, "the client ended the request before there was an answer", ""},
	BodyBroken:       {http.StatusBadRequest, metav1.StatusReasonBadRequest, "the body of the request ended before it was whole, or is malformed", ""},
	Unsendable:       {http.StatusBadRequest, metav1.StatusReasonBadRequest, "the request holds what an HTTP header cannot, and is not forwarded", ""},
	HeaderTooLarge:   {http.StatusRequestHeaderFieldsTooLarge, metav1.StatusReasonUnknown, "the header of the request, which lists the user's groups, is larger than the extension server takes", "see the limit of its server"},
	RedirectRejected: {http.StatusBadGateway, metav1.StatusReasonUnknown, "the backend attempted to redirect this request, which is not permitted", itsLog},
	UpgradeInvalid:   {http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable, "invalid upgrade response", itsLog},
	UpgradeRefused:   {http.StatusBadRequest, metav1.StatusReasonBadRequest, "only upgrades to websocket and SPDY/3.1 are supported", ""},
	PathRefused:      {http.StatusBadRequest, metav1.StatusReasonBadRequest, "the path could be read in two ways, and is not forwarded", ""},
	QueryRefused:     {http.StatusBadRequest, metav1.StatusReasonBadRequest, "the query is not UTF-8, and is not forwarded", ""},
	IdentityRefused:  {http.StatusForbidden, metav1.StatusReasonForbidden, "the identity of this request cannot be passed to an extension server as it is", ""},
	TooMany:          {http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests, "too many requests are waiting for this extension server, please try again later", ""},
	Moved:            {http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable, "the APIService leads elsewhere now, please try again", ""},
	NotHijackable:    {http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable, "the connection cannot be taken over for an upgrade", ""},
}

// Code is the HTTP status code of a reason.
func (r Reason) Code() int { return answers[r].code }

// Fail describes a failed request.
type Fail struct {
	Reason Reason
	// APIService is the name of the one that the path belongs to.
	APIService string
	// Message replaces the reason's own. It names no address.
	Message string
	// RetryAfter asks the client to wait, in seconds; zero does not.
	RetryAfter int
	// Cause is a short machine-readable word, such as the reason of a
	// condition; it names no addresses.
	Cause string
}

// Error is the message that the client gets: what has failed, of which APIService, and
// where to look.
func (f Fail) Error() string {
	a, message := answers[f.Reason], f.Message
	if message == "" {
		message = a.message
	}
	if a.look == "" || f.APIService == "" {
		return message
	}
	return message + " (APIService " + f.APIService + ": " + a.look + ")"
}

// Write answers the request with the failure and counts it. Nothing must have
// been written to w.
func Write(w http.ResponseWriter, r *http.Request, f Fail) {
	a := answers[f.Reason]
	status := metav1.Status{
		Status:  metav1.StatusFailure,
		Message: f.Error(),
		Reason:  a.status,
		Code:    int32(a.code),
		Details: &metav1.StatusDetails{Name: f.APIService, Group: "apiregistration.k8s.io", Kind: "apiservices"},
	}
	cause := f.Cause
	if cause == "" {
		cause = string(f.Reason)
	}
	status.Details.Causes = []metav1.StatusCause{{Type: metav1.CauseType(cause), Message: status.Message}}
	if f.RetryAfter > 0 {
		status.Details.RetryAfterSeconds = int32(f.RetryAfter)
		w.Header().Set("Retry-After", strconv.Itoa(f.RetryAfter))
	}
	WriteStatus(w, r, status)
}

// WriteStatus answers the request with a failure that has a Status of its own, and
// counts it. Nothing must have been written to w.
func WriteStatus(w http.ResponseWriter, r *http.Request, status metav1.Status) {
	status.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	code := int(status.Code)
	body, err := json.Marshal(status)
	if err != nil {
		http.Error(w, status.Message, code)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = w.Write(body) // the client may be gone
	count(r, code)
}

// count feeds apiserver_request_terminations_total{component="aggregator"}.
func count(r *http.Request, code int) {
	if info, ok := request.RequestInfoFrom(r.Context()); ok {
		endpointmetrics.RecordRequestTermination(r, labelled(info), "aggregator", code)
	}
}

// labelled is what a metric can be labelled with: a label that is not UTF-8 is a panic.
func labelled(info *request.RequestInfo) *request.RequestInfo {
	if utf8.ValidString(info.Path) {
		return info
	}
	valid := *info
	for _, label := range []*string{&valid.Path, &valid.Resource, &valid.Subresource} {
		*label = strings.ToValidUTF8(*label, string(utf8.RuneError))
	}
	return &valid
}
