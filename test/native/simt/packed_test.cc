// Instructions on registers of bytes and 16-bit numbers.
#include "ptx/packed.cuh"

#include <cmath>

#include "check.h"
#include "core/dtype.h"
#include "random.h"

namespace moe::simt::test {

namespace {

MOE_TEST(prmt_picks_bytes_of_two_registers) {
  MOE_CHECK_EQUAL(ptx::prmt(0x33221100, 0x77665544, 0x3210), 0x33221100u);
  MOE_CHECK_EQUAL(ptx::prmt(0x33221100, 0x77665544, 0x7654), 0x77665544u);
  MOE_CHECK_EQUAL(ptx::prmt(0x33221100, 0x77665544, 0xffff0627), 0x00662277u);
}

MOE_TEST(lop3_is_any_function_of_three_bits) {
  constexpr uint32_t a = 0xf0f0aa55, b = 0xcccc0ff0, c = 0xaaaa3c3c;
  MOE_CHECK_EQUAL(ptx::lop3<0xf0>(a, b, c), a);
  MOE_CHECK_EQUAL(ptx::lop3<0xcc>(a, b, c), b);
  MOE_CHECK_EQUAL(ptx::lop3<0xaa>(a, b, c), c);
  MOE_CHECK_EQUAL(ptx::lop3<0xea>(a, b, c), (a & b) | c);
  MOE_CHECK_EQUAL(ptx::lop3<0xca>(a, b, c), (a & b) | (~a & c));
  MOE_CHECK_EQUAL(ptx::lop3<0x96>(a, b, c), a ^ b ^ c);
}

// Of finite 16-bit numbers: the product is exact in float64, and long double holds the sum of what is drawn here.
template <class T>
void check_fma(uint32_t (*fma)(uint32_t, uint32_t, uint32_t), uint32_t seed) {
  moe::test::Random random(seed);
  for (int i = 0; i < 20000; ++i) {
    T x, y, z;
    for (T* each : {&x, &y, &z}) each->bits = static_cast<uint16_t>(random.below(0x10000));
    const auto value = [](T t) { return static_cast<float>(t); };
    // Exponents that lie close to each other, so that rounding matters.
    if (!(std::abs(value(x)) < 0x1p12f && std::abs(value(x)) > 0x1p-12f)) continue;
    if (!(std::abs(value(y)) < 0x1p3f && std::abs(value(y)) > 0x1p-12f)) continue;
    if (!(std::abs(value(z)) < 0x1p14f && std::abs(value(z)) > 0x1p-14f)) continue;
    const long double exact = static_cast<long double>(value(x)) * value(y) + value(z);
    const uint32_t low = fma(x.bits, y.bits, z.bits), high = fma(x.bits << 16, y.bits << 16, z.bits << 16);
    MOE_CHECK_EQUAL(high, low << 16);
    T result, above, below;
    result.bits = static_cast<uint16_t>(low);
    above.bits = static_cast<uint16_t>(result.bits + 1);
    below.bits = static_cast<uint16_t>(result.bits - 1);
    const auto distance = [&](T t) { return std::abs(exact - static_cast<long double>(value(t))); };
    if ((result.bits & 0x7fffu) == 0) {
      MOE_CHECK(exact == 0.0L);
      continue;
    }
    // The nearest, and of two the even one.
    const bool even = result.bits % 2 == 0;
    for (const T& other : {above, below}) {
      if (std::isfinite(value(other))) {
        MOE_CHECK(even ? distance(result) <= distance(other) : distance(result) < distance(other));
      }
    }
  }
}

MOE_TEST(fma_of_halves_rounds_once_to_nearest_even) {
  check_fma<bf16>(ptx::fma_rn_bf16x2, 1);
  check_fma<f16>(ptx::fma_rn_f16x2, 2);
  // Halfway between two numbers but for an addend that float64 cannot hold beside the product.
  MOE_CHECK_EQUAL(ptx::fma_rn_bf16x2(bf16(1 + 0x1p-7f).bits, bf16(1.5f).bits, bf16(0x1p-120f).bits),
                  uint32_t{bf16(1.515625f).bits});
  MOE_CHECK_EQUAL(ptx::fma_rn_bf16x2(bf16(1 + 0x1p-7f).bits, bf16(1.5f).bits, bf16(-0x1p-120f).bits),
                  uint32_t{bf16(1.5078125f).bits});
}

MOE_TEST(fma_of_halves_keeps_subnormal_numbers) {
  // 2^-133, the smallest of bfloat16.
  MOE_CHECK_EQUAL(ptx::fma_rn_bf16x2(1, bf16(0x1p120f).bits, 0), uint32_t{bf16(0x1p-13f).bits});
  MOE_CHECK_EQUAL(ptx::fma_rn_f16x2(1, f16(256.0f).bits, 0), uint32_t{f16(0x1p-16f).bits});
}

}  // namespace

}  // namespace moe::simt::test
