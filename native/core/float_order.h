// Integers that order like float32 values, so that values can be sorted and compared together with their indices.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace moe {

// Larger values give smaller integers. Both zeros give the same one, NaN the largest.
MOE_HOST_DEVICE inline uint32_t descending_order(float value) {
  if (value != value) return UINT32_MAX;
  const uint32_t bits = float_bits(value == 0.0f ? 0.0f : value);
  return (bits >> 31) != 0 ? bits : ~(bits | 0x80000000u);
}

}  // namespace moe
