package storage

import (
	"net/url"
	"slices"
	"strings"
)

const hidden = "xxxxx"

// Redacted is the URL for logs and errors: every password in it is hidden.
func Redacted(u *url.URL) string {
	redacted := *u
	query := redacted.Query()
	for name := range query {
		if isSecret(name) {
			query.Set(name, hidden)
			redacted.RawQuery = query.Encode()
		}
	}
	return redacted.Redacted()
}

// isSecret says whether a parameter's value is not for others: password, sslpassword, token and so on.
func isSecret(parameter string) bool {
	parameter = strings.ToLower(parameter)
	return slices.ContainsFunc([]string{"pass", "pwd", "secret", "token"}, func(word string) bool {
		return strings.Contains(parameter, word)
	})
}

// withoutSecrets is an error without the secrets of a URL, which a driver's library may quote.
func withoutSecrets(err error, u *url.URL) error {
	var pairs []string
	hide := func(secret string) {
		if secret == "" {
			return
		}
		for _, form := range []string{secret, url.QueryEscape(secret), url.PathEscape(secret)} {
			pairs = append(pairs, form, hidden)
		}
	}
	if password, ok := u.User.Password(); ok {
		hide(password)
	}
	for name, values := range u.Query() {
		if isSecret(name) {
			for _, v := range values {
				hide(v)
			}
		}
	}
	if pairs == nil {
		return err
	}
	return &redactedError{err: err, text: strings.NewReplacer(pairs...).Replace(err.Error())}
}

// redactedError has the text without secrets; what it wraps is for errors.Is and errors.As.
type redactedError struct {
	err  error
	text string
}

func (e *redactedError) Error() string { return e.text }
func (e *redactedError) Unwrap() error { return e.err }
