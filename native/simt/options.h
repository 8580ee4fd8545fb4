// How the simt device runs kernels; reports say which options reproduce a failure.
#pragma once

#include <cstdint>
#include <string>

#include "core/status.h"
#include "core/variables.h"

namespace moe::simt {

// When an asynchronous copy takes effect: at the wait that guarantees it, immediately, or at one of the two, which the
// seed draws for each copy.
enum class AsyncMode : uint8_t { late, early, mixed };

struct Options {
  // Determines the order in which threads and blocks run, and what mixed copies draw.
  uint64_t seed = 1;
  AsyncMode async = AsyncMode::late;
  int threads = 1;  // operating system threads; each runs one block at a time
  // Whether each launch prints the bank conflicts of its accesses to shared memory.
  bool bank_conflicts = false;
  // Whether work of a stream runs when somebody waits for it, instead of at once.
  bool late_work = false;
};

// Overrides seed, async, bank_conflicts and late_work with MOE_SIMT_SEED, MOE_SIMT_ASYNC, MOE_SIMT_BANK_CONFLICTS and
// MOE_SIMT_STREAM if set.
Status read_variables(const Variables& variables, Options* options);

// "MOE_SIMT_SEED=1 MOE_SIMT_ASYNC=late"
std::string describe(const Options& options);

}  // namespace moe::simt
