// What memory holds that nobody has written yet, on devices opened with `poison`.
#pragma once

#include <cstddef>

namespace moe {

// Words of 0x7fff: NaN as f16, bf16 and f32. Integers are far out of range: -1, which would mean "none", might hide
// that a write is missing. (cuda has bytes of 0xff, which is what its runtime can fill memory with.)
inline void poison_memory(void* data, size_t bytes) {
  auto* at = static_cast<unsigned char*>(data);
  for (size_t i = 0; i < bytes; ++i) at[i] = i % 2 == 0 ? 0xff : 0x7f;
}

}  // namespace moe
