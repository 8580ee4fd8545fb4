// cvt and cvta.
#include <limits>

#include "support.h"

namespace ptx_machine::test {
namespace {

// The value of a float of few bits, from its fields. `has_infinity`: the highest exponent is not for numbers.
double value_of(unsigned code, int exponent_bits, int mantissa_bits, bool has_infinity) {
  const int bias = (1 << (exponent_bits - 1)) - 1, top = (1 << exponent_bits) - 1;
  const int exponent = static_cast<int>(code >> mantissa_bits) & top;
  const int mantissa = static_cast<int>(code) & ((1 << mantissa_bits) - 1);
  const double sign = code >> (exponent_bits + mantissa_bits) & 1 ? -1 : 1;
  if (has_infinity && exponent == top) {
    return mantissa != 0 ? std::numeric_limits<double>::quiet_NaN() : sign * std::numeric_limits<double>::infinity();
  }
  if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias - mantissa_bits);
  return sign * std::ldexp(mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits);
}

// The code of the nearest value, of codes from 0 to `most`, ties to even. What is beyond them becomes `beyond`.
unsigned nearest(double value, int exponent_bits, int mantissa_bits, unsigned most, unsigned beyond) {
  const unsigned sign = std::signbit(value) ? 1u << (exponent_bits + mantissa_bits) : 0;
  const double magnitude = std::fabs(value);
  const auto at = [&](unsigned code) { return value_of(code, exponent_bits, mantissa_bits, false); };
  unsigned below = 0, above = most + 1;
  while (above - below > 1) {
    const unsigned middle = (below + above) / 2;
    (at(middle) <= magnitude ? below : above) = middle;
  }
  const double middle = (at(below) + at(above)) / 2;
  const unsigned code = magnitude < middle || (magnitude == middle && below % 2 == 0) ? below : above;
  return sign | (code > most ? beyond : code);
}

// Floats around all values of a float of few bits, and those that are edges of float.
std::vector<float> around(int exponent_bits, int mantissa_bits) {
  std::vector<float> values = float_edges();
  const auto add = [&](double value) {
    for (const float sign : {-1.0f, 1.0f}) {
      const float near = sign * static_cast<float>(value);
      values.push_back(near);
      values.push_back(std::nextafter(near, 1e38f));
      values.push_back(std::nextafter(near, -1e38f));
    }
  };
  const unsigned codes = 1u << (exponent_bits + mantissa_bits), step = std::max(1u, codes / 2048);
  for (unsigned code = 0; code < codes; code += step) {
    const double here = value_of(code, exponent_bits, mantissa_bits, false);
    add(here);
    add((here + value_of(code + 1, exponent_bits, mantissa_bits, false)) / 2);
  }
  return values;
}

uint16_t right_f16(float value) {
  if (std::isnan(value)) return 0x7fff;
  return static_cast<uint16_t>(nearest(static_cast<double>(value), 5, 10, 0x7bff, 0x7c00));
}
uint16_t right_bf16(float value) {
  if (std::isnan(value)) return 0x7fff;
  return static_cast<uint16_t>(nearest(static_cast<double>(value), 8, 7, 0x7f7f, 0x7f80));
}
uint32_t right_e4m3(float value) {
  if (std::isnan(value)) return 0x7f;
  return nearest(static_cast<double>(value), 4, 3, 0x7e, 0x7e);
}

std::vector<uint16_t> all_codes() {
  std::vector<uint16_t> codes(65536);
  for (size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<uint16_t>(i);
  return codes;
}

}  // namespace

MOE_TEST(floats_become_16_bits_by_rounding_to_the_nearest) {
  check_lanes<uint16_t>("cvt.rn.f16.f32 %d, %a;", right_f16, around(5, 10));
  check_lanes<uint16_t>("cvt.rn.bf16.f32 %d, %a;", right_bf16, around(8, 7));
  const std::vector<float> a = around(5, 10), b(a.rbegin(), a.rend());
  check_lanes<uint32_t>(
      "cvt.rn.f16x2.f32 %d, %a, %b;",
      [](float high, float low) { return static_cast<uint32_t>(right_f16(high)) << 16 | right_f16(low); }, a, b);
  check_lanes<uint32_t>(
      "cvt.rn.bf16x2.f32 %d, %a, %b;",
      [](float high, float low) { return static_cast<uint32_t>(right_bf16(high)) << 16 | right_bf16(low); }, a, b);
}

MOE_TEST(every_float_of_16_bits_has_its_value) {
  check_lanes<float>(
      "cvt.f32.f16 %d, %a;", [](uint16_t x) { return static_cast<float>(value_of(x, 5, 10, true)); }, all_codes());
  check_lanes<float>(
      "cvt.f32.bf16 %d, %a;", [](uint16_t x) { return static_cast<float>(value_of(x, 8, 7, true)); }, all_codes());
}

MOE_TEST(e4m3_saturates_and_has_one_nan) {
  const std::vector<float> a = around(4, 3), b(a.rbegin(), a.rend());
  check_lanes<uint16_t>(
      "cvt.rn.satfinite.e4m3x2.f32 %d, %a, %b;",
      [](float high, float low) { return static_cast<uint16_t>(right_e4m3(high) << 8 | right_e4m3(low)); }, a, b);
  check_lanes<uint32_t>(
      "cvt.rn.f16x2.e4m3x2 %d, %a;",
      [](uint16_t codes) {
        const auto half = [](unsigned code) -> uint32_t {
          if ((code & 0x7f) == 0x7f) return 0x7fff;
          return right_f16(static_cast<float>(value_of(code, 4, 3, false)));
        };
        return half(codes >> 8) << 16 | half(codes & 255u);
      },
      all_codes());
}

MOE_TEST(tf32_rounds_ties_away_from_zero) {
  std::vector<float> a = float_edges();
  for (const uint32_t bits : Bits(2).many<uint32_t>(2000)) {
    a.push_back(std::bit_cast<float>(bits));
    a.push_back(std::bit_cast<float>((bits & ~0x1fffu) | 0x1000u));
  }
  check_lanes<uint32_t>(
      "cvt.rna.tf32.f32 %d, %a;",
      [](float x) -> uint32_t {
        if (std::isnan(x)) return 0x7fffffffu;
        if (std::isinf(x)) return std::bit_cast<uint32_t>(x);
        int exponent = 0;
        std::frexp(x, &exponent);
        const double unit = std::ldexp(1.0, std::max(exponent - 11, -126 - 10));
        return std::bit_cast<uint32_t>(static_cast<float>(std::round(static_cast<double>(x) / unit) * unit));
      },
      a);
}

namespace {

template <class T>
std::string type_name() {
  if constexpr (std::is_floating_point_v<T>) return sizeof(T) == 4 ? "f32" : "f64";
  return (std::is_signed_v<T> ? "s" : "u") + std::to_string(8 * sizeof(T));
}

// Registers have at least 16 bits; of wider ones, an integer fills the rest with its sign.
template <class T>
using Register = std::conditional_t<sizeof(T) == 1, std::conditional_t<std::is_signed_v<T>, int16_t, uint16_t>, T>;

template <class To, class From>
void check_integers() {
  const std::string types = type_name<To>() + "." + type_name<From>();
  std::vector<Register<From>> a;
  for (const auto value : integer_edges<Register<From>>()) a.push_back(value);
  check_lanes<Register<To>>(
      "cvt." + types + " %d, %a;",
      [](Register<From> x) -> Register<To> { return static_cast<To>(static_cast<From>(x)); }, a);
  check_lanes<Register<To>>(
      "cvt.sat." + types + " %d, %a;",
      [](Register<From> x) -> Register<To> {
        const auto exact = static_cast<__int128>(static_cast<From>(x));
        const auto least = static_cast<__int128>(std::numeric_limits<To>::min());
        const auto most = static_cast<__int128>(std::numeric_limits<To>::max());
        return static_cast<To>(exact < least ? least : exact > most ? most : exact);
      },
      a);
}

template <class To, class... From>
void check_integers_from() {
  (check_integers<To, From>(), ...);
}

template <class... T>
void check_all_integers() {
  (check_integers_from<T, T...>(), ...);
}

template <class To, class From>
void check_to_integer(const std::vector<From>& given) {
  std::vector<From> a = given;
  for (int i = -300; i < 300; ++i) a.push_back(static_cast<From>(i) / 2);
  for (const To edge : {std::numeric_limits<To>::min(), std::numeric_limits<To>::max()}) {
    for (const From offset : {-1.0, -0.5, 0.0, 0.5, 1.0}) a.push_back(static_cast<From>(edge) + offset);
  }
  const auto check = [&](const std::string& word, double (*round)(double)) {
    check_lanes<Register<To>>(
        "cvt." + word + "." + type_name<To>() + "." + type_name<From>() + " %d, %a;",
        [&](From x) -> Register<To> {
          if (x != x) return 0;
          const auto whole = static_cast<long double>(round(static_cast<double>(x)));
          const auto least = static_cast<long double>(std::numeric_limits<To>::min());
          // One more than the most, which is exact in all long doubles.
          const auto end = 2 * static_cast<long double>(std::numeric_limits<To>::max() / 2 + 1);
          return whole < least  ? std::numeric_limits<To>::min()
                 : whole >= end ? std::numeric_limits<To>::max()
                                : static_cast<To>(whole);
        },
        a);
  };
  check("rni", std::nearbyint);
  check("rzi", std::trunc);
  check("rmi", std::floor);
  check("rpi", std::ceil);
}

template <class To, class From>
void check_to_float() {
  check_lanes<To>(
      "cvt.rn." + type_name<To>() + "." + type_name<From>() + " %d, %a;",
      [](Register<From> x) { return static_cast<To>(static_cast<From>(x)); }, integer_edges<Register<From>>());
}

template <class... From>
void check_all_to_float() {
  (check_to_float<float, From>(), ...);
  (check_to_float<double, From>(), ...);
}

}  // namespace

MOE_TEST(integers_are_cut_extended_and_saturated) {
  check_all_integers<uint8_t, int8_t, uint16_t, int16_t, uint32_t, int32_t, uint64_t, int64_t>();
  // To a wider register than the type's.
  check_lanes<int32_t>(
      "cvt.s8.s32 %d, %a;", [](int32_t x) -> int32_t { return static_cast<int8_t>(x); }, integer_edges<int32_t>());
  check_lanes<uint32_t>(
      "cvt.u8.u32 %d, %a;", [](uint32_t x) -> uint32_t { return x & 255; }, integer_edges<uint32_t>());
}

MOE_TEST(floats_become_integers_by_all_roundings) {
  const auto check = [&]<class To>(To) {
    check_to_integer<To>(float_edges());
    check_to_integer<To>(double_edges());
  };
  check(int8_t{});
  check(uint8_t{});
  check(int16_t{});
  check(uint16_t{});
  check(int32_t{});
  check(uint32_t{});
  check(int64_t{});
  check(uint64_t{});
  check_lanes<int32_t>(
      "cvt.rzi.ftz.s32.f32 %d, %a;", [](float) { return 0; }, std::vector<float>{0x1p-130f, -0x1p-130f});
  check_lanes<int32_t>(
      "cvt.rpi.ftz.s32.f32 %d, %a;", [](float) { return 0; }, std::vector<float>{0x1p-130f});
  check_lanes<int32_t>(
      "cvt.rpi.s32.f32 %d, %a;", [](float) { return 1; }, std::vector<float>{0x1p-130f});
  check_lanes<int32_t>(
      "cvt.rni.s32.f16 %d, %a;",
      [](uint16_t x) {
        const double value = value_of(x, 5, 10, true);
        return std::isnan(value) ? 0
               : std::isinf(value)
                   ? (value > 0 ? std::numeric_limits<int32_t>::max() : std::numeric_limits<int32_t>::min())
                   : static_cast<int32_t>(std::nearbyint(value));
      },
      all_codes());
}

MOE_TEST(integers_become_floats_by_one_rounding) {
  check_all_to_float<uint8_t, int8_t, uint16_t, int16_t, uint32_t, int32_t, uint64_t, int64_t>();
  check_lanes<uint16_t>(
      "cvt.rn.f16.s32 %d, %a;", [](int32_t x) { return right_f16(static_cast<float>(x)); }, integer_edges<int32_t>());
  check_contains(problem_of(".reg .b16 %x; .reg .b32 %y; cvt.rn.bf16.s32 %x, %y;"), "unknown instruction");
}

MOE_TEST(floats_are_rounded_to_whole_ones_and_saturated) {
  const std::vector<float> a = float_edges();
  check_lanes<float>(
      "cvt.rni.f32.f32 %d, %a;", [](float x) { return std::nearbyint(x); }, a);
  check_lanes<float>(
      "cvt.rzi.f32.f32 %d, %a;", [](float x) { return std::trunc(x); }, a);
  check_lanes<float>(
      "cvt.rmi.f32.f32 %d, %a;", [](float x) { return std::floor(x); }, a);
  check_lanes<float>(
      "cvt.rpi.f32.f32 %d, %a;", [](float x) { return std::ceil(x); }, a);
  check_lanes<float>(
      "cvt.sat.f32.f32 %d, %a;", [](float x) { return x > 0 ? std::min(x, 1.0f) : 0.0f; }, a);
  check_lanes<float>(
      "cvt.ftz.f32.f32 %d, %a;", [](float x) { return std::fabs(x) < 0x1p-126f ? std::copysign(0.0f, x) : x; }, a);
  check_lanes<double>(
      "cvt.f64.f32 %d, %a;", [](float x) { return static_cast<double>(x); }, a);
  check_lanes<float>(
      "cvt.rn.f32.f64 %d, %a;", [](double x) { return static_cast<float>(x); }, double_edges());
}

MOE_TEST(conversions_that_are_not_done_here_are_unknown) {
  for (const char* text :
       {"cvt.rn.f16.f64 %h, %l;", "cvt.s32.f32 %w, %w;", "cvt.rn.s32.f32 %w, %w;", "cvt.rz.f32.f64 %w, %l;",
        "cvt.rna.tf32.f64 %w, %l;", "cvt.rn.bf16x2.e4m3x2 %w, %h;", "cvt.rn.e4m3x2.f32 %h, %w, %w;"}) {
    check_contains(problem_of(std::string(".reg .b16 %h; .reg .b32 %w; .reg .b64 %l; ") + text), "unknown instruction");
  }
  check_contains(problem_of(".reg .b16 %h; .reg .b32 %w; cvt.u32.u16 %h, %w;"),
                 "expected a register of 32 bits or more");
}

MOE_TEST(addresses_are_converted_between_spaces) {
  std::vector<uint64_t> results(3);
  run_body(R"(.shared .align 8 .b8 data[16]; .reg .b64 %p, %s, %g, %v;
    ld.param.u64 %p, [p0]; cvta.to.global.u64 %g, %p; cvta.global.u64 %g, %g;
    mov.u64 %s, data; cvta.shared.u64 %s, %s;
    st.u64 [%s+8], 77; ld.u64 %v, [%s+8]; st.u64 [%g], %v;
    cvta.to.shared.u64 %s, %s; ld.shared.u64 %v, [%s+8]; st.global.u64 [%g+8], %v;
    sub.u64 %v, %s, data; st.u64 [%g+16], %v;)",
           {Memory(results)}, block_of(1));
  MOE_CHECK(results == (std::vector<uint64_t>{77, 77, 0}));
}

}  // namespace ptx_machine::test
