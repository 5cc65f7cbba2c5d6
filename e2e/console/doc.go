// Package console tests the page of annex console in headless Chromium, as the shipped binary serves it.
package console
