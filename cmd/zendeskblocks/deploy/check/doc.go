// Package check tests the deployment files that no tool of the product reads: Kubernetes' manifests, the configuration of
// goreleaser, and the Containerfile, against the types of those who will read them. It is a module of its own, so that what it
// needs for that is nothing that the product depends on.
//
//	cd cmd/zendeskblocks/deploy/check && go test -count=1 ./...
package check
