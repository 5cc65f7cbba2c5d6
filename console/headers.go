package console

import (
	"net/http"
	"net/url"
)

// policy lets the page load its own script, style, icon and data, and nothing else from anywhere.
// No text becomes markup: require-trusted-types-for has the browser refuse it.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// SetHeaders sets the headers that keep a page, and what it reads, from being used by others.
func SetHeaders(h http.Header) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
}

// SameOrigin says whether a request comes from a page of this server, from the address bar, or from
// a program that is no browser. Pages of other sites may lead here by a link, but not read or embed.
//
// What a browser says in Sec-Fetch-Site counts before Origin: a page cannot set either, and a
// proxy on the way, such as kubectl proxy, asks for another host than the browser did.
func SameOrigin(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "same-origin", "none":
		return true
	case "":
		origin := r.Header.Get("Origin")
		u, err := url.Parse(origin)
		return origin == "" || err == nil && u.Host == r.Host
	default: // a link is followed; scripts, images and frames of other sites are not served
		return r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document"
	}
}
