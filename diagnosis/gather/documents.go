package gather

import (
	"context"
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"

	"github.com/annex-api/annex/diagnosis"
)

const (
	// maxBody is how much of a body is kept.
	maxBody = 4 << 10
	// maxDangling is how many references to nowhere are kept.
	maxDangling = 100
	// maxWarnings is how many headers Warning are kept.
	maxWarnings = 10
)

// answered asks, and tells what came, whatever that is. The reply has the whole body; the error is that
// of the answer's Failure.
func (c *cluster) answered(ctx context.Context, r request) (diagnosis.Answer, reply, error) {
	a, err := c.ask(ctx, r)
	answer := answerOf(a, err)
	answer.Path = r.path
	return answer, a, err
}

func answerOf(a reply, err error) diagnosis.Answer {
	answer := diagnosis.Answer{
		Code: a.code, ContentType: a.header.Get("Content-Type"), Server: a.header.Get("Server"),
		Warnings: a.header.Values("Warning"), Body: a.body[:min(len(a.body), maxBody):min(len(a.body), maxBody)],
		Took: a.ended.Sub(a.sent),
	}
	answer.Warnings = answer.Warnings[:min(len(answer.Warnings), maxWarnings)]
	levels := a.header.Values(flowcontrolv1.ResponseHeaderMatchedPriorityLevelConfigurationUID)
	answer.PriorityLevels = levels[:min(len(levels), maxWarnings)]
	if a.code >= http.StatusBadRequest {
		answer.Status = statusOf(a.body)
		if answer.Status != nil && len(answer.Status.Message) > maxBody {
			answer.Status.Message = answer.Status.Message[:maxBody]
		}
	}
	if err != nil {
		answer.Failure = err.Error()
	}
	return answer
}

// openAPIV2 sees the merged document, and what it refers to that is not in it.
func (g *gathering) openAPIV2(ctx context.Context) diagnosis.Known[diagnosis.OpenAPIV2] {
	answer, a, _ := g.answered(ctx, request{path: "/openapi/v2", most: 2 * maxAnswer}) // the answer has the error
	d := diagnosis.OpenAPIV2{Answer: answer}
	if answer.Code == http.StatusOK && answer.Failure == "" && !a.cut {
		found, err := dangling(a.body)
		if err != nil {
			d.Failure = "read /openapi/v2: " + err.Error()
		}
		d.Dangling = found
	}
	return diagnosis.Saw(d)
}

var (
	reference = regexp.MustCompile(`"\$ref"\s*:\s*"#/definitions/([^"\\]+)"`)
	apiPath   = regexp.MustCompile(`^/apis/([^/]+)/`)
)

// dangling are the references of a document to definitions that it does not have.
func dangling(document []byte) ([]diagnosis.DanglingReference, error) {
	var d struct {
		Paths       map[string]json.RawMessage `json:"paths"`
		Definitions map[string]json.RawMessage `json:"definitions"`
	}
	if err := json.Unmarshal(document, &d); err != nil {
		return nil, err
	}
	var found []diagnosis.DanglingReference
	seen := map[[2]string]bool{}
	names := make([]string, 0, len(d.Definitions))
	for name := range d.Definitions {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, from := range names {
		for _, match := range reference.FindAllSubmatch(d.Definitions[from], -1) {
			to := unescape(string(match[1]))
			if _, has := d.Definitions[to]; has || seen[[2]string{from, to}] || len(found) == maxDangling {
				continue
			}
			seen[[2]string{from, to}] = true
			found = append(found, diagnosis.DanglingReference{From: from, To: to, Groups: groupsOf(d.Definitions[from])})
		}
	}
	if len(found) == 0 {
		return found, nil
	}
	// Who uses a definition that names no group of its own.
	for path, item := range d.Paths {
		match := apiPath.FindStringSubmatch(path)
		if match == nil {
			continue
		}
		for i := range found {
			if text := `"#/definitions/` + found[i].From + `"`; !slices.Contains(found[i].Groups, match[1]) && strings.Contains(string(item), text) {
				found[i].Groups = append(found[i].Groups, match[1])
			}
		}
	}
	return found, nil
}

// unescape reads a part of a JSON pointer.
func unescape(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "~1", "/"), "~0", "~")
}

// groupsOf are the API groups that a definition says it belongs to.
func groupsOf(definition json.RawMessage) []string {
	var d struct {
		Kinds []struct {
			Group string `json:"group"`
		} `json:"x-kubernetes-group-version-kind"`
	}
	if json.Unmarshal(definition, &d) != nil {
		return nil // it is none, which says nothing of groups
	}
	var groups []string
	for _, k := range d.Kinds {
		if !slices.Contains(groups, k.Group) {
			groups = append(groups, k.Group)
		}
	}
	return groups
}
