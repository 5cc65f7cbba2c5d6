// Package console is a read-only web page: which extension server is at fault, why, and since
// when.
//
// The page reads RemoteAPIServices (apis/aggregation/v1alpha1) by list and watch from the API server
// it is served beside, with what the browser is allowed there: its addresses are relative, so that
// below any path Handler is at /console/ and the API at /apis/. On a kube-apiserver without that
// resource it shows the conditions of APIServices.
//
// Its source is in web, what is built of that in dist: "make console" builds it, and a test finds
// that it was forgotten.
package console

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Path is where the page is served.
const Path = "/console/"

const (
	// diagnosisLimit bounds one diagnosis.
	diagnosisLimit = 60 * time.Second
	// maxDiagnoses is how many run at a time unless Options say otherwise; more are refused.
	maxDiagnoses = 4
	// maxName is the longest name that an object can have.
	maxName = 253
)

// Options say what the page can do where it is served.
type Options struct {
	// Cluster and Server are what the page says it shows: a context or the like, and an address.
	Cluster, Server string

	// Hosts are the values of the Host header that are answered; none means all. Whoever serves without
	// TLS must set them: a name that an attacker's page turns into this server's address (DNS
	// rebinding) is refused by nothing else. With TLS, no certificate holds for such a name.
	Hosts []string

	// Allowed says whether a request may see the page; nil means that whoever serves it has decided.
	// An error is answered as a refusal, and its text is not told.
	Allowed func(r *http.Request) (bool, error)

	// Diagnose has doctor say what is at fault with one APIService, with the rights of the request.
	// Nil means that there is no doctor here: the page shows the faults of the resource.
	Diagnose func(r *http.Request, name string) (Verdict, error)
	// Diagnoses is how many run at a time; 0 means 4.
	Diagnoses int
}

// about is what the page asks first.
type about struct {
	Cluster string `json:"cluster,omitempty"`
	Server  string `json:"server,omitempty"`
	Doctor  bool   `json:"doctor"`
}

// Handler serves the page below Path. It answers GET and HEAD alone, changes nothing, and takes
// nothing from a request but a name.
func Handler(o Options) http.Handler {
	mux := http.NewServeMux()
	for name, f := range assets() {
		mux.Handle(Path+name, f)
	}
	mux.HandleFunc(Path+"api/about", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, about{Cluster: o.Cluster, Server: o.Server, Doctor: o.Diagnose != nil})
	})
	mux.Handle(Path+"api/doctor", doctor(o.Diagnose, cmp.Or(o.Diagnoses, maxDiagnoses)))
	mux.HandleFunc(Path, func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, http.StatusNotFound, "the console has no such page")
	})
	mux.HandleFunc(strings.TrimSuffix(Path, "/"), func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", strings.Trim(Path, "/")+"/") // relative: it holds behind any path
		w.WriteHeader(http.StatusMovedPermanently)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		SetHeaders(w.Header())
		switch {
		case len(o.Hosts) > 0 && !slices.Contains(o.Hosts, r.Host):
			refuse(w, http.StatusMisdirectedRequest, "this address is not served here")
		case !SameOrigin(r):
			refuse(w, http.StatusForbidden, "other sites may not ask the console")
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD")
			refuse(w, http.StatusMethodNotAllowed, "the console is read-only")
		case !allowed(o.Allowed, r):
			refuse(w, http.StatusForbidden, "only who may get remoteapiservices.aggregation.annex.dev sees the console")
		default:
			mux.ServeHTTP(w, r)
		}
	})
}

func allowed(ask func(*http.Request) (bool, error), r *http.Request) bool {
	if ask == nil {
		return true
	}
	ok, err := ask(r)
	return ok && err == nil
}

// doctor answers with a verdict.
func doctor(diagnose func(*http.Request, string) (Verdict, error), atOnce int) http.Handler {
	places := make(chan struct{}, atOnce)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := r.URL.Query().Get("name")
		switch {
		case diagnose == nil:
			refuse(w, http.StatusNotImplemented, "doctor is not here; annex doctor NAME asks in a terminal, annex console in a browser")
			return
		case !isName(name):
			refuse(w, http.StatusBadRequest, "the query name must be that of an APIService")
			return
		case r.Method == http.MethodHead:
			return
		}
		select {
		case places <- struct{}{}:
			defer func() { <-places }()
		default:
			w.Header().Set("Retry-After", "1")
			refuse(w, http.StatusTooManyRequests, "doctor is busy; ask again")
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), diagnosisLimit)
		defer cancel()
		verdict, err := diagnose(r.WithContext(ctx), name)
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			refuse(w, http.StatusGatewayTimeout, "doctor found no end within "+diagnosisLimit.String())
		case err != nil:
			refuse(w, http.StatusBadGateway, err.Error())
		default:
			writeJSON(w, http.StatusOK, verdict)
		}
	})
}

// isName says whether a text can name an APIService, and nothing else where it stands in a path.
func isName(s string) bool {
	return s != "" && len(s) <= maxName && !strings.Contains(s, "..") && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '.' || r == '-')
	})
}

// refuse answers with a message as the API does, so that the page reads one form.
func refuse(w http.ResponseWriter, code int, message string) {
	writeJSON(w, code, struct {
		Kind       string `json:"kind"`
		APIVersion string `json:"apiVersion"`
		Status     string `json:"status"`
		Message    string `json:"message"`
		Code       int    `json:"code"`
	}{"Status", "v1", "Failure", message, code})
}

func writeJSON(w http.ResponseWriter, code int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(value) // the client is gone where it cannot be written
}
