package catalog

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// AnnotationPrefix is that of the annotations which hold an APIService's
// settings.
const AnnotationPrefix = "aggregation.annex.dev/"

// Annotations of an APIService.
const (
	RequestTimeoutAnnotation   = AnnotationPrefix + "request-timeout"
	HeaderTimeoutAnnotation    = AnnotationPrefix + "header-timeout"
	DiscoveryTimeoutAnnotation = AnnotationPrefix + "discovery-timeout"
	MaxWatchAnnotation         = AnnotationPrefix + "max-watch"
	MaxInFlightAnnotation      = AnnotationPrefix + "max-in-flight"
	MaxInFlightUserAnnotation  = AnnotationPrefix + "max-in-flight-per-user"
	EndpointsAnnotation        = AnnotationPrefix + "endpoints"
	ZoneAnnotation             = AnnotationPrefix + "zone"
	WatchListAnnotation        = AnnotationPrefix + "watch-list"
)

// maxEndpoints bounds the endpoints that an annotation may list.
const maxEndpoints = 64

// Settings of one APIService. A zero value means the server's own default.
type Settings struct {
	// RequestTimeout bounds a request that is not long-running.
	RequestTimeout time.Duration
	// HeaderTimeout bounds the wait for the header of a response.
	HeaderTimeout time.Duration
	// DiscoveryTimeout bounds discovery requests and downloads.
	DiscoveryTimeout time.Duration
	// MaxWatch bounds how long a watch lasts.
	MaxWatch time.Duration
	// MaxInFlight bounds the requests under way.
	MaxInFlight int
	// MaxInFlightPerUser bounds those of one user.
	MaxInFlightPerUser int
	// Endpoints are host:port of extension servers, in place of what the
	// Service says.
	Endpoints []string
	// IgnoreZones spreads over all zones, whatever hints say.
	IgnoreZones bool
	// WatchList says whether watches that wait for the end of their initial events are
	// passed on.
	WatchList WatchListPolicy
}

type numberSetting struct {
	annotation string
	example    string
	set        func(*Settings, int)
}

var numberSettings = []numberSetting{
	{MaxInFlightAnnotation, "200", func(s *Settings, n int) { s.MaxInFlight = n }},
	{MaxInFlightUserAnnotation, "100", func(s *Settings, n int) { s.MaxInFlightPerUser = n }},
}

type durationSetting struct {
	annotation string
	least      time.Duration
	most       time.Duration
	example    string
	set        func(*Settings, time.Duration)
}

var durationSettings = []durationSetting{
	{RequestTimeoutAnnotation, time.Second, time.Hour, "90s", func(s *Settings, d time.Duration) { s.RequestTimeout = d }},
	{HeaderTimeoutAnnotation, 100 * time.Millisecond, time.Hour, "10s", func(s *Settings, d time.Duration) { s.HeaderTimeout = d }},
	{DiscoveryTimeoutAnnotation, 100 * time.Millisecond, 5 * time.Minute, "10s", func(s *Settings, d time.Duration) { s.DiscoveryTimeout = d }},
	{MaxWatchAnnotation, time.Minute, 24 * time.Hour, "30m", func(s *Settings, d time.Duration) { s.MaxWatch = d }},
}

const mostInFlight = 100_000

// ParseSettings reads the settings from annotations, and says what is wrong
// with them. Settings that are wrong are left at their default.
func ParseSettings(annotations map[string]string, path *field.Path) (Settings, field.ErrorList) {
	var s Settings
	var errs field.ErrorList
	known := []string{EndpointsAnnotation, ZoneAnnotation, WatchListAnnotation}
	for _, d := range durationSettings {
		known = append(known, d.annotation)
		value, ok := annotations[d.annotation]
		if !ok {
			continue
		}
		parsed, err := time.ParseDuration(value)
		if err != nil || parsed < d.least || parsed > d.most {
			errs = append(errs, field.Invalid(path.Key(d.annotation), value,
				fmt.Sprintf("must be a duration from %s to %s, for example %q", d.least, d.most, d.example)))
			continue
		}
		d.set(&s, parsed)
	}
	for _, n := range numberSettings {
		known = append(known, n.annotation)
		value, ok := annotations[n.annotation]
		if !ok {
			continue
		}
		parsed, err := strconv.Atoi(value)
		if err != nil || parsed < 1 || parsed > mostInFlight {
			errs = append(errs, field.Invalid(path.Key(n.annotation), value,
				fmt.Sprintf("must be a number from 1 to %d, for example %q", mostInFlight, n.example)))
			continue
		}
		n.set(&s, parsed)
	}
	if value, ok := annotations[ZoneAnnotation]; ok {
		switch value {
		case "prefer":
		case "ignore":
			s.IgnoreZones = true
		default:
			errs = append(errs, field.NotSupported(path.Key(ZoneAnnotation), value, []string{"prefer", "ignore"}))
		}
	}
	if value, ok := annotations[WatchListAnnotation]; ok {
		switch policy := WatchListPolicy(value); policy {
		case "auto":
		case WatchListPass, WatchListRefuse:
			s.WatchList = policy
		default:
			errs = append(errs, field.NotSupported(path.Key(WatchListAnnotation), value, []string{"auto", "pass", "refuse"}))
		}
	}
	if value, ok := annotations[EndpointsAnnotation]; ok {
		endpoints, err := parseEndpoints(value)
		if strings.Contains(value, "@") {
			value = "(with credentials)" // which must not show in an error
		}
		if err != nil {
			errs = append(errs, field.Invalid(path.Key(EndpointsAnnotation), value,
				err.Error()+"; for example \"https://192.0.2.7:6443,https://node-2.example.com:6443\""))
		} else {
			s.Endpoints = endpoints
		}
	}
	for name, value := range annotations {
		if strings.HasPrefix(name, AnnotationPrefix) && !slices.Contains(known, name) {
			errs = append(errs, field.Invalid(path.Key(name), value, "is not a setting; there are "+strings.Join(known, ", ")))
		}
	}
	slices.SortFunc(errs, func(a, b *field.Error) int { return strings.Compare(a.Field, b.Field) })
	return s, errs
}

// parseEndpoints reads a comma-separated list of https URLs that have nothing
// but a host and perhaps a port, 443 where it is missing.
func parseEndpoints(value string) ([]string, error) {
	var out []string
	for item := range strings.SplitSeq(value, ",") {
		item = strings.TrimSpace(item)
		if strings.Contains(item, "@") {
			return nil, errors.New("a URL must not hold credentials")
		}
		u, err := url.Parse(item)
		switch {
		case err != nil || item == "":
			return nil, fmt.Errorf("%q is not a URL", item)
		case u.Scheme != "https":
			return nil, fmt.Errorf("%q must begin with https://", item)
		case u.Path != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
			return nil, fmt.Errorf("%q must have no path, query or fragment", item)
		}
		port := u.Port()
		if port == "" {
			port = "443"
		}
		n, err := strconv.Atoi(port)
		if err != nil || n < 1 || n > 65535 {
			return nil, fmt.Errorf("%q has no port from 1 to 65535", item)
		}
		host := u.Hostname()
		if ip, err := netip.ParseAddr(host); err == nil {
			ip = ip.Unmap()
			host = ip.String()
			if RefusedAddress(ip) != "" {
				return nil, fmt.Errorf("%q is at an unspecified, multicast, link-local or cloud metadata address", item)
			}
		} else if problems := validation.IsDNS1123Subdomain(host); len(problems) > 0 {
			return nil, fmt.Errorf("%q has no valid host: %s", item, problems[0])
		}
		if address := net.JoinHostPort(host, strconv.Itoa(n)); !slices.Contains(out, address) {
			out = append(out, address)
		}
	}
	if len(out) > maxEndpoints {
		return nil, fmt.Errorf("there may be at most %d endpoints", maxEndpoints)
	}
	slices.Sort(out)
	return out, nil
}
