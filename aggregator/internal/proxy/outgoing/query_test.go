package outgoing

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestQuery(t *testing.T) {
	for in, want := range map[string]string{
		"":                       "",
		"a=1&b=2":                "a=1&b=2",
		"watch=1&labelSelector=": "watch=1&labelSelector=",
		"a=%20&b=%2F":            "a=%20&b=%2F",
		"b=2&a=1":                "b=2&a=1",
		"a=1;b=2":                "",         // this server reads neither
		"x=1&a=1;b=2":            "x=1",      // nor here
		"a=%":                    "",         // not an escape
		"a=%2&b=1":               "b=1",      //
		"a=%zz&b=1":              "b=1",      //
		"b=1&a=%2F%4":            "b=1",      //
		"b=%2F&a=1;":             "b=%2F",    //
		"a=1&a=2&c=%zz":          "a=1&a=2",  //
		"fieldSelector=a%3Db%2":  "",         //
		"a=%C3%A9":               "a=%C3%A9", //
		"a=é":                    "a=%C3%A9",
		"timeout=1s&a+b=c":       "timeout=1s&a+b=c",
		"a=1&a=2":                "a=1&a=2", // lists are lists
		"a=!$'()*,-._~:@/":       "a=!$'()*,-._~:@/",
		// A number sign ends the query for some.
		"#&fieldSelector=metadata.name%3Dmine": "%23=&fieldSelector=metadata.name%3Dmine",
		"fieldSelector=a#b":                    "fieldSelector=a%23b",
		// A question mark at the beginning is no part of the query to some.
		"?fieldSelector=&fieldSelector=metadata.name%3Dmine": "%3FfieldSelector=&fieldSelector=metadata.name%3Dmine",
		// The authorizer takes the first, some take the last.
		"fieldSelector=a&fieldSelector=":        "fieldSelector=a",
		"labelSelector=a&x=1&label%53elector=b": "labelSelector=a&x=1",
		"watch=0&watch=1":                       "watch=0",
		"fieldSelector&fieldSelector=a":         "fieldSelector=",
		"xfieldSelector=a&fieldSelector=b":      "xfieldSelector=a&fieldSelector=b",
		"watch=1" + strings.Repeat("&", 20_000): "", // Go reads none of it
		"watch=1" + strings.Repeat("&a", 1_500): "watch=1" + strings.Repeat("&a=", 1_500),
		"a=\"<>[]^`{|}\\":                       "a=%22%3C%3E%5B%5D%5E%60%7B%7C%7D%5C",
	} {
		got, ok := forwardedQuery(&url.URL{RawQuery: in})
		if strings.HasPrefix(in, "watch=1&a") { // in alphabetical order
			parsed, _ := url.ParseQuery(got)
			if len(parsed["a"]) != 1_500 || len(parsed["watch"]) != 1 {
				t.Errorf("%q: %q", in, got)
			}
			continue
		}
		if !ok || got != want {
			t.Errorf("%.100q: %.100q %v, want %.100q", in, got, ok, want)
		}
	}
	for _, in := range []string{"a=%ff", "%c0%ae=1", "a=\xff", "\xff", "x=1&fieldSelector=metadata.name%3Da%80", "a=%ED%A0%80"} {
		if got, ok := forwardedQuery(&url.URL{RawQuery: in}); ok {
			t.Errorf("%q: forwarded as %q", in, got)
		}
	}
}

// bytesInQueries are queries with each byte at each place where it could have a meaning.
func bytesInQueries() []string {
	var queries []string
	for b := range 256 {
		for _, c := range []string{string([]byte{byte(b)}), fmt.Sprintf("%%%02x", b), fmt.Sprintf("%%25%02X", b)} {
			for _, form := range []string{
				"?&fieldSelector=metadata.name%%3Dmine", "?fieldSelector=metadata.name%%3Dmine", "fieldSelector=metadata.name%%3Dmine?",
				"fieldSelector=metadata.name%%3Dmine?fieldSelector=&watch=1", "fieldSelector?=metadata.name%%3Dmine&watch=1",
				"watch=1&a?b=c?d&fieldSelector=x&fieldSelector?", "a?", "fieldSelector=&?fieldSelector=mine", "watch=0&watch=1?&a=1&a=2",
			} {
				queries = append(queries, strings.ReplaceAll(strings.ReplaceAll(form, "?", c), "%%", "%"))
			}
		}
	}
	return queries
}

// queryReaders are programs that read a list of queries as others than Go do. Each
// prints a list of lists of pairs.
var queryReaders = map[string][]string{
	"URLSearchParams of node": {"node", "-e", `
		const queries = JSON.parse(require("fs").readFileSync(0, "utf8"));
		console.log(JSON.stringify(queries.map(q => [...new URL("https://x/y?" + q).searchParams])))`},
	"a string read by URLSearchParams of node": {"node", "-e", `
		const queries = JSON.parse(require("fs").readFileSync(0, "utf8"));
		console.log(JSON.stringify(queries.map(q => [...new URLSearchParams(q.split("#")[0])])))`},
	"querystring of node": {"node", "-e", `
		const queries = JSON.parse(require("fs").readFileSync(0, "utf8")), url = require("url"), querystring = require("querystring");
		const read = q => Object.entries(querystring.parse(url.parse("/y?" + q).query || "")).flatMap(([k, v]) => [v].flat().map(one => [k, one]));
		console.log(JSON.stringify(queries.map(read)))`},
	"parse_qsl of Python": {"python3", "-c", `
import json, sys
from urllib.parse import urlsplit, parse_qsl
print(json.dumps([parse_qsl(urlsplit("https://x/y?" + q).query, keep_blank_values=True) for q in json.load(sys.stdin)]))`},
	"parse_qsl of Python, with semicolons": {"python3", "-c", `
import json, sys
from urllib.parse import urlsplit, parse_qsl
print(json.dumps([parse_qsl(urlsplit("https://x/y?" + q).query.replace(";", "&"), keep_blank_values=True) for q in json.load(sys.stdin)]))`},
}

// Whatever byte a query has, and wherever, what is forwarded has plain characters only,
// and every reader finds in it what the authorizer read.
func TestEveryByteOfAQueryIsReadAlike(t *testing.T) {
	var sent []string
	var want []url.Values
	for _, query := range bytesInQueries() {
		u := &url.URL{RawQuery: query}
		got, ok := forwardedQuery(u)
		if !ok {
			continue
		}
		if i := strings.IndexFunc(got, func(c rune) bool {
			return c >= 0x80 || !(ordinary(c) || strings.ContainsRune(".~!$&'()*+,=:@/%", c))
		}); i >= 0 {
			t.Errorf("%q is forwarded as %q", query, got)
		}
		read := u.Query()
		for _, key := range readOnce { // of which this server reads the first
			if list := read[key]; len(list) > 1 {
				read[key] = list[:1]
			}
		}
		sent, want = append(sent, got), append(want, read)
	}
	if len(sent) < 3000 {
		t.Fatalf("only %d queries are forwarded", len(sent))
	}
	compare := func(t *testing.T, read []url.Values) {
		for i := range sent {
			if diff := cmp.Diff(want[i], read[i]); diff != "" {
				t.Fatalf("%q (-this server, +the other):\n%s", sent[i], diff)
			}
		}
	}
	t.Run("Go", func(t *testing.T) {
		read := make([]url.Values, len(sent))
		for i, query := range sent {
			var err error
			if read[i], err = url.ParseQuery(query); err != nil {
				t.Errorf("%q: %v", query, err)
			}
		}
		compare(t, read)
	})
	for name, command := range queryReaders {
		if _, err := exec.LookPath(command[0]); err != nil {
			t.Logf("%s: %v", name, err) // the table above holds without it
			continue
		}
		t.Run(name, func(t *testing.T) { compare(t, readWith(t, command, sent)) })
	}
}

func readWith(t *testing.T, command, queries []string) []url.Values {
	t.Helper()
	input, err := json.Marshal(queries)
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), command[0], command[1:]...)
	c.Stdin = strings.NewReader(string(input))
	output, err := c.Output()
	if err != nil {
		t.Fatalf("%s: %v", command[0], err)
	}
	var pairs [][][2]string
	if err := json.Unmarshal(output, &pairs); err != nil || len(pairs) != len(queries) {
		t.Fatalf("%d answers for %d queries: %v", len(pairs), len(queries), err)
	}
	read := make([]url.Values, len(pairs))
	for i, list := range pairs {
		read[i] = url.Values{}
		for _, pair := range list {
			read[i].Add(pair[0], pair[1])
		}
	}
	return read
}
