package gather

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/annex-api/annex/diagnosis"
)

const (
	// ProbeImage is what a probe Pod runs unless ProbePod names another: a small image with curl.
	ProbeImage = "docker.io/curlimages/curl:8.11.1"
	// ProbeLabel and ProbeName are the label that probe Pods have.
	ProbeLabel, ProbeName = "app.kubernetes.io/name", "annex-doctor-probe"

	// maxProbed is how many endpoints one Pod asks, one after another, each for at most probeTime.
	maxProbed, probeTime = 8, 5 * time.Second
	// probeTimeout is how long a probe Pod may be there, its image's download included.
	probeTimeout = 2 * time.Minute
	// probePause is between two looks at it, and deleteTimeout bounds its deletion.
	probePause, deleteTimeout = 500 * time.Millisecond, 10 * time.Second
	// maxProbeLog bounds what is read of its log, in bytes.
	maxProbeLog = 4 << 20
	// maxLeftovers is how many Pods of earlier runs are deleted at once.
	maxLeftovers = 20
	// probeLine begins the lines of its log that count.
	probeLine = "annex-probe "
)

// ProbePod wants a Pod beside the extension server that asks its endpoints and its Service.
type ProbePod struct {
	// Image has curl on its PATH, 7.88 or later; ProbeImage if it is empty.
	Image string
	// Timeout is how long the Pod may be there; 0 means 2 minutes.
	Timeout time.Duration
	// Say is told what is about to be created, and what went wrong. It is called from several
	// goroutines.
	Say func(text string)
}

// probing is one probe Pod.
type probing struct {
	*cluster
	ProbePod
	namespace, name string
}

// probePod has a Pod ask the first endpoints, and the Service's cluster IP. The Pod is deleted however
// this ends; that of a run that was killed ends by itself, and the next run deletes it.
func (g *gathering) probePod(ctx context.Context, a *apiregistrationv1.APIService, q question, service *corev1.Service, f *diagnosis.APIServiceFacts, found []diagnosis.Endpoint) {
	p := &probing{cluster: g.cluster, ProbePod: *g.ProbePod, namespace: service.Namespace, name: ProbeName + "-" + strings.ToLower(rand.Text()[:10])}
	p.Image, p.Timeout = cmp.Or(p.Image, ProbeImage), cmp.Or(p.Timeout, probeTimeout)
	probed := found[:min(len(found), maxProbed)]
	var addresses []string
	for _, e := range probed {
		addresses = append(addresses, e.Address)
	}
	// The Service comes last.
	if ip := service.Spec.ClusterIP; ip != "" && ip != corev1.ClusterIPNone {
		addresses = append(addresses, net.JoinHostPort(ip, strconv.Itoa(int(port(a.Spec.Service)))))
	} else {
		f.ServiceFromPod = diagnosis.Unseen[diagnosis.Attempt](unsupported("the Service has no cluster IP"))
	}
	if len(addresses) == 0 {
		return
	}
	attempts, err := p.run(ctx, curl(q, addresses))
	if err != nil && ctx.Err() == nil {
		p.Say(fmt.Sprintf("Pod %s/%s showed nothing: %v", p.namespace, p.name, err))
	}
	for i := range addresses {
		attempt := diagnosis.Unseen[diagnosis.Attempt](err)
		if got, has := attempts[i]; has {
			attempt = diagnosis.Saw(got)
		} else if err == nil {
			attempt = diagnosis.Unseen[diagnosis.Attempt](errors.New("the probe Pod's log does not tell of it"))
		}
		if i < len(probed) {
			probed[i].ProbePod = attempt
		} else {
			f.ServiceFromPod = attempt
		}
	}
}

// curl is the command that asks each address for the group version, and writes a line for each. It
// has no credentials, keeps no answer's body and follows no redirect.
func curl(q question, addresses []string) []string {
	command := []string{"curl"}
	seconds := strconv.Itoa(int(probeTime.Seconds()))
	for i, address := range addresses {
		if i > 0 {
			command = append(command, "--next")
		} else {
			command = append(command, "--disable") // no file of options; it must come first
		}
		command = append(
			command, "--silent", "--insecure", "--http1.1", "--noproxy", "*",
			"--connect-timeout", seconds, "--max-time", seconds, "--user-agent", "annex-doctor",
			"--connect-to", q.serverName+":443:"+address, "--output", "/dev/null",
			"--write-out", probeLine+strconv.Itoa(i)+` %{json}\n`, "https://"+q.serverName+q.path,
		)
	}
	return command
}

// run creates the Pod, waits until its command has ended, and reads what it wrote.
func (p *probing) run(ctx context.Context, command []string) (map[int]diagnosis.Attempt, error) {
	p.deleteLeftovers(ctx)
	seconds := int64(math.Ceil(p.Timeout.Seconds()))
	body, err := json.Marshal(probeManifest(p.namespace, p.name, p.Image, seconds, command))
	if err != nil {
		return nil, err
	}
	p.Say(fmt.Sprintf("Creating Pod %s/%s with image %s: it asks the extension server from inside the cluster, without credentials, and is deleted afterwards", p.namespace, p.name, p.Image))
	ctx, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	path := "/api/v1/namespaces/" + p.namespace + "/pods"
	a, err := p.ask(ctx, request{method: http.MethodPost, path: path, body: body, contentType: "application/json"})
	if err == nil {
		if err := refusal(path, a); err != nil {
			return nil, err
		}
	}
	// Without an answer it may be there.
	defer p.delete(ctx)
	if err != nil {
		return nil, err
	}
	pod, err := p.ended(ctx)
	if err != nil {
		return nil, err
	}
	query := url.Values{"container": {ProbeName}, "limitBytes": {strconv.Itoa(maxProbeLog)}}
	if a, err = p.ask(ctx, request{path: path + "/" + p.name + "/log", query: query, accept: "*/*", most: maxProbeLog}); err == nil {
		err = refusal(path, a)
	}
	if err != nil {
		return nil, err
	}
	attempts := readProbes(a.body)
	if len(attempts) == 0 {
		return nil, fmt.Errorf("image %s did not run curl as it should: %s", p.Image, said(pod, a.body))
	}
	return attempts, nil
}

// ended waits until the Pod's command has ended.
func (p *probing) ended(ctx context.Context) (*corev1.Pod, error) {
	path := "/api/v1/namespaces/" + p.namespace + "/pods/" + p.name
	ticker := time.NewTicker(probePause)
	defer ticker.Stop()
	last := "nothing is known of it"
	for {
		pod, err := get[corev1.Pod](ctx, p.cluster, path, nil)
		switch {
		case errors.Is(err, errNotFound):
			return nil, errors.New("somebody deleted it")
		case ctx.Err() != nil:
		case err != nil:
			last = err.Error()
		case pod.Status.Reason == "DeadlineExceeded":
			return nil, fmt.Errorf("it did not end within %v: %w", p.Timeout, diagnosis.ErrTimedOut)
		case pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed:
			return &pod, nil
		default:
			reason, never := waits(&pod)
			if never {
				return nil, errors.New(reason)
			}
			last = reason
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return nil, fmt.Errorf("it did not end within %v (%s): %w", p.Timeout, last, diagnosis.ErrTimedOut)
			}
			return nil, ctx.Err()
		}
	}
}

// waits says why a Pod has not ended, and whether it never will.
func waits(pod *corev1.Pod) (reason string, never bool) {
	for _, s := range pod.Status.ContainerStatuses {
		if w := s.State.Waiting; w != nil && w.Reason != "" {
			text := w.Reason + ": " + w.Message
			switch w.Reason {
			case "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError", "CreateContainerError", "RunContainerError":
				return text[:min(len(text), maxMessage)], true
			}
			return text[:min(len(text), maxMessage)], false
		}
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			text := c.Reason + ": " + c.Message
			return text[:min(len(text), maxMessage)], false
		}
	}
	return "it is " + cmp.Or(string(pod.Status.Phase), "not scheduled"), false
}

// said is what a Pod that ended told of why.
func said(pod *corev1.Pod, log []byte) string {
	for _, s := range pod.Status.ContainerStatuses {
		if t := s.State.Terminated; t != nil && t.Message != "" {
			return t.Message[:min(len(t.Message), maxMessage)]
		}
	}
	if text := strings.TrimSpace(string(log[:min(len(log), maxMessage)])); text != "" {
		return text
	}
	return "it wrote nothing"
}

// delete deletes the Pod, also where ctx has ended.
func (p *probing) delete(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteTimeout)
	defer cancel()
	if err := p.deletePod(ctx, p.name, ""); err != nil {
		p.Say(fmt.Sprintf("Pod %s/%s could not be deleted: %v. It ends by itself within %v; kubectl -n %s delete pod %s",
			p.namespace, p.name, err, p.Timeout, p.namespace, p.name))
	}
}

// deletePod deletes a Pod at once; that with a UID, where one is given. It tries again as long as
// nothing answers.
func (p *probing) deletePod(ctx context.Context, name, uid string) error {
	options := map[string]any{"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0}
	if uid != "" {
		options["preconditions"] = map[string]any{"uid": uid}
	}
	body, err := json.Marshal(options)
	if err != nil {
		return err
	}
	path := "/api/v1/namespaces/" + p.namespace + "/pods/" + name
	for {
		a, err := p.ask(ctx, request{method: http.MethodDelete, path: path, body: body, contentType: "application/json"})
		if err == nil {
			err = refusal(path, a)
		}
		if err == nil || errors.Is(err, errNotFound) {
			return nil
		}
		if a.code != 0 && a.code < 500 && a.code != http.StatusTooManyRequests {
			return err
		}
		select {
		case <-time.After(probePause):
		case <-ctx.Done():
			return err
		}
	}
}

// deleteLeftovers deletes the Pods of runs that were killed. Those that cannot be seen or deleted
// stay: they run no more.
func (p *probing) deleteLeftovers(ctx context.Context) {
	path := "/api/v1/namespaces/" + p.namespace + "/pods"
	ended, err := list(ctx, p.cluster, path, selecting("labelSelector", ProbeLabel+"="+ProbeName), maxLeftovers, func(pod corev1.Pod) (corev1.Pod, bool) {
		// One that has just ended is another run's, which reads it.
		return pod, pod.Status.Reason == "DeadlineExceeded" && pod.Labels[ProbeLabel] == ProbeName
	})
	if err != nil {
		return
	}
	for _, pod := range ended {
		ctx, cancel := context.WithTimeout(ctx, p.timeout)
		_ = p.deletePod(ctx, pod.Name, string(pod.UID)) // it stays, and runs no more
		cancel()
	}
}

// probed is what curl tells of one request.
type probed struct {
	Code        int     `json:"http_code"`
	ExitCode    int     `json:"exitcode"`
	ErrorMsg    string  `json:"errormsg"`
	ContentType string  `json:"content_type"`
	Connected   float64 `json:"time_connect"`
	Secured     float64 `json:"time_appconnect"`
	Total       float64 `json:"time_total"`
	RemotePort  int     `json:"remote_port"`
	URL         string  `json:"url"`
	Certs       string  `json:"certs"`
}

// readProbes reads the lines that curl wrote, by the number of the address.
func readProbes(log []byte) map[int]diagnosis.Attempt {
	found := map[int]diagnosis.Attempt{}
	lines := bufio.NewScanner(bytes.NewReader(log))
	lines.Buffer(nil, maxProbeLog)
	for lines.Scan() {
		text, isLine := strings.CutPrefix(lines.Text(), probeLine)
		number, document, _ := strings.Cut(text, " ")
		i, err := strconv.Atoi(number)
		if !isLine || err != nil || i < 0 || i > maxProbed {
			continue
		}
		var one probed
		if json.Unmarshal([]byte(document), &one) == nil {
			found[i] = one.attempt()
		}
	}
	return found
}

// attempt is what a request of curl's came to.
func (p probed) attempt() diagnosis.Attempt {
	a := diagnosis.Attempt{Took: since(p.Connected)}
	// What is no certificate of a chain is not worth more than the rest of it.
	a.Chain, _ = certificates([]byte(p.Certs))
	text := p.ErrorMsg[:min(len(p.ErrorMsg), maxMessage)]
	if p.ExitCode != 0 {
		text = cmp.Or(text, fmt.Sprintf("curl ended with %d", p.ExitCode))
	}
	switch {
	// Where the handshake fails, some versions of curl forget when the connection stood.
	case p.Connected == 0 && p.RemotePort == 0 && p.Code == 0:
		a.Failure, a.Took = cmp.Or(text, "no connection"), since(p.Total)
	case p.Secured == 0 && p.Code == 0:
		a.TLSFailure = cmp.Or(text, "no handshake")
	default:
		path := ""
		if u, err := url.Parse(p.URL); err == nil {
			path = u.Path
		}
		a.GroupVersion = &diagnosis.Answer{Path: path, Code: p.Code, ContentType: p.ContentType[:min(len(p.ContentType), maxMessage)], Took: since(p.Total)}
		if p.Code == 0 {
			a.GroupVersion.Failure = cmp.Or(text, "no answer")
		}
	}
	return a
}
