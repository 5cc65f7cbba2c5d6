package load

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestEveryRequestIsSentOnce(t *testing.T) {
	var seen atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		seen.Add(1)
		w.Write([]byte("four"))
	}))
	defer server.Close()
	r, err := Run(context.Background(), server.Client(), Spec{URL: server.URL, Size: 4, Requests: 57, Concurrency: 5, Limit: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if seen.Load() != 57 {
		t.Errorf("%d requests, want 57", seen.Load())
	}
	if p50, p99 := r.Percentile(50), r.Percentile(99); p50 <= 0 || p50 > p99 || p99 > r.Took {
		t.Errorf("p50 %v, p99 %v, all %v", p50, p99, r.Took)
	}
}

func TestWrongAnswersFail(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"status": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusAccepted)
			w.Write([]byte("four"))
		},
		"short": func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("fou")) },
		"long":  func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("fours")) },
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(answer)
			defer server.Close()
			_, err := Run(context.Background(), server.Client(), Spec{URL: server.URL, Size: 4, Requests: 20, Concurrency: 3, Limit: time.Minute})
			if err == nil || !strings.Contains(err.Error(), "want 200 and 4") {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestWritesCarryTheirBody(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			w.WriteHeader(http.StatusCreated)
		}
		io.Copy(w, r.Body)
	}))
	defer server.Close()
	_, err := Run(t.Context(), server.Client(), Spec{
		Method: http.MethodPost, URL: server.URL, Body: []byte("sixsix"), Status: http.StatusCreated,
		Size: 6, Requests: 20, Concurrency: 3, Limit: time.Minute,
	})
	if err != nil {
		t.Error(err)
	}
}

func TestJoin(t *testing.T) {
	got := Join(Result{Took: 2, latencies: []time.Duration{1, 5}}, Result{Took: 3, latencies: []time.Duration{2, 3}})
	if want := (Result{Took: 5, latencies: []time.Duration{1, 2, 3, 5}}); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestPercentile(t *testing.T) {
	var r Result
	for i := range 200 {
		r.latencies = append(r.latencies, time.Duration(i+1))
	}
	for p, want := range map[float64]time.Duration{0.1: 1, 50: 100, 99: 198, 100: 200} {
		if got := r.Percentile(p); got != want {
			t.Errorf("p%v = %d, want %d", p, got, want)
		}
	}
}
