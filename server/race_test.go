//go:build race

package server

// raceDetector says whether tests are slowed down by the race detector.
const raceDetector = true
