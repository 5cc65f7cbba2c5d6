package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
)

const (
	apiPath = "/apis/wardle.example.com/v1alpha1/namespaces/"
	// most bounds an answer that is read.
	most = 64 << 20
)

func collection(namespace string) string { return apiPath + namespace + "/flunders" }

func name(i int) string { return fmt.Sprintf("flunder-%06d", i) }

// flunder is an object of some 300 bytes, before the server adds its own.
func flunder(i int) []byte {
	return fmt.Appendf(nil, `{"apiVersion":"wardle.example.com/v1alpha1","kind":"Flunder","metadata":{"name":%q,`+
		`"labels":{"app":"bench","part":"part-%d","team":"a-team-with-a-name"},"annotations":{"example.com/purpose":"an annotation as long as many are, for measuring"}},`+
		`"spec":{"reference":"another-flunder-%d","referenceType":"Flunder"}}`, name(i), i%10, i)
}

// send sends a request and gives the answer's body; it errs unless the status is the wanted one.
func send(ctx context.Context, client *http.Client, method, url, media string, body []byte, want int) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("making a request: %w", err)
	}
	if media != "" {
		r.Header.Set("Content-Type", media)
	}
	resp, err := client.Do(r)
	if err != nil {
		return nil, fmt.Errorf("sending a request: %w", err)
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(io.LimitReader(resp.Body, most))
	if err != nil {
		return nil, fmt.Errorf("reading the answer to %s %s: %w", method, url, err)
	}
	if resp.StatusCode != want {
		return nil, fmt.Errorf("%s %s: status %d, want %d: %.300s", method, url, resp.StatusCode, want, content)
	}
	return content, nil
}

func get(ctx context.Context, client *http.Client, url string) ([]byte, error) {
	return send(ctx, client, http.MethodGet, url, "", nil, http.StatusOK)
}

func (v *server) create(ctx context.Context, namespace string, i int) ([]byte, error) {
	return send(ctx, v.client, http.MethodPost, v.URL+collection(namespace), "application/json", flunder(i), http.StatusCreated)
}

// patch changes one label, so that each patch is a change.
func (v *server) patch(ctx context.Context, namespace string, i, round int) ([]byte, error) {
	body := []byte(`{"metadata":{"labels":{"round":"patch-` + strconv.Itoa(round) + `"}}}`)
	return send(ctx, v.client, http.MethodPatch, v.URL+collection(namespace)+"/"+name(i), "application/merge-patch+json", body, http.StatusOK)
}

// changed is an object with another label, as its client read it before: with the version.
func changed(read []byte, round int) ([]byte, error) {
	var o struct {
		APIVersion string         `json:"apiVersion"`
		Kind       string         `json:"kind"`
		Metadata   map[string]any `json:"metadata"`
		Spec       map[string]any `json:"spec"`
	}
	if err := json.Unmarshal(read, &o); err != nil {
		return nil, fmt.Errorf("reading an object: %w", err)
	}
	labels, ok := o.Metadata["labels"].(map[string]any)
	if !ok {
		return nil, fmt.Errorf("an object has no labels: %.300s", read)
	}
	labels["round"] = strconv.Itoa(round)
	return json.Marshal(o)
}
