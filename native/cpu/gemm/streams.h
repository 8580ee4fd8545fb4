// Which results are written past the caches; see Kernels::store_rows.
#pragma once

#include <cstdint>

namespace moe::cpu {

// So many bytes that no core's cache would still hold them when they are read.
constexpr bool are_streamed(int64_t bytes) { return bytes > int64_t{2} << 20; }

}  // namespace moe::cpu
