// Package version makes the program report the Kubernetes version that it serves.
//
// An unstamped build of k8s.io/component-base reports a placeholder, and linker flags do not
// reach "go run" or "go install". Importing this package sets the version as it is initialised.
// Packages are initialised in the order of their import paths as soon as their own imports are,
// so this one, which imports component-base/version and the standard library only, precedes every
// k8s.io package that derives its compatibility version from it.
package version

import (
	"fmt"
	"runtime/debug"
	"strings"
	_ "unsafe" // for go:linkname

	"k8s.io/component-base/version"
)

const (
	// Annex is the version of this project.
	Annex = "0.1.0"
	// Kubernetes is the version whose behaviour is served: that of
	// k8s.io/kubernetes in go.mod. No other place names it.
	Kubernetes = "v1.37.2"
	// BuildSuffix is the semantic version's build metadata; version-skew checks ignore it.
	BuildSuffix = "annex." + Annex
	// GitVersion is what /version, kubectl version and --version report.
	GitVersion = Kubernetes + "+" + BuildSuffix
)

// MajorMinor returns the parts of Kubernetes, such as 1 and 37.
func MajorMinor() (major, minor string) {
	parts := strings.Split(strings.TrimPrefix(Kubernetes, "v"), ".")
	return parts[0], parts[1]
}

// The variables that a release build sets with linker flags.
//
//go:linkname gitMajor k8s.io/component-base/version.gitMajor
var gitMajor string

//go:linkname gitMinor k8s.io/component-base/version.gitMinor
var gitMinor string

//go:linkname gitVersion k8s.io/component-base/version.gitVersion
var gitVersion string

//go:linkname gitCommit k8s.io/component-base/version.gitCommit
var gitCommit string

//go:linkname gitTreeState k8s.io/component-base/version.gitTreeState
var gitTreeState string

//go:linkname buildDate k8s.io/component-base/version.buildDate
var buildDate string

func init() {
	gitMajor, gitMinor = MajorMinor()
	gitVersion = GitVersion
	var settings []debug.BuildSetting
	if info, ok := debug.ReadBuildInfo(); ok {
		settings = info.Settings
	}
	commit, treeState, date := vcs(settings)
	gitCommit, gitTreeState = commit, treeState
	if date != "" {
		buildDate = date
	}
	// The variable was copied when component-base was initialised; set the copy too.
	if err := version.SetDynamicVersion(GitVersion); err != nil {
		panic(fmt.Sprintf("set version %s: %v", GitVersion, err))
	}
}

// vcs returns the commit, tree state and RFC 3339 commit time that the go command recorded.
// "go run" and "go install module@version" record none: the commit is then "unknown", the tree
// "clean" and the time empty.
func vcs(settings []debug.BuildSetting) (commit, treeState, date string) {
	commit, treeState = "unknown", "clean"
	for _, s := range settings {
		switch s.Key {
		case "vcs.revision":
			commit = s.Value
		case "vcs.time":
			date = s.Value
		case "vcs.modified":
			if s.Value == "true" {
				treeState = "dirty"
			}
		}
	}
	return commit, treeState, date
}
