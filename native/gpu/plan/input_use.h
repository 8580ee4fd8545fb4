// What a product does to its rows of x before it multiplies them.
#pragma once

#include <cstdint>

#include "gpu/gemm/kernel.h"

namespace moe::gpu {

// `coded`: rounded to 8-bit codes.
enum class InputUse : uint8_t { as_they_are, reordered, scaled, coded };

constexpr InputUse input_use(const TokenScheme& tokens, bool scaled, bool reordered) {
  if (tokens.coded()) return InputUse::coded;
  return scaled ? InputUse::scaled : reordered ? InputUse::reordered : InputUse::as_they_are;
}

// Codes are exact in bfloat16. Other rows that are scaled are not rounded: whatever the tokens are, they are multiplied
// as float32.
constexpr RowKind as_read(InputUse use, const TokenScheme& scheme, DType tokens) {
  switch (use) {
    case InputUse::coded: return {DType::bf16, scheme};
    case InputUse::scaled: return DType::f32;
    default: return tokens;
  }
}

}  // namespace moe::gpu
