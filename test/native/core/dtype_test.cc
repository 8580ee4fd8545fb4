#include "core/dtype.h"

#include <cmath>

#include "check.h"

namespace {

using moe::bf16;
using moe::f16;

// Whether `rounded` is the 16-bit value nearest to `value`, or the one with even bits if two are equally near. Compares
// with the neighbours in double precision.
template <class Half>
bool is_nearest(float value, Half rounded) {
  const double error = std::fabs(static_cast<double>(static_cast<float>(rounded)) - value);
  for (const int step : {-1, 1}) {
    Half neighbour;
    neighbour.bits = static_cast<uint16_t>(rounded.bits + step);
    const double other = std::fabs(static_cast<double>(static_cast<float>(neighbour)) - value);
    if (std::isnan(other)) continue;
    if (other < error || (other == error && rounded.bits % 2 != 0)) return false;
  }
  return true;
}

template <class Half>
void check_round_trip() {
  int wrong = 0;
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    Half half;
    half.bits = static_cast<uint16_t>(bits);
    const float value = static_cast<float>(half);
    const Half back(value);
    wrong += std::isnan(value) ? !std::isnan(static_cast<float>(back)) : back.bits != half.bits;
  }
  MOE_CHECK_EQUAL(wrong, 0);
}

template <class Half>
void check_rounding(float largest) {
  uint32_t state = 7;
  int wrong = 0;
  for (int i = 0; i < 200000; ++i) {
    state = state * 1664525u + 1013904223u;
    const float value = moe::float_from_bits(state);
    if (std::isfinite(value) && std::fabs(value) < largest) wrong += !is_nearest(value, Half(value));
  }
  MOE_CHECK_EQUAL(wrong, 0);
}

}  // namespace

MOE_TEST(bf16_keeps_every_value) { check_round_trip<bf16>(); }
MOE_TEST(f16_keeps_every_value) { check_round_trip<f16>(); }
MOE_TEST(bf16_rounds_to_nearest_even) { check_rounding<bf16>(3e38f); }
MOE_TEST(f16_rounds_to_nearest_even) { check_rounding<f16>(65504.0f); }

MOE_TEST(f16_overflows_to_infinity) {
  MOE_CHECK_EQUAL(f16(65519.0f).bits, 0x7bff);
  MOE_CHECK_EQUAL(f16(65520.0f).bits, 0x7c00);
  MOE_CHECK_EQUAL(f16(-1e30f).bits, 0xfc00);
}
