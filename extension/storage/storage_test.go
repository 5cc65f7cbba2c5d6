package storage_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/go-logr/logr"

	"github.com/annex-api/annex/extension/storage"
)

var errRefused = errors.New("refused")

func drivers(opened *string) []storage.Driver {
	driver := func(scheme, example string) storage.Driver {
		return storage.Driver{Scheme: scheme, Example: example, Open: func(_ context.Context, u *url.URL, _ logr.Logger) (*storage.Endpoint, error) {
			*opened = u.String()
			return &storage.Endpoint{Name: scheme}, nil
		}}
	}
	failing := storage.Driver{Scheme: "failing", Example: "failing://host", Open: func(_ context.Context, u *url.URL, _ logr.Logger) (*storage.Endpoint, error) {
		password, _ := u.User.Password()
		return nil, fmt.Errorf("%w by %s (password %s, query %s)", errRefused, u, password, u.Query())
	}}
	return []storage.Driver{driver("memory", "memory://"), driver("sqlite", "sqlite:///var/lib/widgets.db"), failing}
}

func TestTheSchemePicksTheDriver(t *testing.T) {
	var opened string
	endpoint, err := storage.Open(t.Context(), "sqlite:///a/b?c=d", logr.Discard(), drivers(&opened)...)
	if err != nil {
		t.Fatal(err)
	}
	if endpoint.Name != "sqlite" || opened != "sqlite:///a/b?c=d" {
		t.Errorf("opened %q by driver %s", opened, endpoint.Name)
	}
}

func TestAURLMayNameSeveralHosts(t *testing.T) {
	var hosts, rest string
	driver := storage.Driver{Scheme: "etcd", Example: "etcd://host", Open: func(_ context.Context, u *url.URL, _ logr.Logger) (*storage.Endpoint, error) {
		hosts, rest = u.Host, u.User.Username()+u.Path+u.RawQuery
		return &storage.Endpoint{}, nil
	}}
	if _, err := storage.Open(t.Context(), "etcd://u:p@a:2379,b:2379,[::1]:2379/x?y=z", logr.Discard(), driver); err != nil {
		t.Fatal(err)
	}
	if hosts != "a:2379,b:2379,[::1]:2379" || rest != "u/xy=z" {
		t.Errorf("hosts %q, the rest %q", hosts, rest)
	}
	if _, err := storage.Open(t.Context(), "etcd://a:2379,b:x", logr.Discard(), driver); err == nil {
		t.Error("a second host that is none was taken")
	}
}

func TestWhatIsWrongWithAURLIsNamed(t *testing.T) {
	for name, c := range map[string]struct{ url, want string }{
		"nothing":        {"", "no storage is named"},
		"no scheme":      {"/var/lib/widgets.db", "has no scheme"},
		"unknown scheme": {"mysql://host/db", `scheme "mysql"`},
		"not a URL":      {"postgres://u:p%zz@host/db", "a % begins no escape"},
	} {
		t.Run(name, func(t *testing.T) {
			var opened string
			_, err := storage.Open(t.Context(), c.url, logr.Discard(), drivers(&opened)...)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range []string{c.want, "memory://", "sqlite:///var/lib/widgets.db"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
		})
	}
	_, err := storage.Open(t.Context(), "memory://", logr.Discard())
	if err == nil || !strings.Contains(err.Error(), "link a driver") {
		t.Errorf("without drivers: %v", err)
	}
}

func TestNoErrorHoldsASecret(t *testing.T) {
	var opened string
	for _, secret := range []string{"s3cret", "s3cr%2Fet", "s3cret%zz", "s3cret[", "s3cret:9:9", "s3 cret"} {
		for _, form := range []string{
			"failing://user:" + secret + "@host/db",
			"failing://host/db?password=" + secret,
			"failing://host/db?sslpassword=" + secret + "&x=y",
			"failing://user:" + secret + "@host:port/db",
			"other://user:" + secret + "@host/db",
		} {
			_, err := storage.Open(t.Context(), form, logr.Discard(), drivers(&opened)...)
			if err == nil {
				t.Errorf("%s: no error", form)
				continue
			}
			if strings.Contains(err.Error(), "s3") {
				t.Errorf("%s: error %q", form, err)
			}
		}
	}
	_, err := storage.Open(t.Context(), "failing://user:s3cret@host/db", logr.Discard(), drivers(&opened)...)
	if !errors.Is(err, errRefused) || !strings.Contains(err.Error(), "failing://user:xxxxx@host/db") {
		t.Errorf("error %v: want the cause and the URL without its password", err)
	}
}
