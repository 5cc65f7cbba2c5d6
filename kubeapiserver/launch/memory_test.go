package launch

import (
	"testing"
	"testing/fstest"
)

func TestMemoryLimitIsTheNarrowestGroups(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	for name, c := range map[string]struct {
		files fstest.MapFS
		want  int64
	}{
		"no control groups": {fstest.MapFS{}, 0},
		"version 2": {fstest.MapFS{
			"proc/self/cgroup":                       file("0::/kubepods/pod1\n"),
			"sys/fs/cgroup/kubepods/pod1/memory.max": file("1000000000\n"),
			"sys/fs/cgroup/kubepods/memory.max":      file("max\n"),
		}, 900_000_000},
		"a group above is narrower": {fstest.MapFS{
			"proc/self/cgroup":             file("0::/a/b\n"),
			"sys/fs/cgroup/a/b/memory.max": file("max\n"),
			"sys/fs/cgroup/a/memory.max":   file("2000000000\n"),
		}, 1_800_000_000},
		"in a container": {fstest.MapFS{
			"proc/self/cgroup":         file("0::/../../elsewhere\n"),
			"sys/fs/cgroup/memory.max": file("1000\n"),
		}, 900},
		"no limit": {fstest.MapFS{
			"proc/self/cgroup":           file("0::/a\n"),
			"sys/fs/cgroup/a/memory.max": file("max\n"),
		}, 0},
		"version 1": {fstest.MapFS{
			"proc/self/cgroup": file("5:cpu,cpuacct:/x\n4:memory:/x\n0::/\n"),
			"sys/fs/cgroup/memory/x/memory.limit_in_bytes": file("5000\n"),
			"sys/fs/cgroup/memory/memory.limit_in_bytes":   file("9223372036854771712\n"),
		}, 4500},
		"version 1, none": {fstest.MapFS{
			"proc/self/cgroup":                           file("4:memory:/\n"),
			"sys/fs/cgroup/memory/memory.limit_in_bytes": file("9223372036854771712\n"),
		}, 0},
		"nonsense": {fstest.MapFS{
			"proc/self/cgroup":           file("\n:\n0::/a\n"),
			"sys/fs/cgroup/a/memory.max": file("-3 apples\n"),
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			if got := memoryLimit(c.files); got != c.want {
				t.Errorf("limit %d, want %d", got, c.want)
			}
		})
	}
}
