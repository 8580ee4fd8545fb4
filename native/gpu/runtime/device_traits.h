// What plans need to know about a GPU.
#pragma once

#include <cstddef>

namespace moe::gpu {

// Shared memory that a block gets without asking for more, dynamic and static together.
constexpr size_t kUnaskedShared = 48 * 1024;

struct DeviceTraits {
  int multiprocessors = 1;
  // Largest dynamic shared memory of a block, and what the blocks of one multiprocessor share.
  size_t shared_per_block = kUnaskedShared;
  size_t shared_per_multiprocessor = kUnaskedShared;
  // The largest block that kernels may use, in threads.
  int max_threads = 1024;
  // 80 for 8.0. Whose kernels are used: it decides which instructions exist.
  int compute_capability = 80;
  // The GPU's own, if it uses the kernels of another: it must have their instructions too. 0: it has all.
  int own_capability = 0;
};

}  // namespace moe::gpu
