// Package architecture holds the rules about who may import whom, and about
// the shape of the source, and checks them in its tests.
package architecture
