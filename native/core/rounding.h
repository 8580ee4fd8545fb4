// What the products of GPUs round only where a caller allows it, because the fastest units of their tensor cores do.
#pragma once

#include <cstdint>

namespace moe {

// float32 operands to tf32, 10 bits of mantissa; sums of up to 128 products of fp8 codes to about 13.
enum class Rounding : uint8_t { none, tf32, fp8_sums };

struct AllowedRoundings {
  bool tf32 = false;
  bool fp8_sums = false;

  constexpr bool include(Rounding rounding) const {
    switch (rounding) {
      case Rounding::tf32: return tf32;
      case Rounding::fp8_sums: return fp8_sums;
      default: return true;
    }
  }
};

}  // namespace moe
