package conformance

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/json"
)

// requestLimit bounds one request that is no watch.
const requestLimit = 20 * time.Second

// T is what a check works with: it sends requests, records them, and takes failures. Its methods may
// be called by several goroutines, but those that end the check only by the one that runs it.
type T struct {
	check   Check
	target  Target
	subject *subject
	admin   *client
	second  *client // nil without a second user
	direct  *client // nil without a way straight to the server

	mu       sync.Mutex
	last     *Exchange // of the goroutine that runs the check
	failures []Failure
	reason   string // why the check is not applicable
	made     []made
	undo     []func(context.Context) error
	watches  []*watch
	names    int
}

// made is an object that the check has created.
type made struct{ namespace, name string }

// stopped ends a check: it is recovered by run.
type stopped struct{}

// failf records a failure, seen in an exchange, or else in the last one, and goes on.
func (t *T) failf(e *Exchange, format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e == nil {
		e = t.last
	}
	if len(t.failures) < maxFailures {
		t.failures = append(t.failures, Failure{Message: fmt.Sprintf(format, args...), Exchange: e})
	}
}

// maxFailures bounds what one check reports: the first few say it.
const maxFailures = 5

// fatalf records a failure and ends the check.
func (t *T) fatalf(e *Exchange, format string, args ...any) {
	t.failf(e, format, args...)
	panic(stopped{})
}

// notApplicable ends the check, which could not see whether the promise is kept. Failures stay failures.
func (t *T) notApplicable(format string, args ...any) {
	t.mu.Lock()
	t.reason = fmt.Sprintf(format, args...)
	t.mu.Unlock()
	panic(stopped{})
}

func (t *T) failed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.failures) > 0
}

// run makes the check and gives its result. What it made is removed; what could not be is returned.
func (t *T) run(ctx context.Context) (Result, []string) {
	begin := time.Now()
	bounded, cancel := context.WithTimeout(ctx, t.check.within())
	t.attempt(bounded)
	if errors.Is(bounded.Err(), context.DeadlineExceeded) && ctx.Err() == nil && !t.failed() && t.reason == "" {
		t.failf(nil, "the check did not come to its end in %v", t.check.within())
	}
	cancel()
	left := t.clean(ctx)
	r := Result{Check: t.check, Outcome: Passed, Failures: t.failures, Took: time.Since(begin)}
	switch {
	case ctx.Err() != nil:
		r.Outcome, r.Reason, r.Failures = NotApplicable, "the run was stopped", nil
	case len(t.failures) > 0:
		r.Outcome = Failed
	case t.reason != "":
		r.Outcome, r.Reason = NotApplicable, t.reason
	}
	return r, left
}

func (t *T) attempt(ctx context.Context) {
	defer func() {
		if p := recover(); p != nil {
			if _, ok := p.(stopped); !ok {
				panic(p)
			}
		}
	}()
	t.check.Run(ctx, t)
}

// cleanLimit bounds the cleaning after one check.
const cleanLimit = 20 * time.Second

// clean ends the watches and removes what the check made. It works after the end of ctx too.
func (t *T) clean(ctx context.Context) []string {
	for _, w := range t.watches {
		w.stop()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanLimit)
	defer cancel()
	var left []string
	done := map[made]bool{}
	for _, m := range slices.Backward(t.made) {
		if done[m] {
			continue
		}
		done[m] = true
		if err := t.remove(ctx, m); err != nil {
			left = append(left, fmt.Sprintf("%s %s: %v", t.subject.Resource, m.name, err))
		}
	}
	for _, undo := range slices.Backward(t.undo) {
		if err := undo(ctx); err != nil {
			left = append(left, err.Error())
		}
	}
	return left
}

// remove deletes an object, whatever finalizers it has, and waits until it is gone.
func (t *T) remove(ctx context.Context, m made) error {
	path := t.subject.path(m.namespace, m.name)
	// Gone at once, as nearly always: then the next answer is 404.
	for wait := time.Duration(0); ; wait = min(max(2*wait, 20*time.Millisecond), time.Second) {
		a, err := t.admin.do(ctx, request{method: http.MethodDelete, path: path, query: query("gracePeriodSeconds", "0", "propagationPolicy", "Background")})
		if err != nil {
			return err
		}
		switch a.Code {
		case http.StatusNotFound:
			return nil
		case http.StatusUnauthorized, http.StatusForbidden, http.StatusMethodNotAllowed:
			return fmt.Errorf("delete: %s%s", code(a.Code), saying(a.raw))
		}
		if o, err := parse(a.raw); err == nil && len(o.GetFinalizers()) > 0 {
			free := request{method: http.MethodPatch, path: path, body: []byte(`{"metadata":{"finalizers":null}}`)}
			if _, err := t.admin.do(ctx, free.with("Content-Type", mergePatch)); err != nil {
				return err
			}
		}
		if !pause(ctx, wait) {
			return fmt.Errorf("still there: %w", ctx.Err())
		}
	}
}

// pause waits, and says whether the whole time passed.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// do sends a request as the admin, and ends the check when there is no answer.
func (t *T) do(ctx context.Context, r request) answer { return t.as(ctx, t.admin, r) }

// as sends a request as a user, and ends the check when there is no answer.
func (t *T) as(ctx context.Context, c *client, r request) answer {
	a, err := try(ctx, c, r)
	t.mu.Lock()
	t.last = a.Exchange
	t.mu.Unlock()
	if err != nil {
		t.fatalf(a.Exchange, "there was no answer: %v", err)
	}
	return a
}

// try sends a request, and again where the server asks for patience.
func try(ctx context.Context, c *client, r request) (answer, error) {
	for tries := 0; ; tries++ {
		bounded, cancel := context.WithTimeoutCause(ctx, requestLimit, fmt.Errorf("none within %v", requestLimit))
		a, err := c.do(bounded, r)
		if err != nil && ctx.Err() == nil && bounded.Err() != nil {
			err = context.Cause(bounded)
		}
		cancel()
		if err != nil || a.Code != http.StatusTooManyRequests || tries == 5 || r.stream != nil {
			return a, err
		}
		after, _ := strconv.Atoi(a.Header.Get("Retry-After")) // 0 where it says nothing
		if !pause(ctx, min(time.Duration(max(after, 1))*time.Second, 5*time.Second)) {
			return a, ctx.Err()
		}
	}
}

// want ends the check unless the answer has one of the codes.
func (t *T) want(a answer, codes ...int) answer {
	if !slices.Contains(codes, a.Code) {
		t.fatalf(a.Exchange, "answered %s, want %s%s", code(a.Code), oneOf(codes), saying(a.raw))
	}
	return a
}

func code(c int) string { return strings.TrimSpace(fmt.Sprintf("%d %s", c, http.StatusText(c))) }

func oneOf(codes []int) string {
	words := make([]string, len(codes))
	for i, c := range codes {
		words[i] = code(c)
	}
	return strings.Join(words, " or ")
}

// saying quotes the message of a Status.
func saying(raw []byte) string {
	var s metav1.Status
	if json.Unmarshal(raw, &s) != nil || s.Kind != "Status" || s.Message == "" {
		return ""
	}
	return fmt.Sprintf(": %q", s.Message)
}

// status ends the check unless the answer is a Status that belongs to its code.
func (t *T) status(a answer) metav1.Status {
	var s metav1.Status
	if err := json.Unmarshal(a.raw, &s); err != nil || s.Kind != "Status" {
		t.fatalf(a.Exchange, "the body of %s is no Status object", code(a.Code))
	}
	if int(s.Code) != a.Code {
		t.failf(a.Exchange, "the Status has code %d, the answer %d", s.Code, a.Code)
	}
	return s
}

// refused ends the check unless the answer is a Status with the code, and with the reason unless that
// is empty.
func (t *T) refused(a answer, want int, reason metav1.StatusReason) metav1.Status {
	t.want(a, want)
	s := t.status(a)
	if reason != "" && s.Reason != reason {
		t.failf(a.Exchange, "the Status has reason %q, want %q", s.Reason, reason)
	}
	return s
}

// parsed ends the check unless the body is a JSON object.
func (t *T) parsed(a answer) *unstructured.Unstructured {
	o, err := parse(a.raw)
	if err != nil {
		t.fatalf(a.Exchange, "the body is no JSON object: %v", err)
	}
	return o
}

func parse(raw []byte) (*unstructured.Unstructured, error) {
	o := map[string]any{}
	if err := json.Unmarshal(raw, &o); err != nil {
		return nil, err
	}
	return &unstructured.Unstructured{Object: o}, nil
}
