//go:build !((linux || darwin || freebsd) && (amd64 || arm64 || loong64 || mips64 || mips64le || ppc64 || ppc64le || riscv64 || s390x))

package boltkv

// The map of the data file is larger than the address space of a 32-bit machine, and Windows would make the file as large
// as the map. So there the build ends here, rather than the program later.
const mmapBytes = boltkv_needs_a_64_bit_Linux_macOS_or_FreeBSD
