package versions

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/json"
)

// Stash is what annotations begin with by which an object of a spoke carries what only the
// hub can say. No client and no hook sees it, and no client's is believed. What is stored
// has it where a kind is stored in a spoke: a release that has no hub yet keeps it, as it
// keeps all annotations.
const Stash = "extension.annex.dev/hub"

// IsStash says whether an annotation carries what only the hub can say.
func IsStash(annotation string) bool {
	return annotation == Stash || strings.HasPrefix(annotation, Stash+":")
}

// dropStash takes from an object what it carries. Its annotations may be shared.
func dropStash(obj metav1.Object) {
	annotations := obj.GetAnnotations()
	for name := range annotations {
		if !IsStash(name) {
			continue
		}
		annotations = maps.Clone(annotations)
		maps.DeleteFunc(annotations, func(name, _ string) bool { return IsStash(name) })
		if len(annotations) == 0 {
			annotations = nil
		}
		obj.SetAnnotations(annotations)
		return
	}
}

// sealKey seals what goes there and back within a request. It is this process's alone, and
// no client sees what is sealed, so none can make or repeat it.
var sealKey = []byte(rand.Text())

// sealLength is how long a seal is, in front of what it seals.
const sealLength = 2 * sha256.Size

// seal gives the value of an annotation that unseal takes under the same name.
func seal(name string, content []byte) string {
	return hex.EncodeToString(sum(name, content)) + string(content)
}

// unseal gives what was sealed; false where it was not sealed here. Nothing is read of
// what was not.
func unseal(name, value string) ([]byte, bool) {
	if len(value) < sealLength {
		return nil, false
	}
	content := []byte(value[sealLength:])
	given, err := hex.DecodeString(value[:sealLength])
	if err != nil || !hmac.Equal(given, sum(name, content)) {
		return nil, false
	}
	return content, true
}

func sum(name string, content []byte) []byte {
	h := hmac.New(sha256.New, sealKey)
	fmt.Fprintf(h, "%q ", name)
	h.Write(content)
	return h.Sum(nil)
}

// maxSteps is how long the path of a difference may be. What lies deeper differs as a whole.
const maxSteps = 64

// decode reads differences, and refuses any that could not be put back.
func decode(content []byte) ([]difference, error) {
	var all []difference
	if err := json.Unmarshal(content, &all); err != nil {
		return nil, err
	}
	for _, d := range all {
		if len(d.Path) > maxSteps {
			return nil, fmt.Errorf("a path of %d steps, and %d is the most", len(d.Path), maxSteps)
		}
		for _, s := range d.Path {
			if s.At < 0 {
				return nil, fmt.Errorf("%d is no place in a list", s.At)
			}
		}
	}
	return all, nil
}
