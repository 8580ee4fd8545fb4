// Division and rounding of sizes, both upwards.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace moe {

MOE_HOST_DEVICE constexpr int64_t ceil_divide(int64_t value, int64_t divisor) {
  return (value + divisor - 1) / divisor;
}
MOE_HOST_DEVICE constexpr int64_t round_up(int64_t value, int64_t multiple) {
  return ceil_divide(value, multiple) * multiple;
}

}  // namespace moe
