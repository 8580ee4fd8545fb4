#include "gpu/gemm/quantized_layout.h"

#include "gpu/plan/plan_parts.h"

namespace moe::gpu {
namespace {

int64_t level_bytes(const ScaleLevel& level, int value_bytes, int64_t rows, int64_t columns) {
  if (level.absent()) return 0;
  const int64_t groups = level.columns == 0 ? 1 : ceil_div(columns, level.columns);
  return groups * rows * value_bytes;
}

PackedMatrix measure(const ExpertProduct& product) {
  const WeightFormat& format = *product.format;
  PackedMatrix packed{.rows = packed_rows(product)};
  packed.padded_rows = round_up(packed.rows, kRowPadding);
  packed.pitch = packed.padded_rows * stage_bytes(format.bits);
  packed.bytes = ceil_div(product.columns, kCodeStage) * packed.pitch;
  const auto take = [&](const ScaleLevel& level, int value_bytes) {
    const int64_t first = packed.bytes;
    packed.bytes += level_bytes(level, value_bytes, packed.padded_rows, product.columns);
    return first;
  };
  const bool has_minima = format.offset == Offset::minimum;
  packed.scales = take(format.scales, scale_bytes(format.scales.type));
  packed.super_scales = take(format.super_scales, scale_bytes(format.super_scales.type));
  if (format.offset == Offset::zero_point) packed.zeros = take(format.scales, 1);
  if (has_minima && !shares_byte(format)) packed.zeros = take(format.scales, scale_bytes(format.scales.type));
  if (has_minima) packed.super_zeros = take(format.super_scales, scale_bytes(format.super_scales.type));
  return packed;
}

}  // namespace

const WeightLayout kQuantizedLayout{.id = "quads64", .measure = measure};

}  // namespace moe::gpu
