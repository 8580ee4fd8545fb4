// Kernels with one mistake each, of the kind that hides on hardware: they show that the runtime can find it. Those
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
  // Runs it under this name and compares what it computed with what it should have.
  Outcome (*run)(const char* name, const Options& options);
};

std::span<const BrokenKernel> broken_kernels();

}  // namespace moe::simt::test
