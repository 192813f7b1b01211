//go:build race

package main

// raceDetector says whether tests, and the programs that they start, are slowed down by the race detector.
const raceDetector = true
