// Integers that order as float32 values do, so that values can be sorted and compared with their places.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace moe {

// Integers that descend as the values do: the largest value has the least, the two zeros the same, NaN the greatest.
MOE_HOST_DEVICE inline uint32_t descending_order(float value) {
  if (value != value) return UINT32_MAX;
  const uint32_t bits = float_bits(value == 0.0f ? 0.0f : value);
  return (bits >> 31) != 0 ? bits : ~(bits | 0x80000000u);
}

}  // namespace moe
