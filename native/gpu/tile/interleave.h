// The row order of packed expert weights. If the activation is gated, groups of eight gate rows alternate with the
// eight up rows that belong to them, so that one thread's accumulators hold both and the activation needs no exchange.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace moe::gpu {

constexpr int kInterleave = 8;

// The output column of packed row `row`, and whether it belongs to the up half.
struct PackedRow {
  int64_t column;
  bool up;
};

MOE_HOST_DEVICE constexpr PackedRow unpack_row(int64_t row, bool gated) {
  if (!gated) return {row, false};
  const int64_t group = row / kInterleave;
  return {group / 2 * kInterleave + row % kInterleave, group % 2 != 0};
}

// The packed row that holds row `column` of the weight or of that half of it.
MOE_HOST_DEVICE constexpr int64_t packed_row(int64_t column, bool gated, bool up) {
  if (!gated) return column;
  return (column / kInterleave * 2 + (up ? 1 : 0)) * kInterleave + column % kInterleave;
}

}  // namespace moe::gpu
