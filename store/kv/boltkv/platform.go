//go:build (linux || darwin || freebsd) && (amd64 || arm64 || loong64 || mips64 || mips64le || ppc64 || ppc64le || riscv64 || s390x)

package boltkv

// mmapBytes is address space, not memory. Growing the map waits for every open View and holds up writers until then,
// so it must not happen.
const mmapBytes = 16 << 30
