// Tokens in 8 bits: how a product with quantised weights rounds its rows of x. The one definition, for all devices;
// lib/reference/formats/token_codes.ts is the same.
#pragma once

#include "core/formats/small_numbers.h"
#include "core/formats/weight_format.h"

namespace moe {

// What a row of x is rounded to: nothing, integers from -127 to 127, or e4m3, also with scales that are powers of two.
MOE_ENUM(TokenFormat, none, int8, fp8, fp8_ue8m0)

constexpr bool is_fp8(TokenFormat format) { return format == TokenFormat::fp8 || format == TokenFormat::fp8_ue8m0; }

// The codes of a product's rows, and how many columns share a scale.
struct TokenScheme {
  TokenFormat format = TokenFormat::none;
  int columns = 0;  // 0: all of a row

  MOE_HOST_DEVICE constexpr bool coded() const { return format != TokenFormat::none; }
  // Whether one scale multiplies all codes of a row, and so the sums of their products.
  MOE_HOST_DEVICE constexpr bool scales_rows() const { return coded() && columns == 0; }
  // How many scales a row with this many columns has.
  constexpr int64_t scales_of(int64_t row_columns) const {
    return !coded() ? 0 : columns == 0 ? 1 : ceil_divide(row_columns, columns);
  }
  bool operator==(const TokenScheme&) const = default;
};

// Weights of plain formats multiply tokens as they are. Where weights of e4m3 have scales for 128 columns, so have
// tokens of e4m3, as the models that are trained this way expect. The choice depends on formats alone.
constexpr TokenScheme token_scheme(TokenFormat tokens, const WeightFormat& weights) {
  constexpr int kBlock = 128;
  if (weights.plain()) return {};
  const bool blocks = weights.code == CodeType::e4m3 && weights.scales.columns == kBlock;
  return {tokens, is_fp8(tokens) && blocks ? kBlock : 0};
}

// Bits that order like magnitudes, with infinity and NaN above all others.
MOE_HOST_DEVICE inline uint32_t magnitude_bits(float value) { return float_bits(value) & 0x7fffffffu; }

// The scale of values whose largest magnitude_bits() is `largest`: the one that gives that value the largest code, or
// the next power of two. NaN if a value is not finite, so that all of them become NaN.
MOE_HOST_DEVICE inline float token_scale(TokenFormat format, uint32_t largest) {
  if (largest >= 0x7f800000u) return float_from_bits(0x7fc00000u);
  const float scale = float_from_bits(largest) / (format == TokenFormat::int8 ? 127.0f : 448.0f);
  if (format != TokenFormat::fp8_ue8m0 || scale == 0.0f) return scale;
  // At least the least normal number.
  const uint32_t bits = to_e8m0(scale);
  return from_e8m0(bits == 0 ? 1 : bits);
}

// The nearest value of an e4m3, as from_e4m3(to_e4m3()) gives it, without branches.
MOE_HOST_DEVICE inline float rounded_to_e4m3(float value) {
  const float within = clamped(value, -448.0f, 448.0f);
  const uint32_t bits = float_bits(within);
  const float normal = float_from_bits((bits + 0x7ffffu + ((bits >> 20) & 1u)) & 0xfff00000u);
  // Multiples of 2^-9: the sum has no lower bits.
  const float subnormal = (within + 0x1.8p14f) - 0x1.8p14f;
  return magnitude_bits(within) < 0x3c800000u ? subnormal : normal;
}

// The value of the code that is nearest to value / scale, ties to even; 0 for a scale of 0 or NaN. A scale that is not
// a normal number may be too small for the largest value, whose code is then the largest.
MOE_HOST_DEVICE inline float token_code(TokenFormat format, float value, float scale) {
  if (!(scale > 0.0f)) return 0.0f;
  const float scaled = value / scale;
  return format == TokenFormat::int8 ? to_integer(clamped(scaled, -127.0f, 127.0f)) : rounded_to_e4m3(scaled);
}

}  // namespace moe
