package docs

import (
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/annex-api/annex/aggregator"
	"github.com/annex-api/annex/kubeapiserver/version"
)

const (
	settingsPage = "docs/operate/settings.md"
	metricsPage  = "docs/operate/metrics.md"
	prefix       = "aggregation.annex.dev/"
)

// settingRows are the rows of the table of annotations: the name, and the cell
// of bounds.
func settingRows(content string) map[string]string {
	rows := map[string]string{}
	at := -1
	prose(content, func(_ int, line string) {
		cells := cellsOf(line)
		if cells == nil {
			at = -1
		} else if at < 0 && cells[0] == "annotation" {
			at = index(cells, "bounds")
		} else if name := strings.Trim(cells[0], "`"); at >= 0 && at < len(cells) && strings.HasPrefix(name, prefix) {
			rows[name] = cells[at]
		}
	})
	return rows
}

// accepted says whether a value of an annotation is.
func accepted(name, value string) bool {
	return len(aggregator.ValidateSettings(map[string]string{name: value}, field.NewPath("annotations"))) == 0
}

// wrongSettings compares the table with what is accepted.
func wrongSettings(content string) []string {
	var wrong []string
	rows := settingRows(content)
	// A setting that does not exist is answered with the list of all.
	for _, err := range aggregator.ValidateSettings(map[string]string{prefix + "none": ""}, field.NewPath("annotations")) {
		_, list, _ := strings.Cut(err.Detail, "there are ")
		for name := range strings.SplitSeq(list, ", ") {
			if _, ok := rows[name]; !ok {
				wrong = append(wrong, name+" is not in the table")
			}
		}
	}
	for name, bounds := range rows {
		for value, want := range samples(bounds) {
			if accepted(name, value) != want {
				wrong = append(wrong, fmt.Sprintf("%s: the bounds are %q, but accepting %q is %v", name, bounds, value, !want))
			}
		}
	}
	slices.Sort(wrong)
	return wrong
}

// TestSettingsStandInTheGoDoc has embedders read the names of all settings where
// they are checked.
func TestSettingsStandInTheGoDoc(t *testing.T) {
	content, err := fs.ReadFile(repository, "aggregator/settings.go")
	if err != nil {
		t.Fatal(err)
	}
	page, err := fs.ReadFile(repository, settingsPage)
	if err != nil {
		t.Fatal(err)
	}
	rows := settingRows(string(page))
	if missing := unlisted(rows, string(content)); len(missing) > 0 {
		t.Errorf("aggregator/settings.go says nothing of %s", strings.Join(missing, ", "))
	}
	one := strings.TrimPrefix(slices.Sorted(maps.Keys(rows))[0], prefix)
	if missing := unlisted(rows, strings.ReplaceAll(string(content), "\t"+one+" ", "\tx")); !slices.Equal(missing, []string{one}) {
		t.Errorf("without %s the comment lacks %q", one, missing)
	}
}

// unlisted are the settings that no line of a comment begins with.
func unlisted(rows map[string]string, content string) (missing []string) {
	for name := range rows {
		if name = strings.TrimPrefix(name, prefix); !strings.Contains(content, "\n//\t"+name+" ") {
			missing = append(missing, name)
		}
	}
	slices.Sort(missing)
	return missing
}

var between = regexp.MustCompile(`^(\S+) to (\S+)$`)

// samples are values at the edges of bounds, and just beyond them.
func samples(bounds string) map[string]bool {
	if m := between.FindStringSubmatch(bounds); m != nil {
		if low, err := strconv.Atoi(m[1]); err == nil {
			high, _ := strconv.Atoi(m[2])
			return map[string]bool{m[1]: true, m[2]: true, strconv.Itoa(low - 1): false, strconv.Itoa(high + 1): false}
		}
		low, _ := time.ParseDuration(m[1])
		high, _ := time.ParseDuration(m[2])
		return map[string]bool{m[1]: true, m[2]: true, (low - time.Millisecond).String(): false, (high + time.Millisecond).String(): false}
	}
	if words := code.FindAllString(bounds, -1); len(words) > 0 {
		values := map[string]bool{"other": false}
		for _, w := range words {
			values[strings.Trim(w, "`")] = true
		}
		return values
	}
	if n, err := strconv.Atoi(strings.TrimPrefix(bounds, "at most ")); err == nil {
		urls := make([]string, n+1)
		for i := range urls {
			urls[i] = fmt.Sprintf("https://192.0.2.1:%d", i+1)
		}
		return map[string]bool{strings.Join(urls[:n], ","): true, strings.Join(urls, ","): false}
	}
	return map[string]bool{"": true} // nothing that is understood: not accepted
}

func TestSettingsAreThoseOfTheCode(t *testing.T) {
	content, err := fs.ReadFile(repository, settingsPage)
	if err != nil {
		t.Fatal(err)
	}
	for _, sentence := range wrongSettings(string(content)) {
		t.Errorf("%s: %s", settingsPage, sentence)
	}
	for from, to := range map[string]string{
		"| 1s to 1h |":             "| 1s to 2h |",
		"| 1m to 24h |":            "| 2m to 24h |",
		"| 1 to 100000 |":          "| 1 to 99999 |",
		"| at most 64 |":           "| at most 63 |",
		"| `prefer` or `ignore` |": "| `prefer` or `never` |",
		"| 100ms to 5m |":          "| as long as it takes |",
		"/max-watch` |":            "/max-watches` |",
	} {
		changed := strings.Replace(string(content), from, to, 1)
		if changed == string(content) {
			t.Errorf("%s does not hold %q", settingsPage, from)
		} else if len(wrongSettings(changed)) == 0 {
			t.Errorf("%q instead of %q was not found", to, from)
		}
	}
}

var (
	metricName   = regexp.MustCompile(`\b(?:annex|aggregator)_[a-z0-9_]+`)
	quotedMetric = regexp.MustCompile(`"(` + metricName.String() + `)"`)
)

func TestMetricsAreThoseOfTheCode(t *testing.T) {
	content, err := fs.ReadFile(repository, metricsPage)
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, name := range metricName.FindAllString(string(content), -1) {
		documented[name] = true
	}
	inCode := map[string]bool{}
	for name, file := range copyOf(t, shipped...) {
		for _, m := range quotedMetric.FindAllStringSubmatch(string(file.Data), -1) {
			inCode[m[1]] = true
			if !documented[m[1]] {
				t.Errorf("%s does not name the metric %s of %s", metricsPage, m[1], name)
			}
		}
	}
	if len(inCode) < 6 {
		t.Errorf("only %d metrics were found", len(inCode))
	}
	for name := range documented {
		if strings.HasPrefix(name, "annex_") && !inCode[name] {
			t.Errorf("%s names the metric %s, which there is not", metricsPage, name)
		}
	}
}

var kubernetesVersion = regexp.MustCompile(`v1\.[0-9]+\.[0-9]+[-+.0-9a-z]*`)

// wrongVersions are those of Kubernetes that a page names and that are not served.
func wrongVersions(content string) []string {
	return slices.DeleteFunc(kubernetesVersion.FindAllString(content, -1), func(found string) bool {
		found = strings.TrimRight(found, ".")
		return found == version.Kubernetes || found == version.GitVersion
	})
}

func TestVersionsAreThatOfTheCode(t *testing.T) {
	for _, name := range []string{"README.md", "docs/operate/differences-from-kube-apiserver.md"} {
		content, err := fs.ReadFile(repository, name)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range wrongVersions(string(content)) {
			t.Errorf("%s names %s, and the code serves %s", name, found, version.Kubernetes)
		}
		changed := strings.Replace(string(content), version.Kubernetes, "v1.1.1", 1)
		if got := wrongVersions(changed); len(got) != 1 || !strings.HasPrefix(got[0], "v1.1.1") {
			t.Errorf("another version in %s: got %q", name, got)
		}
	}
}
