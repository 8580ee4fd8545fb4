// Plans of the grouped GEMM; see plan.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "core/operators/experts.h"
#include "core/status.h"
#include "gpu/gemm/kernels.h"
#include "gpu/runtime/device_traits.h"

namespace moe::gpu {

struct GemmProblem {
  RowKind x;
  const WeightFormat* format;
  int64_t rows;         // R
  int64_t experts;      // E
  int64_t packed_rows;  // N as packed
  int64_t columns;      // K
  // Whether rows of x begin at multiples of 16 bytes.
  bool x_aligned;
  AllowedRoundings allowed;
};

struct GemmPlan {
  const GemmKernel* kernel = nullptr;
  int tile_index = 0;  // index into the kernel's tiles
  GemmTile tile = {};
  // Whether x must first be copied to rows of `x_pitch` elements of the kernel's dtype.
  bool converts_x = false;
  int64_t x_pitch = 0;
  int64_t column_tiles = 0;
  int64_t max_row_tiles = 0;
  size_t tile_map_bytes = 0;
  size_t shared_bytes = 0;
  unsigned grid = 0;

  DType x_dtype() const { return kernel->x; }
};

// Chooses the kernel and plans it. UNSUPPORTED_DTYPE if there is none.
Status plan_gemm(const GemmProblem& problem, const DeviceTraits& traits, GemmPlan* plan);

// The planner of kernels that work through pairs (row tile, column tile) block by block.
GemmPlan plan_tiles(const GemmKernel& kernel, const GemmProblem& problem, const DeviceTraits& traits);

// Distance in floats between the rows of a tile's accumulators in shared memory: the columns plus eight, so that the
// rows of an mma fragment fall into different banks.
MOE_HOST_DEVICE constexpr int staged_pitch(int columns) { return columns + 8; }

// Shared memory of a block whose ring of stages takes `ring` bytes. The accumulators reuse that memory afterwards.
size_t with_staged_sums(const GemmTile& tile, int64_t ring);

// Bytes of the converted x [x_rows, x_pitch]; 0 if x is not converted.
size_t converted_bytes(const GemmPlan& plan, int64_t x_rows);

// The length of rows of `elements`, rounded up to whole vector accesses.
int64_t whole_vectors(int64_t elements, DType dtype);

// Whether every row of `x` begins at a multiple of 16 bytes.
bool rows_aligned(const TensorView& x);

std::string describe(const GemmPlan& plan);

}  // namespace moe::gpu
