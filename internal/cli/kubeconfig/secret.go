package kubeconfig

import (
	"net/url"
	"os"
	"strings"

	"k8s.io/client-go/tools/clientcmd/api"
)

// shortest is the length from which on a secret is looked for: hiding one letter hides nothing.
const shortest = 4

// secretsOf are the texts of a configuration that must not be shown.
func (f *Flags) secretsOf(raw *api.Config) []string {
	var secrets []string
	add := func(texts ...string) {
		for _, text := range texts {
			if len(text) >= shortest {
				secrets = append(secrets, text)
			}
		}
	}
	for _, user := range raw.AuthInfos {
		add(user.Token, user.Password, string(user.ClientKeyData))
		addFile(add, user.TokenFile)
		if user.AuthProvider != nil {
			for _, value := range user.AuthProvider.Config {
				add(value)
			}
		}
		if user.Exec != nil {
			for _, variable := range user.Exec.Env {
				add(variable.Value)
			}
		}
	}
	addFile(add, f.TokenFile)
	for _, cluster := range raw.Clusters {
		addPassword(add, cluster.Server, cluster.ProxyURL)
	}
	addPassword(add, f.Server, f.ProxyURL)
	return secrets
}

// maxToken bounds a token's file.
const maxToken = 1 << 20

func addFile(add func(...string), name string) {
	if info, err := os.Stat(name); err != nil || !info.Mode().IsRegular() || info.Size() > maxToken {
		return
	}
	if b, err := os.ReadFile(name); err == nil {
		add(strings.TrimSpace(string(b)))
	}
}

// addPassword adds the user's part of URLs, also of those that do not parse.
func addPassword(add func(...string), urls ...string) {
	for _, text := range urls {
		if u, err := url.Parse(text); err == nil && u.User != nil {
			password, _ := u.User.Password()
			add(password)
		}
		_, rest, ok := strings.Cut(text, "//")
		if !ok {
			rest = text
		}
		if at := strings.LastIndexByte(rest, '@'); at > 0 {
			add(rest[:at])
		}
	}
}

// hide takes secrets out of a text.
func hide(text string, secrets []string) string {
	for _, secret := range secrets {
		text = strings.ReplaceAll(text, secret, "(hidden)")
	}
	return text
}
