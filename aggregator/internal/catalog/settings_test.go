package catalog

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var annotationsPath = field.NewPath("metadata", "annotations")

func TestSettingsThatAreRight(t *testing.T) {
	tests := []struct {
		name, value string
		want        Settings
	}{
		{"request-timeout", "90s", Settings{RequestTimeout: 90 * time.Second}},
		{"request-timeout", "1s", Settings{RequestTimeout: time.Second}},
		{"request-timeout", "1h", Settings{RequestTimeout: time.Hour}},
		{"header-timeout", "100ms", Settings{HeaderTimeout: 100 * time.Millisecond}},
		{"header-timeout", "1h0m0s", Settings{HeaderTimeout: time.Hour}},
		{"discovery-timeout", "0.1s", Settings{DiscoveryTimeout: 100 * time.Millisecond}},
		{"discovery-timeout", "5m", Settings{DiscoveryTimeout: 5 * time.Minute}},
		{"max-watch", "1m", Settings{MaxWatch: time.Minute}},
		{"max-watch", "24h", Settings{MaxWatch: 24 * time.Hour}},
		{"max-in-flight", "1", Settings{MaxInFlight: 1}},
		{"max-in-flight", "100000", Settings{MaxInFlight: 100_000}},
		{"max-in-flight-per-user", "1", Settings{MaxInFlightPerUser: 1}},
		{"max-in-flight-per-user", "100000", Settings{MaxInFlightPerUser: 100_000}},
		{"zone", "prefer", Settings{}},
		{"zone", "ignore", Settings{IgnoreZones: true}},
		{"watch-list", "auto", Settings{}},
		{"watch-list", "pass", Settings{WatchList: WatchListPass}},
		{"watch-list", "refuse", Settings{WatchList: WatchListRefuse}},
		{"endpoints", "https://10.0.0.1", Settings{Endpoints: []string{"10.0.0.1:443"}}},
		{"endpoints", "https://10.0.0.1:1", Settings{Endpoints: []string{"10.0.0.1:1"}}},
		{"endpoints", "https://10.0.0.1:65535", Settings{Endpoints: []string{"10.0.0.1:65535"}}},
		{"endpoints", "HTTPS://node-2.example.com:6443", Settings{Endpoints: []string{"node-2.example.com:6443"}}},
		{"endpoints", "https://[2001:db8::1]:6443", Settings{Endpoints: []string{"[2001:db8::1]:6443"}}},
		{"endpoints", "https://[2001:db8::1]", Settings{Endpoints: []string{"[2001:db8::1]:443"}}},
		{"endpoints", " https://b:2 , https://a:1 ", Settings{Endpoints: []string{"a:1", "b:2"}}},
		{"endpoints", "https://a:1,https://a:1,https://a:1", Settings{Endpoints: []string{"a:1"}}},
		{"endpoints", "https://a,https://a:443", Settings{Endpoints: []string{"a:443"}}},
		{"endpoints", "https://a:0443,https://a:443", Settings{Endpoints: []string{"a:443"}}},
		{"endpoints", "https://[2001:db8:0::1],https://[2001:db8::1]", Settings{Endpoints: []string{"[2001:db8::1]:443"}}},
		{"endpoints", "https://[::ffff:10.0.0.1],https://10.0.0.1", Settings{Endpoints: []string{"10.0.0.1:443"}}},
		{"endpoints", urls(64), Settings{Endpoints: addresses(64)}},
	}
	for _, test := range tests {
		t.Run(test.name+"="+test.value[:min(40, len(test.value))], func(t *testing.T) {
			got, errs := ParseSettings(map[string]string{AnnotationPrefix + test.name: test.value, "other.example/x": "y"}, annotationsPath)
			if len(errs) > 0 {
				t.Fatalf("refused: %v", errs)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Fatal(diff)
			}
		})
	}
}

func TestNoSettings(t *testing.T) {
	for _, annotations := range []map[string]string{nil, {}, {"aggregation.annex.example/request-timeout": "x"}} {
		got, errs := ParseSettings(annotations, annotationsPath)
		if diff := cmp.Diff(Settings{}, got); diff != "" || len(errs) > 0 {
			t.Fatalf("%v: %v %s", annotations, errs, diff)
		}
	}
}

func TestSettingsThatAreWrong(t *testing.T) {
	durations := []string{"", "x", "5", "-5s", "0", "0s", "1e9h", "99999999h", "1s1", " 1s", "NaN"}
	tests := []struct {
		name   string
		values []string
		want   []string // in the message
	}{
		{"request-timeout", slices.Concat(durations, []string{"999ms", "1h0m1s"}), []string{`"90s"`, "1s", "1h0m0s"}},
		{"header-timeout", slices.Concat(durations, []string{"99ms", "1h0m1s"}), []string{`"10s"`, "100ms", "1h0m0s"}},
		{"discovery-timeout", slices.Concat(durations, []string{"99ms", "5m0.1s"}), []string{`"10s"`, "100ms", "5m0s"}},
		{"max-watch", slices.Concat(durations, []string{"59s", "24h1s"}), []string{`"30m"`, "1m0s", "24h0m0s"}},
		{"max-in-flight", []string{"", "0", "-1", "100001", "1.5", "1e3", "0x10", "99999999999999999999", "many", " 5"}, []string{`"200"`, "1", "100000"}},
		{"max-in-flight-per-user", []string{"", "0", "-1", "100001", "1.5", "half", " 5"}, []string{`"100"`, "1", "100000"}},
		{"zone", []string{"", "Prefer", "eu-1a", "ignore "}, []string{`"prefer"`, `"ignore"`}},
		{"watch-list", []string{"", "Pass", "true", "refuse "}, []string{`"auto"`, `"pass"`, `"refuse"`}},
		{"endpoints", []string{"", ",", "https://a,", "https://a,,https://b", "://", "https://", "https:a", "https:///", "a:443", "//a"}, []string{"for example", `"https://`}},
		{"endpoints", []string{"http://a", "http://10.0.0.1:80", "ftp://a", "a"}, []string{"https://", "for example"}},
		{"endpoints", []string{"https://a/", "https://a/path", "https://a:1?q=1", "https://a?", "https://a#f"}, []string{"no path, query or fragment", "for example"}},
		{"endpoints", []string{"https://a:0", "https://a:65536", "https://a:-1", "https://a:http"}, []string{"for example"}},
		{"endpoints", []string{"https://a_b", "https://-a", "https://a..b", "https://a%20b", "https://" + strings.Repeat("a", 254)}, []string{"for example"}},
		{"endpoints", []string{
			"https://169.254.169.254", "https://[fe80::1]", "https://[fe80::1%25eth0]", "https://[::ffff:169.254.169.254]",
			"https://[fd20:ce::254]", "https://[64:ff9b::a9fe:a9fe]", "https://[64:ff9b:1::a9fe:a9fe]",
			"https://224.0.0.1", "https://[ff02::1]", "https://0.0.0.0", "https://[::]", "https://a,https://169.254.169.254:80",
		}, []string{"link-local", "for example"}},
		{"endpoints", []string{urls(65)}, []string{"at most 64", "for example"}},
		{"retry", []string{"3"}, []string{"is not a setting", "request-timeout", "endpoints"}},
		{"Zone", []string{"ignore"}, []string{"is not a setting"}},
		{"", []string{""}, []string{"is not a setting"}},
	}
	for _, test := range tests {
		for _, value := range test.values {
			t.Run(test.name+"="+value[:min(40, len(value))], func(t *testing.T) {
				name := AnnotationPrefix + test.name
				got, errs := ParseSettings(map[string]string{name: value}, annotationsPath)
				if len(errs) != 1 {
					t.Fatalf("%d errors: %v; settings %+v", len(errs), errs, got)
				}
				if want := fmt.Sprintf("metadata.annotations[%s]", name); errs[0].Field != want {
					t.Errorf("the error is about %q, want %q", errs[0].Field, want)
				}
				for _, want := range test.want {
					if !strings.Contains(errs[0].Error(), want) {
						t.Errorf("%q does not say %q", errs[0].Error(), want)
					}
				}
				if diff := cmp.Diff(Settings{}, got); diff != "" {
					t.Errorf("a wrong setting is not left at its default: %s", diff)
				}
			})
		}
	}
}

func TestCredentialsInEndpointsAreNotRepeated(t *testing.T) {
	for _, value := range []string{
		"https://admin:hunter2@10.0.0.1", "https://admin:hunter2@10.0.0.1/path", "http://admin:hunter2@a", "https://admin:hunter2%zz@a",
		"https://b,https://admin:hunter2@a", "https://admin:hunter2@a,http://b",
		"http://b,https://admin:hunter2@a", // an error before it
	} {
		_, errs := ParseSettings(map[string]string{EndpointsAnnotation: value}, annotationsPath)
		if len(errs) != 1 {
			t.Errorf("%s: %d errors", value, len(errs))
			continue
		}
		if message := errs[0].Error(); strings.Contains(message, "hunter2") {
			t.Errorf("the password is repeated: %s", message)
		}
	}
}

func TestEveryWrongSettingIsNamedAndTheRightOnesHold(t *testing.T) {
	annotations := map[string]string{
		RequestTimeoutAnnotation: "never", HeaderTimeoutAnnotation: "2s", MaxInFlightAnnotation: "-1",
		EndpointsAnnotation: "http://a", ZoneAnnotation: "ignore", AnnotationPrefix + "unknown": "",
	}
	var first []string
	for range 20 { // whatever the order of the map
		got, errs := ParseSettings(annotations, annotationsPath)
		if diff := cmp.Diff(Settings{HeaderTimeout: 2 * time.Second, IgnoreZones: true}, got); diff != "" {
			t.Fatal(diff)
		}
		var fields []string
		for _, err := range errs {
			fields = append(fields, err.Field)
		}
		if len(fields) != 4 || !slices.IsSorted(fields) || first != nil && !slices.Equal(first, fields) {
			t.Fatalf("errors about %v, at first about %v", fields, first)
		}
		first = fields
	}
}

func FuzzParseSettings(f *testing.F) {
	for _, seed := range [][2]string{
		{"request-timeout", "90s"},
		{"header-timeout", "-1s"},
		{"discovery-timeout", "1e99s"},
		{"max-watch", "9223372036854775807ns"},
		{"max-in-flight", "+5"},
		{"zone", "prefer"},
		{"endpoints", "https://[::1%25lo]:1,https://a"},
		{"endpoints", "https://a:@b"},
		{"x", ""},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		s, errs := ParseSettings(map[string]string{AnnotationPrefix + name: value}, annotationsPath)
		if len(errs) > 0 {
			if diff := cmp.Diff(Settings{}, s); diff != "" {
				t.Fatalf("refused and used: %s", diff)
			}
			return
		}
		within := func(d, least, most time.Duration) {
			if d != 0 && (d < least || d > most) {
				t.Fatalf("%q: %s is not within %s and %s", value, d, least, most)
			}
		}
		within(s.RequestTimeout, time.Second, time.Hour)
		within(s.HeaderTimeout, 100*time.Millisecond, time.Hour)
		within(s.DiscoveryTimeout, 100*time.Millisecond, 5*time.Minute)
		within(s.MaxWatch, time.Minute, 24*time.Hour)
		if s.MaxInFlight < 0 || s.MaxInFlight > 100_000 {
			t.Fatalf("%d in flight", s.MaxInFlight)
		}
		if len(s.Endpoints) > 64 || !slices.IsSorted(s.Endpoints) {
			t.Fatalf("endpoints %v", s.Endpoints)
		}
		for i, e := range s.Endpoints {
			host, port, err := net.SplitHostPort(e)
			if err != nil || host == "" {
				t.Fatalf("%q: %v", e, err)
			}
			if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 || strconv.Itoa(n) != port {
				t.Fatalf("%q has the port %q", e, port)
			}
			if ip, err := netip.ParseAddr(host); err == nil && (ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.IsUnspecified() || ip.Is4In6()) {
				t.Fatalf("%q was accepted", e)
			}
			if i > 0 && s.Endpoints[i-1] == e {
				t.Fatalf("%q is there twice", e)
			}
		}
	})
}

func urls(n int) string {
	return "https://" + strings.Join(addresses(n), ",https://")
}

func addresses(n int) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf("10.0.0.%d:6443", i+1))
	}
	slices.Sort(out)
	return out
}
