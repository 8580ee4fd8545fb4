// The rows of the tensor-core kernels for weights of quantised formats.
#include "gpu/gemm/mma_quantized.h"

#include <algorithm>
#include <cmath>

#include "core/formats/named.h"
#include "gpu/gemm/kernels.h"
#include "gpu/gemm/wgmma_quantized.h"
#include "gpu/plan/gemm_plan.h"
#include "gpu/plan/plan_parts.h"

namespace moe::gpu {
namespace {

constexpr DType kF16[] = {DType::f16};
constexpr DType kBF16[] = {DType::bf16};

// What DeepSeek-V3's weights are.
constexpr WeightFormat kE4M3{
    .name = "e4m3_b128_f32", .code = CodeType::e4m3, .bits = 8, .scales = {ScaleType::f32, 128, 128}};
constexpr WeightFormats kFormats{
    .words = "quantised to integers, e4m3, e2m1 or the tables of GGUF in groups of columns that are multiples of 16",
    .include = has_exact_codes,
    .example = &kMXFP4Format};
constexpr WeightFormats kIntegers{
    .words = "quantised to integers, e2m1 or the tables of GGUF in groups of columns that are multiples of 16",
    .include = has_integer_codes,
    .example = &kMXFP4Format};
constexpr WeightFormats kFp8{
    .words = "e4m3 in groups of columns that are multiples of 16, and of 128 if they are larger",
    .include = has_fp8_codes,
    .example = &kE4M3};

// GPUs whose mma of e4m3 is one instruction; the others since 9.0 convert to f16 each time they multiply.
constexpr ComputeCapabilities kHaveFp8Units[] = {{.first = 89, .last = 89}, {.first = 120}};

// The bytes of a table of multiples of `unit`; without a unit if there are others.
ByteTable bytes_of(const WeightFormat& format, float unit) {
  ByteTable table{.unit = unit};
  for (int code = 0; code < 16; ++code) {
    const float number = format.table[code] / unit;
    if (number != std::floor(number) || number < -128 || number > 127) return {};
    table.bytes[code] = static_cast<uint8_t>(static_cast<int>(number) + 128);
  }
  return table;
}

// A ring of stages, and what stands behind it: converted scales and offsets, and sums of x.
template <DType x>
size_t shared_bytes(const GemmTile& tile, const WeightFormat& format, int converted_stages, bool sums) {
  const QuantizedStage stage = quantized_stage(tile, format, x);
  const int values = 2 * tile.columns + (sums ? tile.rows : 0);
  const int converted = converted_stages * stage.scales.groups * values * static_cast<int>(sizeof(float));
  return with_staged_sums(tile, tile.stages * stage.bytes + converted);
}
template <DType x>
size_t mma_shared_bytes(const GemmTile& tile, const WeightFormat& format) {
  return shared_bytes<x>(tile, format, kMmaConvertedStages, false);
}
template <DType x>
size_t wgmma_shared_bytes(const GemmTile& tile, const WeightFormat& format) {
  return shared_bytes<x>(tile, format, kWgmmaConvertedStages, needs_sums_of_x(format, x == DType::u8));
}

// How rows multiply.
struct Instruction {
  std::span<const GemmTile> tiles;
  std::span<const ComputeCapabilities> runs_on = kAllCapabilities;
  bool wgmma = false;
};
constexpr Instruction kMma{kMmaQuantizedTiles}, kFp8Mma{kMmaQuantizedTiles, kHaveFp8Units};
constexpr Instruction kWgmma{kWgmmaQuantizedTiles, kHopper, true};

template <DType x>
constexpr GemmKernel row(const char* name, const Instruction& instruction, const WeightFormats& formats,
                         const char* numbers) {
  return {.name = name,
          .x = x,
          .formats = formats,
          .numbers = numbers,
          .runs_on = instruction.runs_on,
          .layout = &kQuantizedLayout,
          .tiles = instruction.tiles,
          .shared_bytes = instruction.wgmma ? wgmma_shared_bytes<x> : mma_shared_bytes<x>,
          .plan = plan_tiles};
}

// Tokens that are multiplied as they are.
template <const auto& kTokens>
constexpr GemmKernel tokens_row(const char* name, const Instruction& instruction) {
  GemmKernel tokens = row<kTokens[0]>(name, instruction, kFormats,
                                      "exact codes, float32 sums of each group, scaled and added in float32");
  tokens.tokens = kTokens;
  if (tokens.x == DType::bf16) tokens.takes_x_scales = may_have_x_scales;
  return tokens;
}

constexpr GemmKernel int8_row(const char* name, const Instruction& instruction) {
  GemmKernel codes = row<DType::u8>(name, instruction, kIntegers,
                                    "exact sums of codes times codes, scaled and added in float32, group by group");
  codes.codes = TokenFormat::int8;
  return codes;
}

constexpr GemmKernel fp8_row(const char* name, const Instruction& instruction) {
  GemmKernel codes = row<DType::u8>(name, instruction, kFp8,
                                    "sums of up to 128 products to about 13 bits, scaled and added in float32");
  codes.codes = TokenFormat::fp8;
  codes.takes_x_scales = may_have_x_scales;
  codes.rounds = Rounding::fp8_sums;
  return codes;
}

}  // namespace

ByteTable byte_table(const WeightFormat& format) {
  ByteTable table;
  for (float unit = 1.0f; table.unit == 0 && unit >= 0.125f; unit /= 2) table = bytes_of(format, unit);
  return table;
}

bool is_e2m1(const WeightFormat& format) {
  return format.code == CodeType::table && std::ranges::equal(format.table, kE2M1Table);
}

bool has_exact_codes(const WeightFormat& format) {
  if (!is_quantized(format)) return false;
  // A group's scale must be one number.
  const int group = format.scales.columns, super_group = format.super_scales.columns;
  if (super_group != 0 && (group == 0 || super_group % group != 0)) return false;
  if (format.offset == Offset::minimum && !may_have_minima(format.bits)) return false;
  if (format.offset == Offset::scale_offset) return false;
  // Such scales take a division.
  if (format.scales.type == ScaleType::dynamic8 || format.super_scales.type == ScaleType::dynamic8) return false;
  return format.code != CodeType::table || byte_table(format).unit != 0;
}

bool has_integer_codes(const WeightFormat& format) {
  // A group's sum must not overflow.
  return has_exact_codes(format) && format.code != CodeType::e4m3 && format.scales.columns <= kMostSummedColumns;
}

bool has_fp8_codes(const WeightFormat& format) {
  // Sums end where groups do.
  const int columns = format.scales.columns;
  return has_exact_codes(format) && format.code == CodeType::e4m3 &&
         (columns <= kMostFp8Columns || columns % kMostFp8Columns == 0);
}

bool needs_sums_of_x(const WeightFormat& format, bool bytes) {
  return format.offset == Offset::minimum || (bytes && format.code == CodeType::unsigned_integer);
}

bool may_have_x_scales(const WeightFormat& format) {
  return format.scales.columns != 0 && token_scheme(TokenFormat::fp8, format).columns == format.scales.columns;
}

QuantizedStage quantized_stage(const GemmTile& tile, const WeightFormat& format, DType x) {
  QuantizedStage stage;
  stage.codes = tile.rows * kCodeStage * static_cast<int>(info(x).bytes);
  stage.bytes = stage.codes + tile.columns * stage_bytes(format.bits);
  const auto take = [&](bool exists, const ScaleLevel& level, int bytes) {
    const StagedLevel staged{.place = stage.bytes, .groups = exists ? groups_in_stage(level) : 0, .bytes = bytes};
    stage.bytes += staged.groups * tile.columns * bytes;
    return staged;
  };
  const bool minimum = format.offset == Offset::minimum;
  const int bytes = scale_bytes(format.scales.type), super_bytes = scale_bytes(format.super_scales.type);
  stage.scales = take(true, format.scales, bytes);
  stage.super_scales = take(true, format.super_scales, super_bytes);
  stage.zeros = take(format.offset != Offset::none && !shares_byte(format), format.scales, minimum ? bytes : 1);
  stage.super_zeros = take(minimum, format.super_scales, super_bytes);
  stage.x_scales = stage.bytes;
  if (may_have_x_scales(format)) stage.bytes += tile.rows * static_cast<int>(sizeof(float));
  stage.bytes = static_cast<int>(round_up(stage.bytes, kStageAlignment));
  return stage;
}

constexpr GemmKernel kWgmmaQuantizedInt8 = int8_row("wgmma_quantized_int8", kWgmma);
constexpr GemmKernel kWgmmaQuantizedFp8 = fp8_row("wgmma_quantized_fp8", kWgmma);
constexpr GemmKernel kWgmmaQuantizedBF16 = tokens_row<kBF16>("wgmma_quantized_bf16", kWgmma);
constexpr GemmKernel kWgmmaQuantizedF16 = tokens_row<kF16>("wgmma_quantized_f16", kWgmma);
constexpr GemmKernel kMmaQuantizedInt8 = int8_row("mma_quantized_int8", kMma);
constexpr GemmKernel kMmaQuantizedFp8 = fp8_row("mma_quantized_fp8", kFp8Mma);
constexpr GemmKernel kMmaQuantizedBF16 = tokens_row<kBF16>("mma_quantized_bf16", kMma);
constexpr GemmKernel kMmaQuantizedF16 = tokens_row<kF16>("mma_quantized_f16", kMma);

}  // namespace moe::gpu
