package server

import (
	"runtime/debug"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/version"
	"k8s.io/apiserver/pkg/util/compatibility"
	basecompatibility "k8s.io/component-base/compatibility"
)

// builtVersion is what a server says it is: the version of Kubernetes whose library it is
// built with. The library itself learns that from the linker alone, which a program that
// was built by go build has not told it; clients cannot read what it says then.
type builtVersion struct {
	basecompatibility.EffectiveVersion
}

func effectiveVersion() basecompatibility.EffectiveVersion {
	return builtVersion{compatibility.DefaultBuildEffectiveVersion()}
}

// Info implements EffectiveVersion.
func (b builtVersion) Info() *version.Info {
	info := *b.EffectiveVersion.Info()
	if strings.Contains(info.GitVersion, "$") {
		info.GitVersion = libraryVersion()
		if info.GitVersion == "" {
			info.GitVersion = "v" + info.Major + "." + info.Minor + ".0"
		}
		info.GitCommit, info.GitTreeState, info.BuildDate = "", "", ""
	}
	return &info
}

// libraryVersion is that of Kubernetes: its library v0.37.2 is of v1.37.2.
var libraryVersion = sync.OnceValue(func() string {
	build, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, m := range build.Deps {
		if rest, found := strings.CutPrefix(m.Version, "v0."); found && m.Path == "k8s.io/apiserver" {
			return "v1." + rest
		}
	}
	return ""
})
