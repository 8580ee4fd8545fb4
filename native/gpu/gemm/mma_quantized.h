// What the tensor-core kernels of quantised formats need to know of a format: which ones they take, tiles, and how a
// stage stands in shared memory.
#pragma once

#include "gpu/gemm/kernel.h"
#include "gpu/gemm/quantized_layout.h"

namespace moe::gpu {

// The accumulators are twice those of other kernels: of all groups, and of the current one. Warps stand side by side
// where registers allow it, so that each code is converted once.
inline constexpr GemmTile kMmaQuantizedTiles[] = {
    {.rows = 16, .columns = 128, .warps_rows = 1, .warps_columns = 4, .stages = 5, .blocks = 4},
    {.rows = 64, .columns = 128, .warps_rows = 1, .warps_columns = 4, .stages = 4, .blocks = 2},
    {.rows = 128, .columns = 128, .warps_rows = 2, .warps_columns = 4, .stages = 4, .blocks = 1},
};

// Stages whose groups' values stand converted: the one that is multiplied, and the next.
inline constexpr int kMmaConvertedStages = 2;

// Values of four-bit codes as bytes: value = (byte - 128) * unit.
struct ByteTable {
  uint8_t bytes[16] = {};
  float unit = 0;  // 0: the values are no such bytes
};
ByteTable byte_table(const WeightFormat& format);
// Whether the table is that of e2m1, whose bits are those of a float: 16-bit numbers need no table.
bool is_e2m1(const WeightFormat& format);

// Codes of these bits may have minima. Other instances of the kernel have no registers for the sums that minima take.
MOE_HOST_DEVICE constexpr bool may_have_minima(int bits) { return bits == 2 || bits == 4 || bits == 5; }

// Whether the kernel takes a format: its codes, less their zero points, are exact in 16-bit numbers.
bool has_exact_codes(const WeightFormat& format);
// Whether it multiplies them as bytes: integers, or e4m3.
bool has_integer_codes(const WeightFormat& format);
bool has_fp8_codes(const WeightFormat& format);

// Whether products with such codes take sums of x: for minima, or for what unsigned codes lack if they are bytes.
bool needs_sums_of_x(const WeightFormat& format, bool bytes);

// Groups of one level that a stage of columns can touch.
constexpr int groups_in_stage(const ScaleLevel& level) {
  if (level.absent()) return 0;
  if (level.columns == 0 || level.columns % kCodeStage == 0) return 1;
  if (kCodeStage % level.columns == 0) return kCodeStage / level.columns;
  return (level.columns - kGroupStep + kCodeStage - 1) / level.columns + 1;
}

// One level's values in a stage: [groups][columns of the tile], as they are stored.
struct StagedLevel {
  int place;  // in bytes from the stage's beginning
  int groups;
  int bytes;  // of a value
};

// Columns whose products of bytes, with corrections for zero points, are sums of 32 bits, and of 22.
inline constexpr int kMostSummedColumns = 1 << 15;
inline constexpr int kMostCountedColumns = 128;
// Columns whose products of e4m3 are one sum of a tensor core, which has few digits.
inline constexpr int kMostFp8Columns = 128;

// Columns whose products are summed before they are scaled: those of a group, or fewer if codes of rows demand it.
constexpr int summed_columns(TokenFormat codes, const ScaleLevel& scales) {
  const int most = codes == TokenFormat::int8  ? kMostSummedColumns
                   : codes == TokenFormat::fp8 ? kMostFp8Columns
                                               : 1 << 30;
  return scales.columns == 0 || scales.columns > most ? most : scales.columns;
}

// Whether codes of rows may have scales for the groups of columns that the weights' scales have.
bool may_have_x_scales(const WeightFormat& format);

// wgmma reads rows of x that begin at multiples of this.
inline constexpr int kStageAlignment = 1024;

// A stage in shared memory: rows of x, codes, levels, the scales of x. Codes stand as in the packed matrix, with the
// tile's columns instead of its rows. Behind all stages: the scales and offsets of a few stages, converted,
// [groups][columns] each.
struct QuantizedStage {
  int codes;
  StagedLevel scales, super_scales, zeros, super_zeros;
  int x_scales;  // float32 [rows]
  int bytes;
};
QuantizedStage quantized_stage(const GemmTile& tile, const WeightFormat& format, DType x);

}  // namespace moe::gpu
