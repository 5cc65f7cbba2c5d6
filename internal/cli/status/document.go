package status

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf16"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/annex-api/annex/apis/aggregation/v1alpha1"
	"github.com/annex-api/annex/internal/printable"
)

// document writes a list for programs: one object where one NAME was given, as kubectl does.
func (p *printer) document(all []v1alpha1.RemoteAPIService) error {
	switch {
	case p.Output == "name":
		var b strings.Builder
		for i := range all {
			b.WriteString(named(&all[i]))
		}
		_, err := io.WriteString(p.IO.Out, b.String())
		return err
	case len(p.Names) == 1 && len(all) == 1:
		return p.encode(&all[0])
	}
	list := &v1alpha1.RemoteAPIServiceList{
		TypeMeta: metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "RemoteAPIServiceList"},
		Items:    all,
	}
	if list.Items == nil {
		list.Items = []v1alpha1.RemoteAPIService{}
	}
	return p.encode(list)
}

// one writes an object of a stream.
func (p *printer) one(item *v1alpha1.RemoteAPIService) error {
	if p.Output == "name" {
		_, err := io.WriteString(p.IO.Out, named(item))
		return err
	}
	if p.Output == "yaml" {
		if _, err := io.WriteString(p.IO.Out, "---\n"); err != nil {
			return err
		}
	}
	return p.encode(item)
}

// named is how kubectl -o name says it: APIServices are there on every cluster.
func named(item *v1alpha1.RemoteAPIService) string {
	return "apiservice.apiregistration.k8s.io/" + printable.Line(item.Name, maxCell) + "\n"
}

func (p *printer) encode(object any) error {
	b, err := json.MarshalIndent(object, "", "    ")
	if err == nil && p.Output == "yaml" {
		b, err = yaml.JSONToYAML(escaped(b, yamlEscape)) // which reads no control characters
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", p.Output, err)
	}
	if p.Output == "yaml" {
		b = escaped(b, yamlEscape)
	} else {
		b = append(escaped(b, jsonEscape), '\n')
	}
	_, err = p.IO.Out.Write(b)
	return err
}

// escaped writes what is not printable in a form that a terminal shows and does not obey. In JSON, and
// where YAML has quotes, the value stays what it was.
func escaped(document []byte, escape func(rune) string) []byte {
	harmless := func(r rune) bool { return r == '\n' || unicode.IsPrint(r) }
	if bytes.IndexFunc(document, func(r rune) bool { return !harmless(r) }) < 0 {
		return document
	}
	var b bytes.Buffer
	for _, r := range string(document) {
		if harmless(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(escape(r))
		}
	}
	return b.Bytes()
}

func jsonEscape(r rune) string {
	if r <= 0xffff {
		return fmt.Sprintf(`\u%04x`, r)
	}
	high, low := utf16.EncodeRune(r)
	return fmt.Sprintf(`\u%04x\u%04x`, high, low)
}

func yamlEscape(r rune) string { return fmt.Sprintf(`\U%08x`, r) }
