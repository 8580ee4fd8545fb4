// Checksums that detect damaged bytes. They do not protect against forgery.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cpu/runtime/team.h"

namespace moe::cpu {

// A 64-bit checksum. It always changes if one aligned 8-byte word changes, and almost always for any other change.
uint64_t checksum(const void* data, size_t bytes);

// The checksums of some of the units of unit_bytes each that begin at `data`, computed by the whole team. The result
// does not depend on the number of threads.
std::vector<uint64_t> unit_checksums(const Team& team, const char* data, size_t unit_bytes,
                                     const std::vector<int32_t>& units);

}  // namespace moe::cpu
