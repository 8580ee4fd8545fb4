// Plans: how an operator runs on a GPU, from its sizes and the device's traits alone. Pure functions without CUDA, so
// that every choice can be tested and printed without a GPU. No choice may change a result: the order of every sum
// depends only on hidden size, intermediate size and k, whatever the tile.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>

#include "core/dtype.h"
#include "core/status.h"
#include "gpu/runtime/device_traits.h"

namespace moe::gpu {

// Threads per block of the row-wise kernels, which take one warp per row.
constexpr int kRowThreads = 128;

// Blocks for `rows` rows at one warp each. The grid is limited; kernels loop over the rest.
unsigned row_grid(int64_t rows, const DeviceTraits& traits);

// Threads of a block that works through a row in runs of `columns_per_thread` columns: one for each run, as far as they
// go. With few rows nothing hides how long a thread waits for the memory of one run after the other.
constexpr int kWideRowThreads = 1024;
int wide_row_threads(int64_t columns, int columns_per_thread, const DeviceTraits& traits);

// Blocks for `rows` rows at one block each. The grid is limited; kernels loop over the rest.
unsigned wide_row_grid(int64_t rows, const DeviceTraits& traits);

// Blocks for a row of `parts` parts, at one warp each, in a grid that has blocks for each of `rows` rows. Few rows have
// several, as long as no multiprocessor gets more than `per_multiprocessor`.
unsigned blocks_of_row(int64_t rows, int64_t per_multiprocessor, int64_t parts, const DeviceTraits& traits);

// Blocks for `elements` elements at one thread each. The grid is limited; kernels loop over the rest.
unsigned element_grid(int64_t elements, const DeviceTraits& traits);

// The widest access (16, 8, 4 or 2 bytes) for which all addresses and lengths are aligned.
int access_width(std::initializer_list<uint64_t> addresses_and_lengths);

// Columns of a row that a warp multiplies at a time: a run of eight for each lane.
constexpr int kRouterColumns = 256;

// Router projection: the tokens and experts that one warp computes, and how a block's warps divide the block's tile.
struct RouterTile {
  int tokens, experts;
  int warps_tokens, warps_experts;
  // Of kRouterColumns columns of all rows in shared memory; 0: each warp reads its rows from global memory.
  int stages = 0;

  MOE_HOST_DEVICE constexpr int block_tokens() const { return tokens * warps_tokens; }
  MOE_HOST_DEVICE constexpr int block_experts() const { return experts * warps_experts; }
  MOE_HOST_DEVICE constexpr int threads() const { return 32 * warps_tokens * warps_experts; }
  // With elements of x_bytes and weight_bytes bytes.
  MOE_HOST_DEVICE constexpr int shared_bytes(int x_bytes, int weight_bytes) const {
    return stages * kRouterColumns * (block_tokens() * x_bytes + block_experts() * weight_bytes);
  }
};
// From few products, which need many multiprocessors to read the weights, to many, which need every value that is read
// to be used often.
inline constexpr RouterTile kRouterTiles[] = {
    {.tokens = 1, .experts = 1, .warps_tokens = 1, .warps_experts = 1},
    {.tokens = 4, .experts = 1, .warps_tokens = 1, .warps_experts = 4},
    {.tokens = 4, .experts = 4, .warps_tokens = 2, .warps_experts = 4},
    {.tokens = 8, .experts = 16, .warps_tokens = 4, .warps_experts = 2, .stages = 2},
};
// The one that also takes rows that vectors cannot read.
constexpr int kRouterTileOfAnyRows = 1;

struct RouterSizes {
  int64_t tokens, experts;
  int x_bytes, weight_bytes;  // of an element
  bool whole_vectors;         // rows are aligned, and vectors of them are full
};
struct RouterPlan {
  int tile;  // index into kRouterTiles
  unsigned grid;
  size_t shared_bytes;
};
RouterPlan plan_router(const RouterSizes& sizes, const DeviceTraits& traits);

// Router projection's gradients: the tokens by columns of dx, or experts by columns of dWeight, that a thread computes.
struct RouterGradientTile {
  static constexpr int kRows = 8;
  static constexpr int kColumns = 4;
};
// The tokens are split into `splits` parts, whose sums are added up in order. So that every GPU gives the same bits,
// their number depends on the sizes alone.
struct RouterGradientPlan {
  int64_t splits;
  int64_t tokens_per_split;
  size_t workspace_bytes;  // of the parts' sums; 0 if there is one part
};
RouterGradientPlan plan_router_gradient(int64_t tokens, int64_t experts, int64_t hidden);

constexpr int kGatingThreads = 128;
struct GatingPlan {
  int per_lane;  // logits that a lane keeps in registers; 0: it reads them again
  unsigned grid;
};
GatingPlan plan_gating(int64_t tokens, int64_t experts, const DeviceTraits& traits);

// What static shared memory takes beside dynamic, padded to the alignment of the dynamic part (ptx::dynamic_shared).
constexpr int64_t kStaticShared = 1024;

constexpr int kSortThreads = 1024;
constexpr int kSortScanThreads = 1024;
struct SortPlan {
  bool single_block;
  int threads;
  int scan_threads;
  unsigned grid;
  int units;  // of consecutive slots, each sorted by a warp
  int64_t slots_per_unit;
  size_t shared_bytes;  // counts of the block's units; 0: these stay in global memory
  size_t workspace_bytes;
};
SortPlan plan_sort(int64_t slots, int64_t experts, const DeviceTraits& traits);

// The block that sorts may also do the gating before and the tile maps after it, see routing/route_block.cuh. With
// gating, its threads need many registers.
constexpr int kRouteThreads = 256;
// Whether it does the gating too: up to two rounds of its warps take less time than a launch. More tokens are better
// spread over the GPU.
bool gates_in_block(int64_t tokens, const SortPlan& sort, const DeviceTraits& traits);
// Whether it fills the slots of layers with shared experts, up to two for each of its threads for the same reason.
bool fills_in_block(int64_t slots, const SortPlan& sort);
// Its threads. `ranges`: of rows of the tile maps.
int route_threads(const SortPlan& sort, int64_t ranges, const DeviceTraits& traits);
int route_threads_with_gating(const SortPlan& sort, int64_t ranges, int64_t tokens, const DeviceTraits& traits);

// Columns per thread of the combine kernel.
constexpr int kCombineColumns = 8;
// A thread for a few columns of a row. Both sides of the grid are limited; kernels loop over the rest.
struct ColumnPlan {
  int threads;
  unsigned grid_rows, grid_columns;
};
ColumnPlan plan_columns(int64_t rows, int64_t columns, int columns_per_thread, const DeviceTraits& traits);

// INVALID_ARGUMENT if there are 2^31 or more rows: they are counted in i32.
Status check_rows(const char* parameter, int64_t rows);
// INVALID_ARGUMENT if matrices of experts have 2^30 or more columns: kernels count them in i32, whole stages beyond the
// last included.
Status check_columns(int64_t columns);

std::string describe(const RouterPlan& plan);
std::string describe(const GatingPlan& plan);
std::string describe(const SortPlan& plan);
std::string describe(const ColumnPlan& plan);

}  // namespace moe::gpu
