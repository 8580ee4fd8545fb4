// Divisions of sizes that round up.
#pragma once

#include <cstdint>

namespace moe {

constexpr int64_t ceil_divide(int64_t value, int64_t divisor) { return (value + divisor - 1) / divisor; }
constexpr int64_t round_up(int64_t value, int64_t multiple) { return ceil_divide(value, multiple) * multiple; }

}  // namespace moe
