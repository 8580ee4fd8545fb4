#include "gpu/gemm/quantized_layout.h"

#include "gpu/plan/plan_parts.h"

namespace moe::gpu {
namespace {

int64_t level_bytes(const ScaleLevel& level, int64_t rows, int64_t columns) {
  return level.column_groups(columns) * rows * scale_bytes(level.type);
}

PackedMatrix measure(const ExpertProduct& product) {
  const WeightFormat& format = *product.format;
  PackedMatrix packed{.rows = packed_rows(product)};
  packed.padded_rows = round_up(packed.rows, kRowPadding);
  packed.pitch = packed.padded_rows * stage_bytes(format.bits);
  packed.bytes = ceil_divide(product.columns, kCodeStage) * packed.pitch;
  const auto take = [&](const ScaleLevel& level) {
    if (level.absent()) return int64_t{0};
    const int64_t first = packed.bytes;
    packed.bytes += level_bytes(level, packed.padded_rows, product.columns);
    return first;
  };
  packed.scales = take(format.scales);
  packed.super_scales = take(format.super_scales);
  if (!shares_byte(format)) packed.zeros = take(format.zeros());
  packed.super_zeros = take(format.super_zeros());
  return packed;
}

}  // namespace

const WeightLayout kQuantizedLayout{.id = "quads64", .measure = measure};

}  // namespace moe::gpu
