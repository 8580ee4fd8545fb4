// The layout of test_u4_g16: rows of codes, then for each row and group of columns its scale, then its zero point.
#pragma once

#include "gpu/gemm/weight_layout.h"

namespace moe::gpu {

constexpr int kTestU4G16Group = 16;

MOE_HOST_DEVICE constexpr int64_t test_u4_g16_groups(int64_t columns) {
  return (columns + kTestU4G16Group - 1) / kTestU4G16Group;
}

extern const WeightLayout kTestU4G16Layout;

}  // namespace moe::gpu
