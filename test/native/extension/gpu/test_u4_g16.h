// The layout of test_u4_g16: rows of codes; then each row's scales, one per group of columns; then the zero points in
// the same way.
#pragma once

#include "gpu/gemm/weight_layout.h"

namespace moe::gpu {

constexpr int kTestU4G16Group = 16;

MOE_HOST_DEVICE constexpr int64_t test_u4_g16_groups(int64_t columns) {
  return (columns + kTestU4G16Group - 1) / kTestU4G16Group;
}

extern const WeightLayout kTestU4G16Layout;

}  // namespace moe::gpu
