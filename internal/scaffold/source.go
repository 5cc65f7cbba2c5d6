package scaffold

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
)

// Module is the path of Annex' own module.
const Module = "github.com/annex-api/annex"

// FindAnnex says what this program was built from: a release, or a checkout, which is
// looked for where the compiler found this file. checkout, if it is not empty, is used in
// place of either.
func FindAnnex(checkout string) (Annex, error) {
	if checkout != "" {
		folder, err := filepath.Abs(checkout)
		if err != nil {
			return Annex{}, err
		}
		if !isCheckout(folder) {
			return Annex{}, fmt.Errorf("%s is no checkout of Annex: its go.mod is not that of the module %s", folder, Module)
		}
		return Annex{Version: "v0.0.0", Checkout: folder}, nil
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		if version := release(info); version != "" {
			return Annex{Version: version}, nil
		}
	}
	if _, file, _, ok := runtime.Caller(0); ok && filepath.IsAbs(file) {
		if folder := filepath.Dir(filepath.Dir(filepath.Dir(file))); isCheckout(folder) {
			return Annex{Version: "v0.0.0", Checkout: folder}, nil
		}
	}
	return Annex{}, fmt.Errorf("this annex was built from a checkout that is no longer there, and not from a release: name a checkout with --annex-source")
}

// release is the version of Annex that a program was built with; empty where that was a
// checkout. Only what came through the module cache has a checksum.
func release(info *debug.BuildInfo) string {
	modules := append([]*debug.Module{&info.Main}, info.Deps...)
	for _, m := range modules {
		if m.Path == Module && m.Replace == nil && m.Sum != "" {
			return m.Version
		}
	}
	return ""
}

func isCheckout(folder string) bool {
	data, err := os.ReadFile(filepath.Join(folder, "go.mod"))
	if err != nil {
		return false
	}
	first, _, _ := strings.Cut(string(data), "\n")
	return strings.TrimSpace(first) == "module "+Module
}
