// Plans: how an operator is run on a GPU, from its sizes and the device's traits alone. Pure functions without CUDA, so
// that every choice can be tested and printed without a GPU. No choice may change a result: the order of every sum
// depends on hidden size, intermediate size and k only, whatever the tile.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>

#include "core/layer/description.h"
#include "core/status.h"
#include "gpu/runtime/device_traits.h"

namespace moe::gpu {

// Threads of the blocks of the row-wise kernels, one warp a row.
constexpr int kRowThreads = 128;

// Blocks for `rows` rows at one warp each; kernels loop where there are more.
unsigned row_grid(int64_t rows, const DeviceTraits& traits);

// Blocks for `elements` elements at one thread each; kernels loop where there are more.
unsigned element_grid(int64_t elements, const DeviceTraits& traits);

// The widest access (16, 8, 4 or 2 bytes) to which all addresses and lengths are aligned.
int access_width(std::initializer_list<uint64_t> addresses_and_lengths);

// Router projection: tokens and experts that one warp computes, and how a block's warps divide its own tile.
struct RouterTile {
  static constexpr int kThreads = 128;
  int tokens, experts;
  int warps_tokens, warps_experts;

  MOE_HOST_DEVICE constexpr int block_tokens() const { return tokens * warps_tokens; }
  MOE_HOST_DEVICE constexpr int block_experts() const { return experts * warps_experts; }
};
// For few tokens many warps, each short; for many tokens more products for every value loaded.
inline constexpr RouterTile kRouterTiles[] = {{1, 4, 1, 4}, {4, 8, 2, 2}};

struct RouterPlan {
  int tile;  // of kRouterTiles
  unsigned grid;
};
RouterPlan plan_router(int64_t tokens, int64_t experts, const DeviceTraits& traits);

constexpr int kGatingThreads = 128;
struct GatingPlan {
  int per_lane;  // logits that a lane keeps in registers; 0: reads them again
  unsigned grid;
};
GatingPlan plan_gating(int64_t tokens, int64_t experts, const DeviceTraits& traits);

// What static shared memory takes beside dynamic, to whose alignment it is padded (ptx::dynamic_shared).
constexpr int64_t kStaticShared = 1024;

constexpr int kSortThreads = 1024;
constexpr int kSortScanThreads = 1024;
struct SortPlan {
  bool single_block;
  int threads;
  int scan_threads;
  unsigned grid;
  int units;  // warps that sort consecutive slots each
  int64_t slots_per_unit;
  size_t shared_bytes;  // counts of the block's warps; 0: they stay in global memory
  size_t workspace_bytes;
};
SortPlan plan_sort(int64_t slots, int64_t experts, const DeviceTraits& traits);

// Columns that a thread of the combine kernel adds up.
constexpr int kCombineColumns = 8;
struct CombinePlan {
  int threads;
  unsigned grid_tokens, grid_columns;
};
CombinePlan plan_combine(int64_t tokens, int64_t hidden, const DeviceTraits& traits);

// Expert weights as they are stored: [experts, rows, pitch], rows in the order of tile/interleave.h, zeros behind the
// columns.
struct PackedLayout {
  int64_t rows;
  int64_t pitch;

  int64_t expert_elements() const { return rows * pitch; }
};
PackedLayout packed_layout(const ExpertProduct& weights);

// What multiplies: float32 FMA, or the tensor cores on elements of one type.
enum class GemmPath : uint8_t { fma, tf32, f16, bf16 };

// Rows and columns of the product that a block computes at once, how its warps divide them, the stages of its ring in
// shared memory, and the blocks whose registers a multiprocessor must have room for.
struct GemmTile {
  int rows, columns;
  int warps_rows, warps_columns;
  int stages;
  int blocks;

  MOE_HOST_DEVICE constexpr int threads() const { return 32 * warps_rows * warps_columns; }
};
// Lowest first. 16 rows are for decoding, where every expert has few. Two blocks of 128x128 hide each other's epilogue,
// which leaves shared memory for three stages.
inline constexpr GemmTile kMmaTiles[] = {{16, 128, 1, 4, 4, 4}, {64, 128, 2, 2, 3, 4}, {128, 128, 2, 4, 3, 2}};
// Four blocks of 128x64 would spill.
inline constexpr GemmTile kFmaTiles[] = {{16, 64, 1, 4, 2, 4}, {64, 64, 1, 4, 2, 4}, {128, 64, 1, 4, 2, 3}};
// Blocks of a tile that a multiprocessor has registers for. Rounding to tf32 takes more.
MOE_HOST_DEVICE constexpr int resident_blocks(const GemmTile& tile, bool tf32) { return tile.blocks - (tf32 ? 1 : 0); }
// Elements of K that a stage of the FMA kernel holds.
constexpr int kFmaDepth = 16;

// Floats from row to row of a tile's accumulators on their way through shared memory: eight more than the columns, so
// that the rows of an mma fragment fall into different banks.
MOE_HOST_DEVICE constexpr int staged_pitch(int columns) { return columns + 8; }

// The ring of stages, or where that is more, the accumulators, which take its place.
size_t gemm_shared_bytes(GemmPath path, const GemmTile& tile);

// Whether every row of `x` begins at a multiple of 16 bytes.
bool rows_aligned(const TensorView& x);

// Rows are counted in i32: INVALID_ARGUMENT where there are 2^31 or more.
Status check_rows(const char* parameter, int64_t rows);

struct GemmProblem {
  DType x;
  DType weight;
  int64_t rows;         // R
  int64_t experts;      // E
  int64_t packed_rows;  // N as packed
  int64_t columns;      // K
  // Whether rows of x begin at multiples of 16 bytes.
  bool x_aligned;
  bool tf32;
};

struct GemmPlan {
  GemmPath path;
  int tile_index;  // of the path's table
  GemmTile tile;
  // Whether x must first be copied to rows of `x_pitch` elements of `x_dtype`.
  bool converts_x;
  DType x_dtype;
  int64_t x_pitch;
  int64_t column_tiles;
  int64_t max_row_tiles;
  size_t tile_map_bytes;
  size_t shared_bytes;
  unsigned grid;
};
GemmPlan plan_gemm(const GemmProblem& problem, const DeviceTraits& traits);

// Bytes of x [rows, x_pitch] where it is converted, else 0.
size_t converted_bytes(const GemmPlan& plan, int64_t x_rows);

// One forward of a layer: the plans of its stages and where each part lies in one workspace.
struct LayerPlan {
  SortPlan sort;
  // The factor's, where there is one, has tiles of the height of gate and up's.
  GemmPlan gate_up, factor, down;
  DType inner_dtype;    // of h
  int64_t inner_pitch;  // of h
  DType rows_dtype;     // of the rows that are combined
  int64_t row_count;    // R, at most
  size_t logits, ids, weights, shared_gate, slot_ids, slot_weights;
  size_t offsets, tokens_per_expert, token_of_row, weight_of_row, row_of_slot, sort_counts;
  size_t converted_x, gate_up_map, down_map, inner, rows;
  size_t workspace_bytes;
};
struct LayerProblem {
  int64_t tokens;       // T
  int64_t choices;      // k
  int64_t max_choices;  // of T * k, those that are not -1
  DType x;
  // Whether rows of x begin at multiples of 16 bytes.
  bool x_aligned;
  bool tf32;
};
LayerPlan plan_layer(const LayerDescription& layer, const LayerProblem& problem, const DeviceTraits& traits);

const char* path_name(GemmPath path);
std::string describe(const RouterPlan& plan);
std::string describe(const GatingPlan& plan);
std::string describe(const SortPlan& plan);
std::string describe(const CombinePlan& plan);
std::string describe(const GemmPlan& plan);
std::string describe(const LayerPlan& plan);

}  // namespace moe::gpu
