// What the tests of the simt runtime share.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "check.h"
#include "ptx/launch.cuh"

namespace moe::simt::test {

inline Options with(uint64_t seed, AsyncMode async = AsyncMode::late, int threads = 1) {
  return {seed, async, threads};
}

constexpr std::array<AsyncMode, 3> kAsyncModes{AsyncMode::late, AsyncMode::early, AsyncMode::mixed};

// Whether a report contains all of these words.
inline bool says(const Status& status, std::initializer_list<const char*> words) {
  if (status.ok()) return false;
  for (const char* word : words) {
    if (status.message.find(word) == std::string::npos) {
      fprintf(stderr, "not in the report: \"%s\"\n  %s\n", word, status.message.c_str());
      return false;
    }
  }
  return true;
}

// Runs the kernel on a fresh machine and expects no report.
template <class... Parameters>
void run(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared, const Options& options,
         std::type_identity_t<Parameters>... arguments) {
  Gpu gpu(options);
  const Status status = launch("kernel", kernel, grid, block, shared, &gpu, arguments...);
  MOE_CHECK_EQUAL(status.message, "");
}

constexpr uint64_t kSeeds = 8;

}  // namespace moe::simt::test
