package document

import "fmt"

// maxCopiedBytes bounds the text that a conversion writes again. Media types
// and references to schemas, which real documents repeat, come to some 100 KiB.
const maxCopiedBytes = 4 << 20

// Copies counts what a conversion between the versions of OpenAPI writes again
// and again, because one version shares what the other repeats. A short document
// may ask for billions of copies, so they are counted before they are made.
type Copies struct{ tokens, bytes int }

// Add counts n copies of a JSON value. It fails where all copies together hold
// more than one group version may, or more than maxCopiedBytes.
func (c *Copies) Add(n int, value []byte) error {
	if n < 1 {
		return nil
	}
	tokens, err := Tokens(value, maxGroupVersionTokens)
	if err != nil {
		return err
	}
	switch {
	case tokens > (maxGroupVersionTokens-c.tokens)/n:
		return fmt.Errorf("more than %d objects, arrays, keys and scalars in copies", maxGroupVersionTokens)
	case len(value) > (maxCopiedBytes-c.bytes)/n:
		return fmt.Errorf("more than %d bytes in copies", maxCopiedBytes)
	}
	c.tokens += n * tokens
	c.bytes += n * len(value)
	return nil
}
