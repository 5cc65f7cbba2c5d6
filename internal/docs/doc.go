// Package docs holds the documents to the code: its tests fail where a link
// leads nowhere, or where a page says a number, a setting or a metric that the
// code does not have.
package docs
