package version

// VCS is vcs for tests.
var VCS = vcs
