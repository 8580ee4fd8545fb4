// Arithmetic that must have the GPU's bits.
#include "simt/intrinsics/math.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <limits>

#include "check.h"
#include "simt/random.h"

namespace moe::simt::test {

namespace {

bool same(float x, float y, float z) {
  const float expected = std::fma(x, y, z), result = moe::simt::fmaf(x, y, z);
  return std::isnan(expected) ? std::isnan(result)
                              : std::bit_cast<uint32_t>(expected) == std::bit_cast<uint32_t>(result);
}

MOE_TEST(fmaf_rounds_once) {
  // 1 + 2^-12 + 2^-24 is halfway between two floats. The addend decides, although float64 cannot hold the sum.
  const float x = 1.0f + 0x1p-12f;
  for (const float y : {1.0f + 0x1p-12f, 1.0f + 3 * 0x1p-12f}) {
    for (const float z : {0.0f, 0x1p-80f, -0x1p-80f}) MOE_CHECK(same(x, y, z));
  }
  const float edges[] = {0.0f,
                         -0.0f,
                         1.0f,
                         -1.0f,
                         0x1p-149f,
                         0x1.fffffep-127f,
                         -0x1p-126f,
                         0x1p-75f,
                         0x1.8p-74f,
                         0x1.fffffep127f,
                         std::numeric_limits<float>::infinity(),
                         std::nanf("")};
  for (const float a : edges) {
    for (const float b : edges) {
      for (const float c : edges) MOE_CHECK(same(a, b, c));
    }
  }
}

MOE_TEST(fmaf_has_the_librarys_bits) {
  machine::Random random(1);
  const auto next = [&](uint32_t exponents) {
    const uint64_t bits = random.next();
    const auto exponent = static_cast<uint32_t>(bits >> 32) % exponents + (127 - exponents / 2);
    return std::bit_cast<float>((static_cast<uint32_t>(bits) & 0x807fffffu) | exponent << 23);
  };
  for (const uint32_t exponents : {4u, 30u, 250u}) {
    for (int i = 0; i < 200000; ++i) {
      const float x = next(exponents), y = next(exponents);
      MOE_CHECK(same(x, y, next(exponents)));
      // Sums that cancel, and sums far below the product.
      MOE_CHECK(same(x, y, -x * y));
      MOE_CHECK(same(x, y, x * y * 0x1p-40f));
    }
  }
}

}  // namespace

}  // namespace moe::simt::test
