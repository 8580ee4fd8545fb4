// Helpers for making plans.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "core/divide.h"
#include "gpu/runtime/device_traits.h"

namespace moe::gpu {

// The most blocks along a grid's y and z.
constexpr int64_t kMaxGridY = 65535;

// The most blocks for each multiprocessor in a grid of small blocks: none holds more at a time.
constexpr int64_t kBlocksPerMultiprocessor = 32;

// At most `per_multiprocessor` blocks on each; the kernels loop over the rest.
inline unsigned capped_grid(int64_t blocks, int64_t per_multiprocessor, const DeviceTraits& traits) {
  return static_cast<unsigned>(std::min(blocks, per_multiprocessor * traits.multiprocessors));
}

// Hands out consecutive parts of one allocation.
class Parts {
 public:
  size_t take(size_t bytes) {
    const size_t begin = end_;
    end_ = static_cast<size_t>(round_up(static_cast<int64_t>(end_ + bytes), 256));
    return begin;
  }
  size_t end() const { return end_; }

 private:
  size_t end_ = 0;
};

}  // namespace moe::gpu
