// What memory holds that nobody has written yet, on devices opened with `poison`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace moe {

// NaN as f16, bf16 and f32. Integers are far out of range: -1, which would mean "none", might hide that a write is
// missing. (cuda has bytes of 0xff, which is what its runtime can fill memory with.)
constexpr uint16_t kPoison = 0x7fff;

inline void poison_memory(void* data, size_t bytes) {
  auto* at = static_cast<unsigned char*>(data);
  for (; bytes >= sizeof kPoison; at += sizeof kPoison, bytes -= sizeof kPoison) {
    std::memcpy(at, &kPoison, sizeof kPoison);
  }
  std::memcpy(at, &kPoison, bytes);
}

}  // namespace moe
