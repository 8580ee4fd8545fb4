// Two rows as one of pairs.
#pragma once

#include <cstdint>

namespace moe::cpu {

inline void interleave(const uint16_t* even, const uint16_t* odd, int64_t count, uint16_t* pairs) {
  for (int64_t i = 0; i < count; ++i) {
    pairs[2 * i] = even[i];
    pairs[2 * i + 1] = odd[i];
  }
}

}  // namespace moe::cpu
