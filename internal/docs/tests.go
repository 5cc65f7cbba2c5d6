package docs

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"
)

// testLink matches a link whose text is the name of a test, and whose target is where
// the test stands.
var testLink = regexp.MustCompile(`\[((?:Test|Fuzz|Benchmark|Example)\w*)\]\(([^()\s]+)\)`)

// wrongTests has a sentence for each test that a document names and that is not where
// its link leads. It also says how many tests the document names.
func wrongTests(repository fs.FS, name string) (wrong []string, named int, err error) {
	content, err := fs.ReadFile(repository, name)
	if err != nil {
		return nil, 0, err
	}
	prose(string(content), func(number int, line string) {
		for _, link := range testLink.FindAllStringSubmatch(line, -1) {
			named++
			test, file := link[1], path.Join(path.Dir(name), link[2])
			code, err := fs.ReadFile(repository, file)
			switch {
			case err != nil || !strings.HasSuffix(file, "_test.go"):
				wrong = append(wrong, fmt.Sprintf("%s:%d: %s is to be in %s, which is no file of tests", name, number, test, file))
			case !strings.Contains(string(code), "\nfunc "+test+"("):
				wrong = append(wrong, fmt.Sprintf("%s:%d: there is no %s in %s", name, number, test, file))
			}
		}
	})
	return wrong, named, nil
}
