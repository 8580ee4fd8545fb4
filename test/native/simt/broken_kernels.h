// Kernels with one mistake each, of the kind that stays hidden on hardware, to show that the runtime finds it. Those
// whose names begin with right_ have none.
#pragma once

#include <span>

#include "core/status.h"
#include "simt/options.h"

namespace moe::simt::test {

struct Outcome {
  Status status;
  bool correct = false;
};

struct BrokenKernel {
  const char* name;
  // Runs it under this name and compares its results with the right ones.
  Outcome (*run)(const char* name, const Options& options);
};

std::span<const BrokenKernel> broken_kernels();

}  // namespace moe::simt::test
