// Where a kernel leaves word of an index that it found out of range, to be read at the next wait.
#pragma once

#include <cstdint>

namespace moe::gpu {

struct IdError {
  // Position in the upper and value in the lower half: the least is the first. All ones: none.
  unsigned long long first;
  // The least index that would have been right.
  long long low;
};

constexpr unsigned long long kNoIdError = ~0ull;

}  // namespace moe::gpu
