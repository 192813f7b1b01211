// Package browser looks at what the binary serves to browsers, in a real one: Chromium. It has tests only, one for the documented
// procedure with mouse and keyboard, which makes the pictures of the operator's guide when it is told to with -update.
//
// Debian's package chromium has the browser. Where none is installed the tests are skipped; in CI they fail.
package browser
