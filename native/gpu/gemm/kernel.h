// A row of the table of grouped GEMM kernels: what a kernel takes, needs and computes with. Pure data and functions, so
// that every choice can be tested without a GPU; what is launched stands in gemm/functions.cuh.
#pragma once

#include <climits>
#include <cstddef>
#include <cstdint>
#include <span>

#include "core/dtype.h"
#include "core/formats/weight_format.h"
#include "gpu/gemm/weight_layout.h"
#include "gpu/runtime/device_traits.h"

namespace moe::gpu {

struct GemmPlan;
struct GemmProblem;

// Rows and columns of the product that a block computes at once, how its warps divide them, the stages of its ring in
// shared memory, and the blocks whose registers a multiprocessor must have room for.
struct GemmTile {
  int rows, columns;
  int warps_rows, warps_columns;
  int stages;
  int blocks;

  MOE_HOST_DEVICE constexpr int threads() const { return 32 * warps_rows * warps_columns; }
};

// Compute capabilities, 80 for 8.0. Instructions of an architecture of its own, such as sm_90a, are in no later one.
struct ComputeCapabilities {
  int first = 80;
  int last = INT_MAX;

  constexpr bool include(int capability) const { return first <= capability && capability <= last; }
};

struct GemmKernel {
  const char* name;
  std::span<const DType> tokens;  // that it takes
  DType x;                        // what they are stored as before they are multiplied, without loss
  const WeightFormat* format;
  const char* numbers;          // what its results are
  bool rounds_to_tf32 = false;  // only where the caller allows that
  ComputeCapabilities runs_on = {};
  const WeightLayout* layout;
  std::span<const GemmTile> tiles;  // lowest first
  size_t (*shared_bytes)(const GemmTile& tile);
  GemmPlan (*plan)(const GemmKernel& kernel, const GemmProblem& problem, const DeviceTraits& traits);
};

}  // namespace moe::gpu
