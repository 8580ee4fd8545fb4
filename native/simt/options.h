// How the simt device runs kernels; reports say which options reproduce a failure.
#pragma once

#include <cstdint>
#include <string>

#include "core/status.h"

namespace moe::simt {

// When an asynchronous copy takes effect: at the wait that guarantees it, or immediately.
enum class AsyncMode : uint8_t { late, early };

struct Options {
  uint64_t seed = 1;  // determines the order in which threads and blocks run
  AsyncMode async = AsyncMode::late;
  int threads = 1;  // operating system threads; each runs one block at a time
  // Whether each launch prints the bank conflicts of its accesses to shared memory.
  bool bank_conflicts = false;
};

// Overrides seed, async and bank_conflicts with MOE_SIMT_SEED, MOE_SIMT_ASYNC and MOE_SIMT_BANK_CONFLICTS if set.
Status read_environment(Options* options);

// "MOE_SIMT_SEED=1 MOE_SIMT_ASYNC=late"
std::string describe(const Options& options);

}  // namespace moe::simt
