// How codes fill bytes; code_bits() in dequantize.h reads them.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace moe {

// Writes codes of `bits` bits, at most 32, code(0) .. code(count - 1), from a byte's first bit on. Bits of the last
// byte that no code has are zeros.
template <class Count, class Code>
MOE_HOST_DEVICE void write_codes(int bits, Count count, uint8_t* target, Code&& code) {
  uint64_t pending = 0;
  int held = 0;
  for (Count i = 0; i < count; ++i) {
    pending |= uint64_t{code(i)} << held;
    for (held += bits; held >= 8; held -= 8, pending >>= 8) *target++ = static_cast<uint8_t>(pending);
  }
  if (held > 0) *target = static_cast<uint8_t>(pending);
}

}  // namespace moe
