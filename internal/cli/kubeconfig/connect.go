package kubeconfig

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/annex-api/annex/diagnosis"
	"github.com/annex-api/annex/internal/printable"
)

// Connection is how to reach an API server.
type Connection struct {
	// Config has a time-out, which ends watches as well: see Streaming. Answers longer than MaxAnswer
	// end with an error; watches may go on.
	Config *rest.Config
	// Server is the API server's address, without a password.
	Server string
	// Context is the kubeconfig's, or empty.
	Context string
	// Source says where all this is from: a file, files, flags, or the Pod's service account.
	Source string

	secrets []string
	user    string
}

// Streaming is Config without a time-out, for watches. Their callers bound them.
func (c *Connection) Streaming() *rest.Config {
	config := rest.CopyConfig(c.Config)
	config.Timeout = 0
	return config
}

// Connect reads the kubeconfig. It sends nothing. The command's name goes into the user agent.
func (f *Flags) Connect(command string) (*Connection, error) {
	rules := f.rules()
	if err := readable(candidates(rules)...); err != nil {
		return nil, err
	}
	raw, err := rules.Load()
	if err != nil {
		return nil, f.unreadable(rules, err)
	}
	if err := readable(f.filesOf(raw)...); err != nil {
		return nil, err
	}
	secrets := f.secretsOf(raw)
	source, err := f.check(rules, raw)
	if err != nil {
		return nil, err
	}
	if f.TokenFile != "" {
		for _, user := range raw.AuthInfos {
			user.Token = "" // which would go first
		}
	}
	overrides, err := f.overrides()
	if err != nil {
		return nil, err
	}
	client := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(loaded{rules, raw}, overrides)
	config, err := client.ClientConfig()
	if err != nil {
		return nil, failed(err, "%s cannot be used: %s", source, hide(err.Error(), secrets))
	}
	if config.ExecProvider != nil {
		config.ExecProvider.StdinUnavailable = true
		config.ExecProvider.StdinUnavailableMessage = "annex does not ask for credentials"
	}
	config.QPS, config.Burst = 50, 300 // as kubectl's
	config.UserAgent = rest.DefaultKubernetesUserAgent() + " " + command
	config.WarningHandler = rest.NoWarnings{} // of servers, about fields that nobody here sets
	config.Wrap(limitAnswers)
	c := &Connection{Config: config, Server: address(config.Host), Source: source, secrets: secrets}
	c.Context, c.user = f.chosen(raw)
	return c, nil
}

// rules are kubectl's, but that nothing is written: an old file is not moved to where it belongs today.
func (f *Flags) rules() *clientcmd.ClientConfigLoadingRules {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = f.Kubeconfig
	rules.MigrationRules = nil
	rules.WarnIfAllMissing = false
	return rules
}

// loaded is what was read, so that it is read once.
type loaded struct {
	*clientcmd.ClientConfigLoadingRules
	config *api.Config
}

func (l loaded) Load() (*api.Config, error) { return l.config, nil }

func (f *Flags) overrides() (*clientcmd.ConfigOverrides, error) {
	o := &clientcmd.ConfigOverrides{CurrentContext: f.Context, Timeout: f.RequestTimeout}
	o.Context.Cluster, o.Context.AuthInfo = f.Cluster, f.User
	o.ClusterInfo = api.Cluster{
		Server: f.Server, TLSServerName: f.TLSServerName, CertificateAuthority: f.CertificateAuthority,
		InsecureSkipTLSVerify: f.InsecureSkipTLSVerify, ProxyURL: f.ProxyURL,
	}
	o.AuthInfo = api.AuthInfo{
		ClientCertificate: f.ClientCertificate, ClientKey: f.ClientKey, TokenFile: f.TokenFile,
		Impersonate: f.As, ImpersonateUID: f.AsUID, ImpersonateGroups: f.AsGroups,
	}
	if f.As == "" && (f.AsUID != "" || len(f.AsGroups)+len(f.AsUserExtra) > 0) {
		return nil, failed(nil, "--as-uid, --as-group and --as-user-extra say more of the user to impersonate; name it with --as")
	}
	for _, extra := range f.AsUserExtra {
		key, value, ok := strings.Cut(extra, "=")
		if !ok {
			return nil, failed(nil, "--as-user-extra %q is not KEY=VALUE", printable.Line(extra, maxName))
		}
		if o.AuthInfo.ImpersonateUserExtra == nil {
			o.AuthInfo.ImpersonateUserExtra = map[string][]string{}
		}
		o.AuthInfo.ImpersonateUserExtra[key] = append(o.AuthInfo.ImpersonateUserExtra[key], value)
	}
	if o.Timeout == "" {
		o.Timeout = DefaultRequestTimeout.String()
	}
	if d, err := clientcmd.ParseTimeout(o.Timeout); err != nil || d < 0 {
		return nil, failed(err, "--request-timeout %q is not a time such as 10s or 1m", printable.Line(o.Timeout, maxName))
	}
	return o, nil
}

// check finds what clientcmd would say less about, and returns where the configuration is from.
func (f *Flags) check(rules *clientcmd.ClientConfigLoadingRules, raw *api.Config) (source string, err error) {
	files := existing(rules)
	source = "kubeconfig " + strings.Join(files, " and ")
	if len(raw.Contexts)+len(raw.Clusters)+len(raw.AuthInfos) == 0 {
		switch {
		case f.Context != "":
			return "", failed(nil, "there is no context %q: %s", shown(f.Context), f.nowhere(rules))
		case f.Server != "":
			return "the command line", nil
		case inPod():
			return "the Pod's service account", nil
		}
		return "", failed(nil, "%s", f.nowhere(rules))
	}
	contexts := slices.Sorted(maps.Keys(raw.Contexts))
	name := f.Context
	if name == "" {
		name = raw.CurrentContext
	}
	chosen, ok := raw.Contexts[name]
	switch {
	case name == "" && f.Server == "" && f.Cluster == "":
		return "", failed(nil, "%s has no current context; choose one with --context%s", source, among(contexts))
	case name != "" && !ok:
		text := fmt.Sprintf("%s has no context %q", source, shown(name))
		if near := diagnosis.Nearest(name, contexts); len(near) > 0 {
			return "", failed(nil, "%s; did you mean %s? There are: %s", text, list(near), list(contexts))
		}
		return "", failed(nil, "%s; choose one with --context%s", text, among(contexts))
	}
	cluster, user := f.Cluster, f.User
	if chosen != nil {
		cluster, user = first(cluster, chosen.Cluster), first(user, chosen.AuthInfo)
	}
	if cluster != "" && raw.Clusters[cluster] == nil && (f.Server == "" || f.Cluster != "") {
		return "", failed(nil, "%s has no cluster %q, which %s names%s", source, shown(cluster), namer(f.Cluster, "--cluster", name), among(slices.Sorted(maps.Keys(raw.Clusters))))
	}
	if user != "" && raw.AuthInfos[user] == nil {
		return "", failed(nil, "%s has no user %q, which %s names%s", source, shown(user), namer(f.User, "--user", name), among(slices.Sorted(maps.Keys(raw.AuthInfos))))
	}
	return source, nil
}

// first is a, or else b.
func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func namer(flag, name, context string) string {
	if flag != "" {
		return name
	}
	return fmt.Sprintf("context %q", shown(context))
}

// chosen are the names of the context and its user.
func (f *Flags) chosen(raw *api.Config) (context, user string) {
	context, user = first(f.Context, raw.CurrentContext), f.User
	if c := raw.Contexts[context]; c != nil {
		user = first(user, c.AuthInfo)
	}
	return context, user
}

// existing are the files that were read.
func existing(rules *clientcmd.ClientConfigLoadingRules) []string {
	var files []string
	for _, file := range candidates(rules) {
		if _, err := os.Stat(file); err == nil {
			files = append(files, shown(file))
		}
	}
	return files
}

func candidates(rules *clientcmd.ClientConfigLoadingRules) []string {
	if rules.ExplicitPath != "" {
		return []string{rules.ExplicitPath}
	}
	return slices.DeleteFunc(slices.Clone(rules.Precedence), func(file string) bool { return file == "" })
}

// nowhere says where a kubeconfig was looked for, and how to come by one.
func (f *Flags) nowhere(rules *clientcmd.ClientConfigLoadingRules) string {
	var b strings.Builder
	fmt.Fprintf(&b, "no kubeconfig: %s", list(candidates(rules)))
	switch {
	case f.Kubeconfig != "":
		b.WriteString(" (of --kubeconfig)")
	case os.Getenv(clientcmd.RecommendedConfigPathEnvVar) != "":
		b.WriteString(" (of $KUBECONFIG)")
	}
	b.WriteString(" is not there or empty; ")
	if file := annexUp(); file != "" {
		fmt.Fprintf(&b, `"annex up" has written one: export KUBECONFIG=%s`, shown(file))
	} else {
		b.WriteString(`"annex up" starts a server and writes one, whose path it prints: export KUBECONFIG=PATH`)
	}
	return b.String()
}

// annexUp is the kubeconfig that "annex up" has written in its default folder, or empty.
func annexUp() string {
	dir := os.Getenv("XDG_DATA_HOME")
	if !filepath.IsAbs(dir) {
		home, err := os.UserHomeDir()
		if err != nil {
			return ""
		}
		dir = filepath.Join(home, ".local", "share")
	}
	file := filepath.Join(dir, "annex", "admin.kubeconfig")
	if _, err := os.Stat(file); err != nil {
		return ""
	}
	return file
}

// unreadable explains why no configuration could be loaded.
func (f *Flags) unreadable(rules *clientcmd.ClientConfigLoadingRules, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return failed(err, "%s", f.nowhere(rules))
	}
	for _, file := range candidates(rules) {
		if _, err := clientcmd.LoadFromFile(file); errors.Is(err, fs.ErrPermission) {
			return failed(err, "kubeconfig %s may not be read by you; change its mode or owner, or choose another with --kubeconfig", shown(file))
		} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
			// What a parser says may quote the file, in which there are secrets.
			return failed(nil, `kubeconfig %s is no kubeconfig, or a damaged one; "kubectl config view --kubeconfig=%s" says where`, shown(file), shown(file))
		}
	}
	return failed(nil, "the kubeconfig cannot be read; choose another with --kubeconfig")
}

// inPod is whether a Pod's service account can be used.
func inPod() bool {
	_, err := rest.InClusterConfig()
	return err == nil
}

type names struct{ contexts, clusters, users []string }

// named is what the kubeconfig has, for completion; nothing where it cannot be read.
func (f *Flags) named() names {
	raw, err := f.rules().Load()
	if err != nil {
		return names{}
	}
	return names{slices.Sorted(maps.Keys(raw.Contexts)), slices.Sorted(maps.Keys(raw.Clusters)), slices.Sorted(maps.Keys(raw.AuthInfos))}
}

// Contexts are those of the kubeconfig, for completion.
func (f *Flags) Contexts() []string { return f.named().contexts }

// address is that of a server, as it may be shown.
func address(host string) string {
	u, err := url.Parse(host)
	if err != nil {
		return "the API server"
	}
	return shown(u.Redacted())
}

const (
	// maxName bounds a name that is shown.
	maxName = 253
	// maxNames is how many are.
	maxNames = 20
)

func shown(name string) string { return printable.Line(name, maxName) }

func list(all []string) string {
	var b strings.Builder
	for i, name := range all[:min(len(all), maxNames)] {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(shown(name))
	}
	if more := len(all) - maxNames; more > 0 {
		fmt.Fprintf(&b, " and %d more", more)
	}
	return b.String()
}

// among lists what there is to choose from.
func among(all []string) string {
	if len(all) == 0 {
		return ""
	}
	return "; there are: " + list(all)
}
