package host

import (
	"bytes"
	"runtime/pprof"
	"strings"
	"testing"
)

func TestParseLiveReadsARealProfile(t *testing.T) {
	var profile bytes.Buffer
	if err := pprof.Lookup("heap").WriteTo(&profile, 1); err != nil {
		t.Fatal(err)
	}
	if live, err := parseLive(profile.String()); err != nil || live <= 0 {
		t.Errorf("%d bytes, %v", live, err)
	}
}

func TestParseLive(t *testing.T) {
	profile := "# HeapSys = 9\n# HeapInuse = 300\n# Stack = 40 / 50\n# X = 1\n"
	if live, err := parseLive("\n" + profile); err != nil || live != 340 {
		t.Errorf("%d, %v, want 340", live, err)
	}
	for _, bad := range []string{"", strings.ReplaceAll("\n"+profile, "Stack", "S"), "\n# HeapInuse = x\n# Stack = 4"} {
		if _, err := parseLive(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
