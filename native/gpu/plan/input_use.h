// What a product does to its rows of x before it multiplies them.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "core/formats/token_format.h"

namespace moe::gpu {

// `coded`: rounded to 8-bit codes with one scale for a row, or, `coded_in_groups`, for groups of columns.
enum class InputUse : uint8_t { as_they_are, reordered, scaled, coded, coded_in_groups };

constexpr InputUse input_use(const TokenScheme& tokens, bool scaled, bool reordered) {
  if (tokens.coded()) return tokens.scales_rows() ? InputUse::coded : InputUse::coded_in_groups;
  return scaled ? InputUse::scaled : reordered ? InputUse::reordered : InputUse::as_they_are;
}

// Codes are exact in bfloat16, and one scale multiplies the row's sums. Rows with more scales are not rounded: whatever
// the tokens are, they are multiplied as float32.
constexpr DType as_read(InputUse use, DType tokens) {
  switch (use) {
    case InputUse::as_they_are:
    case InputUse::reordered: return tokens;
    case InputUse::coded: return DType::bf16;
    default: return DType::f32;
  }
}

}  // namespace moe::gpu
