// How packed expert weights order their rows. Where the activation is gated, groups of eight gate rows and the eight up
// rows that belong to them alternate, so that one thread's accumulators hold both and the activation needs no exchange.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace moe::gpu {

constexpr int kInterleave = 8;

// The output column of packed row `row`, and whether it is the up half's.
struct PackedRow {
  int64_t column;
  bool up;
};

MOE_HOST_DEVICE constexpr PackedRow unpack_row(int64_t row, bool gated) {
  if (!gated) return {row, false};
  const int64_t group = row / kInterleave;
  return {group / 2 * kInterleave + row % kInterleave, group % 2 != 0};
}

}  // namespace moe::gpu
