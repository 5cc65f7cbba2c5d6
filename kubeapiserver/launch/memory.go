package launch

import (
	"io/fs"
	"math"
	"path"
	"strconv"
	"strings"
)

// memoryShare is the part of a memory limit that the Go heap may take: stacks of
// other processes' making, mapped files and the kernel's buffers need the rest.
const memoryShare = 0.9

// memoryLimit returns what the Go runtime should keep to in bytes, given the
// control groups that this process is in, of either version; 0 where none
// limits its memory. Root is the root of the file system.
func memoryLimit(root fs.FS) int64 {
	data, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return 0
	}
	limit := int64(math.MaxInt64)
	for line := range strings.Lines(string(data)) {
		// hierarchy:controllers:path
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 {
			continue
		}
		mount, file := "sys/fs/cgroup", "memory.max"
		if fields[1] != "" {
			if !strings.Contains(","+fields[1]+",", ",memory,") {
				continue
			}
			mount, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		}
		// Any group on the way up may be the narrowest. In a container the path may
		// be the host's, and the mount itself the container's group.
		for group := path.Clean("/" + fields[2]); ; group = path.Dir(group) {
			limit = min(limit, readLimit(root, path.Join(mount, group, file)))
			if group == "/" {
				break
			}
		}
	}
	if limit > 1<<60 { // version 1 has no word for none
		return 0
	}
	return int64(float64(limit) * memoryShare)
}

func readLimit(root fs.FS, name string) int64 {
	data, err := fs.ReadFile(root, name)
	if err != nil {
		return math.MaxInt64
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
	if err != nil || n <= 0 { // "max"
		return math.MaxInt64
	}
	return n
}
