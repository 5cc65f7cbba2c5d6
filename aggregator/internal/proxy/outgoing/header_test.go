package outgoing

import (
	"net/http"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWithoutBearer(t *testing.T) {
	for _, c := range []struct{ in, want []string }{
		{[]string{"v4.channel.k8s.io"}, []string{"v4.channel.k8s.io"}},
		{[]string{"base64url.bearer.authorization.k8s.io.c2VjcmV0"}, nil},
		{[]string{"base64url.bearer.authorization.k8s.io.c2VjcmV0, v4.channel.k8s.io"}, []string{"v4.channel.k8s.io"}},
		{[]string{"v4.channel.k8s.io", "BASE64URL.Bearer.authorization.k8s.io.x"}, []string{"v4.channel.k8s.io"}},
		{[]string{"a,b ,\tbase64url.bearer.authorization.k8s.io.x,,c"}, []string{"a, b, c"}},
		{[]string{"", " , "}, nil},
	} {
		if got := withoutBearer(c.in); !slices.Equal(got, c.want) {
			t.Errorf("%q: %q, want %q", c.in, got, c.want)
		}
	}
}

func TestStripper(t *testing.T) {
	s := newStripper([]string{"x-my-user", "X-MY-Group", "X_my_uid"}, []string{"X-My-Extra-", ""})
	for name, want := range map[string]bool{
		"X-Remote-User": true, "X-Remote-Uid": true, "X-Remote-Group": true,
		"X-Remote-Extra-Scopes": true, "X-Remote-Extra-": true, "x-remote-extra-a%2Fb": true,
		"X_Remote_User": true, "x_remote-user": true, "X-Remote_group": true, "X_remote_extra_scopes": true,
		"X-My-User": true, "X-My-Group": true, "X_my_group": true, "X-My-Uid": true, "X_my_uid": true, "X-My-Extra-Role": true, "x_my_extra_role": true,
		"Impersonate-User": true, "Impersonate-Group": true, "Impersonate-Extra-Scopes": true, "Impersonate_User": true,
		"Authorization": true, "Cookie": true, "Proxy-Authorization": true,
		"Connection": true, "Upgrade": true, "Te": true, "Trailer": true, "Transfer-Encoding": true, "Keep-Alive": true,
		"Accept": false, "X-Remote": false, "X-Remote-Users": false, "X-My-Other": false, "Content-Type": false,
		"X-Forwarded-For": false, "Audit-Id": false, "X_custom": false, "Impersonated": false,
	} {
		if got := s.drops(name); got != want {
			t.Errorf("%s: dropped %v, want %v", name, got, want)
		}
	}
}

func TestConnectionTokens(t *testing.T) {
	got := connectionTokens(http.Header{"Connection": {"close, X-Secret", " x-other ,,"}})
	want := map[string]bool{"Close": true, "X-Secret": true, "X-Other": true}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := connectionTokens(http.Header{}); got != nil {
		t.Errorf("%v", got)
	}
}

func TestCleanResponse(t *testing.T) {
	h := http.Header{
		"Connection": {"close, X-Hop"}, "X-Hop": {"1"}, "Keep-Alive": {"1"}, "Transfer-Encoding": {"chunked"},
		"Access-Control-Allow-Origin": {"*"}, "Access-Control-Allow-Methods": {"GET"},
		"Access-Control-Allow-Headers": {"a"}, "Access-Control-Allow-Credentials": {"true"},
		"Set-Cookie": {"session=1; Path=/", "b=2"}, "Clear-Site-Data": {`"*"`}, "Alt-Svc": {`h2="evil.example:443"`},
		"Strict-Transport-Security": {"max-age=0"}, "Nel": {"{}"}, "Report-To": {"{}"}, "Reporting-Endpoints": {`a="https://evil.example"`},
		"Service-Worker-Allowed":        {"/"},
		"Access-Control-Expose-Headers": {"Date"}, "Content-Type": {"application/json"}, "Warning": {"299 - x"},
	}
	CleanResponse(h)
	want := http.Header{
		"Access-Control-Expose-Headers": {"Date"}, "Content-Type": {"application/json"}, "Warning": {"299 - x"},
	}
	if diff := cmp.Diff(want, h); diff != "" {
		t.Error(diff)
	}
}

func TestCopyHeader(t *testing.T) {
	dst := http.Header{"Audit-Id": {"one"}, "Warning": {"mine"}, "Cache-Control": {"no-cache, private"}}
	CopyHeader(dst, http.Header{
		"Audit-Id": {"one"}, "Warning": {"theirs", "mine"}, "Content-Type": {"application/json"}, "X-Twice": {"a", "a"},
	})
	want := http.Header{
		"Audit-Id": {"one"}, "Warning": {"mine", "theirs"}, "Cache-Control": {"no-cache, private"},
		"Content-Type": {"application/json"}, "X-Twice": {"a", "a"},
	}
	if diff := cmp.Diff(want, dst); diff != "" {
		t.Error(diff)
	}
}

func TestOwnLocation(t *testing.T) {
	const host = "10.0.0.1:443"
	for in, want := range map[string]string{
		"https://10.0.0.1:443/apis/x?y=1#z":    "/apis/x?y=1#z",
		"http://10.0.0.1:443/apis/x":           "/apis/x",
		"//10.0.0.1:443/apis/x":                "/apis/x",
		"https://user:word@10.0.0.1:443/x":     "/x",
		"https://10.0.0.1:443":                 "",
		"/apis/x":                              "/apis/x",
		"https://10.0.0.1:444/x":               "https://10.0.0.1:444/x",
		"https://elsewhere.example/x":          "https://elsewhere.example/x",
		"https://10.0.0.1:443@evil.example/x":  "https://10.0.0.1:443@evil.example/x",
		"https://10.0.0.1:443.evil.example/%x": "https://10.0.0.1:443.evil.example/%x",
	} {
		if got := OwnLocation(in, host); got != want {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
	}
}
