// Where a kernel reports an index out of range, to be read at the next wait.
#pragma once

#include <cstdint>

namespace moe::gpu {

struct IdError {
  // The position in the upper half, the value in the lower: the smallest is the first error. All ones: none.
  unsigned long long first;
  // The lowest index that would have been valid.
  long long low;
};

constexpr unsigned long long kNoIdError = ~0ull;

}  // namespace moe::gpu
