package diagnosis

import (
	"bytes"
	"crypto/x509"
	"errors"
	"regexp"
	"slices"
	"strings"

	"github.com/annex-api/annex/internal/printable"
)

func checkRequestHeader(l *look) {
	rh, ok := need(l, "ConfigMap kube-system/extension-apiserver-authentication", l.f.Cluster.RequestHeader)
	if !ok {
		return
	}
	line := l.logged("requestheader-client-ca-file", "provide").text
	switch {
	case rh == nil:
		l.found(RequestHeaderNotConfigured, Certain, l.fields, "there is no ConfigMap extension-apiserver-authentication in kube-system")
	case !rh.HasRequestHeaderClientCA:
		l.found(RequestHeaderNotConfigured, Certain, l.fields, "ConfigMap kube-system/extension-apiserver-authentication has no requestheader-client-ca-file%s", quoted(line))
	}
}

// quoted is a line of a log as the end of a sentence.
func quoted(line string) string {
	if line == "" {
		return ""
	}
	return `; the log says "` + printable.Line(line, 250) + `"`
}

var commonName = regexp.MustCompile(`(?i)\bcn=([^,+" ]+)`)

// proxyNames are the common names that the front proxy's certificate has, or may have; known says
// that it was seen.
func (l *look) proxyNames() (names []string, known bool) {
	if chain := l.f.Cluster.FrontProxy.Value; len(chain) > 0 && chain[0] != nil {
		return []string{chain[0].Subject.CommonName}, true
	}
	if r := l.remote(); r != nil && r.Certificates.FrontProxy != nil {
		if m := commonName.FindStringSubmatch(r.Certificates.FrontProxy.Subject); m != nil {
			return []string{m[1]}, true
		}
	}
	if rh := l.f.Cluster.RequestHeader.Value; rh != nil {
		names = append(names, rh.AllowedNames...)
	}
	return append(names, "front-proxy-client", "system:auth-proxy", "aggregator", "kube-apiserver-proxy-client", "system:aggregator"), false
}

func checkFrontProxy(l *look) {
	x := l.fields
	now := l.now()
	expiredAt := ""
	if chain := l.f.Cluster.FrontProxy.Value; len(chain) > 0 && chain[0] != nil {
		expiredAt = invalidAt(chain[0], now)
	} else if r := l.remote(); r != nil && r.Certificates.FrontProxy != nil && !now.IsZero() && now.After(r.Certificates.FrontProxy.NotAfter.Time) {
		expiredAt = "expired at " + stamp(r.Certificates.FrontProxy.NotAfter.Time)
	}
	if expiredAt != "" {
		l.found(FrontProxyCertificateExpired, Certain, x, "the API server's proxy certificate %s", expiredAt)
	}
	if names, known := l.proxyNames(); known {
		rh := l.f.Cluster.RequestHeader.Value
		if rh != nil && len(rh.AllowedNames) > 0 && !slices.Contains(rh.AllowedNames, names[0]) {
			x.CommonName = names[0]
			l.found(FrontProxyNameNotAllowed, Certain, x, "the API server's proxy certificate is called %q, and requestheader-allowed-names are %s", printable.Line(names[0], maxValue), list(rh.AllowedNames))
		}
	}
	if !l.trouble() {
		return
	}
	h := l.logged("is not in the allowed list")
	if f, told := l.tells(nameNotAllowed); told && h.sure != Certain {
		h = heard{f.from, f.text, nil, Certain}
	}
	if h.text != "" {
		if m := commonName.FindStringSubmatch(h.text); m != nil {
			x.CommonName = m[1]
		}
		l.foundInLog(h, FrontProxyNameNotAllowed, Certain, x, "%s says: %s", h.from, h.text)
	}
	if h := l.logged("unable to authenticate the request", "certificate has expired"); h.text != "" {
		l.foundInLog(h, FrontProxyCertificateExpired, Likely, x, "the extension server refused a client's certificate%s", quoted(h.text))
	}
}

// right is a right of the ServiceAccount: whether it was seen to be missing.
func (l *look) lacks(r Right) bool {
	k := l.a.Rights[r]
	return k.Seen && !k.Value
}

// needRight says that a right was not seen. Of a server that is well among many nobody asked.
func (l *look) needRight(r Right) {
	if k := l.a.Rights[r]; l.trouble() || !errors.Is(k.Why(), ErrNotAsked) {
		need(l, "right to "+string(r), k)
	}
}

// account is the ServiceAccount's name for a sentence.
func (l *look) account() string {
	x := l.fields.filled()
	return x.Namespace + "/" + x.ServiceAccount
}

func checkAuthenticationReader(l *look) {
	h := l.logged("extension-apiserver-authentication", "forbidden")
	if h.text == "" {
		h = l.logged("unable to get configmap/extension-apiserver-authentication")
	}
	if l.lacks(ReadAuthentication) {
		h.sure = Certain // that it was so in the log is so now
	}
	l.needRight(ReadAuthentication)
	if !l.trouble() || l.a.Rights[ReadAuthentication].Value {
		return // a server that is well has no need of it
	}
	misplaced := ""
	for _, b := range l.a.ReaderBindings.Value {
		if namespace, _, _ := strings.Cut(b, "/"); namespace != "kube-system" {
			misplaced = "; RoleBinding " + b + " is in the wrong namespace"
		}
	}
	switch {
	case h.text != "":
		l.foundInLog(h, AuthenticationReaderMissing, Certain, l.fields, "ServiceAccount %s may not get ConfigMap kube-system/extension-apiserver-authentication%s%s", l.account(), misplaced, quoted(h.text))
	case l.lacks(ReadAuthentication) && misplaced != "":
		l.found(AuthenticationReaderMissing, Certain, l.fields, "ServiceAccount %s may not get ConfigMap kube-system/extension-apiserver-authentication%s", l.account(), misplaced)
	case l.lacks(ReadAuthentication) && (l.a.File || l.identityRefused()):
		l.found(AuthenticationReaderMissing, Likely, l.fields, "ServiceAccount %s may not get ConfigMap kube-system/extension-apiserver-authentication", l.account())
	case l.lacks(ReadAuthentication) && l.failing():
		l.found(AuthenticationReaderMissing, Possible, l.fields, "ServiceAccount %s may not get ConfigMap kube-system/extension-apiserver-authentication, which most extension servers need", l.account())
	}
}

// identityRefused says that the extension server did not take the API server for what it is.
func (l *look) identityRefused() bool {
	_, nobody := l.tells(anonymous)
	code := l.badStatus()
	return nobody || code == 401 || code == 403
}

func checkDelegator(l *look) {
	l.needRight(ReviewAccess)
	if !l.trouble() || l.a.Rights[ReviewAccess].Value && l.a.Rights[ReviewTokens].Value {
		return
	}
	h := l.logged("subjectaccessreviews", "forbidden")
	if h.text == "" {
		h = l.logged("cannot create resource", "subjectaccessreviews")
	}
	if h.text == "" {
		h = l.logged("cannot create resource", "tokenreviews")
	}
	if l.lacks(ReviewAccess) || l.lacks(ReviewTokens) {
		h.sure = Certain // that it was so in the log is so now
	}
	for _, f := range l.texts {
		if strings.Contains(f.text, "subjectaccessreviews") || strings.Contains(f.text, "tokenreviews") {
			h = heard{f.from, f.text, nil, Certain}
		}
	}
	for _, a := range []Answer{l.a.GroupVersion.Value, l.a.List.Value} {
		if a.Status != nil && strings.Contains(a.Status.Message, "subjectaccessreviews") {
			h = heard{"GET " + a.Path, a.Status.Message, nil, Certain}
		}
	}
	switch {
	case h.text != "":
		l.foundInLog(h, AuthDelegatorMissing, Certain, l.fields, "ServiceAccount %s may not create subjectaccessreviews%s", l.account(), quoted(h.text))
	case l.lacks(ReviewAccess) && (l.a.File || l.identityRefused() || l.a.List.Value.Code >= 500):
		l.found(AuthDelegatorMissing, Likely, l.fields, "ServiceAccount %s may not create subjectaccessreviews", l.account())
	case l.lacks(ReviewAccess) && l.failing():
		l.found(AuthDelegatorMissing, Possible, l.fields, "ServiceAccount %s may not create subjectaccessreviews, which most extension servers need", l.account())
	}
}

func checkInformers(l *look) {
	if !l.trouble() || l.a.File {
		return
	}
	var missing []string
	for _, r := range []Right{WatchFlowSchemas, WatchPriorityLevels, WatchMutatingWebhooks, WatchValidatingWebhooks, WatchNamespaces} {
		if l.lacks(r) {
			missing = append(missing, string(r))
		}
	}
	for _, w := range []struct {
		what  string
		right []Right
	}{
		{"flowschema", []Right{WatchFlowSchemas}},
		{"prioritylevelconfiguration", []Right{WatchPriorityLevels}},
		{"webhookconfiguration", []Right{WatchMutatingWebhooks, WatchValidatingWebhooks}},
		{"validatingadmissionpolic", nil},
		{"namespaces", []Right{WatchNamespaces}},
	} {
		for _, how := range []string{"is forbidden", "could not find the requested resource", "too large resource version"} {
			h := l.logged(w.what, how)
			switch {
			case h.text == "" || strings.Contains(h.text, "subjectaccessreviews"):
				continue
			case how != "is forbidden":
			case slices.ContainsFunc(w.right, l.lacks):
				h.sure = Certain // that it was so in the log is so now
			case len(w.right) > 0 && !slices.ContainsFunc(w.right, func(r Right) bool { return !l.a.Rights[r].Value }):
				continue // it is allowed by now
			}
			if l.foundInLog(h, InformerRightsMissing, Certain, l.fields, "ServiceAccount %s may not watch what the server waits for%s", l.account(), quoted(h.text)) {
				return
			}
		}
	}
	if len(missing) > 0 && l.unready() {
		l.found(InformerRightsMissing, Possible, l.fields, "ServiceAccount %s may not %s, which a server with fairness or admission waits for", l.account(), list(missing))
	}
}

// unready says that there are Pods, they run, and none is ready.
func (l *look) unready() bool {
	return len(l.a.Pods.Value) > 0 && !slices.ContainsFunc(l.a.Pods.Value, func(p Pod) bool { return ready(&p.Object) || waiting(&p.Object) != "" })
}

// toAPIServer is what client-go says of a request that did not reach the API server.
var toAPIServer = regexp.MustCompile(`dial tcp ([0-9.]+|\[[0-9a-f:]+\]):(443|6443): .*(timeout|no route|unreachable|refused)`)

func checkReachesAPIServer(l *look) {
	if !l.trouble() {
		return
	}
	if h := l.loggedLike(toAPIServer.MatchString); h.text != "" {
		x, p := l.fields, &h.pod.Object
		x.Pod, x.Node = p.Name, p.Spec.NodeName
		l.foundInLog(h, APIServerUnreachableFromPod, Certain, x, "Pod %s on node %s has no way to the API server%s", p.Name, p.Spec.NodeName, quoted(h.text))
	}
}

func checkKubelets(l *look) {
	if !l.trouble() {
		return
	}
	for _, parts := range [][]string{{"cannot validate certificate for", "ip sans"}, {"scrape", "x509"}, {"kubelet", "x509"}} {
		if h := l.logged(parts...); h.text != "" {
			x := l.fields
			x.Pod = h.pod.Object.Name
			l.foundInLog(h, KubeletCertificateNotTrusted, Certain, x, "Pod %s cannot read from a kubelet%s", x.Pod, quoted(h.text))
			return
		}
	}
}

// checkTrust is about a server that answers and does not take the API server for the front proxy.
func checkTrust(l *look) {
	x := l.fields
	rh := l.f.Cluster.RequestHeader.Value
	if !l.trouble() {
		if rh != nil && sameAuthority(rh) {
			l.foundAs(Info, FrontProxyIdentityUsed, Possible, x, "client-ca-file and requestheader-client-ca-file hold the same authority; a server that looks at certificates before headers takes the proxy for a user")
		}
		return
	}
	names, _ := l.proxyNames()
	for _, h := range l.userRefusals() {
		for _, name := range names {
			if name != "" && strings.Contains(h.text, `User "`+name+`"`) {
				x.CommonName = name
				same := ""
				if rh != nil && sameAuthority(rh) {
					same = "; client-ca-file and requestheader-client-ca-file hold the same authority"
				}
				if l.foundInLog(h, FrontProxyIdentityUsed, Certain, x, "%s says: %s%s", h.from, h.text, same) {
					return
				}
			}
		}
	}
	if h := l.logged("unable to authenticate the request", "signed by unknown authority"); h.text != "" {
		c, why := Likely, ""
		if started := h.pod.Object.Status.StartTime; rh != nil && started != nil && rh.Changed.After(started.Time) {
			c, why = Certain, "; the authority was replaced at "+stamp(rh.Changed)+", and the Pod has run since "+stamp(started.Time)
		}
		x.Pod = h.pod.Object.Name
		if l.foundInLog(h, FrontProxyNotTrusted, c, x, "Pod %s refused the API server's proxy certificate%s%s", x.Pod, why, quoted(h.text)) {
			return
		}
	}
	code := l.badStatus()
	if code == 0 && (l.a.GroupVersion.Value.Code == 401 || l.a.List.Value.Code == 401) {
		code = 401
	}
	_, nobody := l.tells(anonymous)
	if at := l.oldClientCA(rh); at != "" && (code == 401 || code == 403 || nobody) {
		l.found(FrontProxyNotTrusted, Certain, x, "endpoint %s asks for client certificates of other authorities than requestheader-client-ca-file", at)
		return
	}
	if f, ok := l.tells(anonymous); ok {
		l.found(AnonymousRefused, Certain, x, "%s says: %s", f.from, f.text)
		return
	}
	switch code {
	case 401:
		l.found(FrontProxyNotTrusted, Likely, x, "the extension server answers 401 to the API server%s", l.saidBy())
	case 403:
		l.found(AnonymousRefused, Likely, x, "the extension server answers 403 to the API server's own check%s", l.saidBy())
	}
}

func (l *look) saidBy() string {
	if len(l.texts) == 0 {
		return ""
	}
	return "; " + l.texts[0].from + " says: " + printable.Line(l.texts[0].text, 250)
}

// userRefusals are texts that may say who was refused.
func (l *look) userRefusals() []heard {
	var all []heard
	for _, f := range l.texts {
		all = append(all, heard{f.from, f.text, nil, Certain})
	}
	for _, a := range []Answer{l.a.GroupVersion.Value, l.a.List.Value} {
		if a.Status != nil {
			all = append(all, heard{"GET " + a.Path, a.Status.Message, nil, Certain})
		}
	}
	if h := l.logged(`user "`, "cannot"); h.text != "" {
		all = append(all, h)
	}
	return all
}

func sameAuthority(rh *RequestHeader) bool {
	return slices.ContainsFunc(rh.RequestHeaderClientCA, func(c *x509.Certificate) bool {
		return c != nil && slices.ContainsFunc(rh.ClientCA, c.Equal)
	})
}

// oldClientCA is an endpoint that asks for client certificates, and for none of the front proxy's
// authorities; empty if there is none, or it cannot be told.
func (l *look) oldClientCA(rh *RequestHeader) string {
	if rh == nil || len(rh.RequestHeaderClientCA) == 0 {
		return ""
	}
	for _, e := range l.a.Endpoints.Value {
		for _, a := range []Attempt{e.Forwarded.Value, e.Direct.Value, e.ProbePod.Value} {
			asked := slices.ContainsFunc(a.ClientCAs, func(subject []byte) bool {
				return slices.ContainsFunc(rh.RequestHeaderClientCA, func(c *x509.Certificate) bool { return c != nil && bytes.Equal(c.RawSubject, subject) })
			})
			if len(a.ClientCAs) > 0 && !asked {
				return e.Address
			}
		}
	}
	return ""
}
