// Arithmetic of floats.
#include <cfenv>
#include <limits>

#include "support.h"

namespace ptx_machine::test {
namespace {

float flushed(float value) { return std::fabs(value) < 0x1p-126f ? std::copysign(0.0f, value) : value; }
template <class T>
T saturated(T value) {
  return value >= 1 ? T{1} : value > 0 ? value : T{0};
}

template <class T>
std::vector<T> edges() {
  if constexpr (std::is_same_v<T, float>) return float_edges();
  if constexpr (std::is_same_v<T, double>) return double_edges();
}

// Minimum and maximum by cases.
template <class T>
T least(T a, T b) {
  if (a != a) return b;
  if (b != b) return a;
  if (a == 0 && b == 0) return std::signbit(a) ? a : b;
  return a < b ? a : b;
}
template <class T>
T most(T a, T b) {
  if (a != a) return b;
  if (b != b) return a;
  if (a == 0 && b == 0) return std::signbit(a) ? b : a;
  return a > b ? a : b;
}

template <class T>
void check_arithmetic(const std::string& type) {
  const auto [a, b] = pairs(edges<T>(), edges<T>());
  const auto check = [&, &first = a, &second = b](const std::string& name, auto&& expected) {
    check_lanes<T>(name + type + " %d, %a, %b;", expected, first, second);
  };
  check("add", [](T x, T y) { return x + y; });
  check("add.rn", [](T x, T y) { return x + y; });
  check("sub", [](T x, T y) { return x - y; });
  check("mul", [](T x, T y) { return x * y; });
  check("div.rn", [](T x, T y) { return x / y; });
  check("min", least<T>);
  check("max", most<T>);
  check("copysign", [](T x, T y) { return std::copysign(y, x); });
  check_lanes<T>(
      "neg" + type + " %d, %a;", [](T x) { return -x; }, a);
  check_lanes<T>(
      "abs" + type + " %d, %a;", [](T x) { return std::signbit(x) ? -x : x; }, a);
  check_lanes<T>(
      "rcp.rn" + type + " %d, %a;", [](T x) { return 1 / x; }, a);
  check_lanes<T>(
      "sqrt.rn" + type + " %d, %a;", [](T x) { return std::sqrt(x); }, a);
  check_lanes<T>(
      "fma.rn" + type + " %d, %a, %b, %c;", [](T x, T y, T z) { return std::fma(x, y, z); }, a, b,
      std::vector<T>(b.rbegin(), b.rend()));
}

// In the direction, by the host.
template <class Body>
auto rounded(int direction, Body&& body) {
  std::fesetround(direction);
  auto result = body();
  std::fesetround(FE_TONEAREST);
  return result;
}

}  // namespace

MOE_TEST(floats_with_nan_infinities_and_zeros_of_both_signs) {
  check_arithmetic<float>(".f32");
  check_arithmetic<double>(".f64");
}

MOE_TEST(floats_round_in_all_directions) {
  const std::pair<const char*, int> directions[] = {{"rz", FE_TOWARDZERO}, {"rm", FE_DOWNWARD}, {"rp", FE_UPWARD}};
  const auto check = [&]<class T>(T, const std::string& type) {
    const auto [a, b] = pairs(edges<T>(), edges<T>());
    for (const auto& [word, way] : directions) {
      const std::string name = "." + std::string(word) + type;
      const int direction = way;
      const auto with = [&](auto&& operation) {
        return [&, operation](T x, T y) {
          volatile T first = x, second = y;
          return rounded(direction, [&] {
            volatile T result = operation(first, second);
            return static_cast<T>(result);
          });
        };
      };
      check_lanes<T>("add" + name + " %d, %a, %b;", with([](T x, T y) { return x + y; }), a, b);
      check_lanes<T>("sub" + name + " %d, %a, %b;", with([](T x, T y) { return x - y; }), a, b);
      check_lanes<T>("mul" + name + " %d, %a, %b;", with([](T x, T y) { return x * y; }), a, b);
      check_lanes<T>("div" + name + " %d, %a, %b;", with([](T x, T y) { return x / y; }), a, b);
    }
  };
  check(float{}, ".f32");
  check(double{}, ".f64");
  // A sum that lies between two floats.
  const std::vector<float> one{1.0f}, little{0x1p-30f};
  const float next = std::nextafter(1.0f, 2.0f);
  check_lanes<float>(
      "add.rp.f32 %d, %a, %b;", [&](float, float) { return next; }, one, little);
  check_lanes<float>(
      "add.rm.f32 %d, %a, %b;", [](float, float) { return 1.0f; }, one, little);
  check_lanes<float>(
      "fma.rp.f32 %d, %a, %a, %b;", [&](float, float) { return next; }, one, little);
  check_lanes<float>(
      "fma.rz.f32 %d, %a, %a, %b;", [&](float, float) { return 1.0f; }, one, little);
}

MOE_TEST(ftz_flushes_subnormal_sources_and_results) {
  const auto [a, b] = pairs(float_edges(), float_edges());
  check_lanes<float>(
      "add.ftz.f32 %d, %a, %b;", [](float x, float y) { return flushed(flushed(x) + flushed(y)); }, a, b);
  check_lanes<float>(
      "mul.ftz.f32 %d, %a, %b;", [](float x, float y) { return flushed(flushed(x) * flushed(y)); }, a, b);
  check_lanes<float>(
      "max.ftz.f32 %d, %a, %b;", [](float x, float y) { return most(flushed(x), flushed(y)); }, a, b);
  check_lanes<float>(
      "abs.ftz.f32 %d, %a;", [](float x) { return flushed(std::fabs(x)); }, a);
}

MOE_TEST(sat_clamps_to_0_and_1) {
  const auto [a, b] = pairs(float_edges(), float_edges());
  check_lanes<float>(
      "add.sat.f32 %d, %a, %b;", [](float x, float y) { return saturated(x + y); }, a, b);
  check_lanes<float>(
      "fma.rn.ftz.sat.f32 %d, %a, %b, %a;",
      [](float x, float y) { return saturated(flushed(std::fma(flushed(x), flushed(y), flushed(x)))); }, a, b);
}

MOE_TEST(functions_are_right_to_the_last_bit) {
  std::vector<float> a = float_edges();
  for (const uint32_t bits : Bits(5).many<uint32_t>(300)) a.push_back(std::bit_cast<float>(bits));
  for (int i = -50; i < 50; ++i) a.push_back(static_cast<float>(i) * 0.37f);
  const auto check = [&](const std::string& name, long double (*function)(long double)) {
    check_lanes<float>(
        name + ".f32 %d, %a;",
        [&](float x) { return static_cast<float>(static_cast<double>(function(static_cast<long double>(x)))); }, a);
  };
  check("rcp.approx", [](long double x) { return 1 / x; });
  check("sqrt.approx", std::sqrt);
  check("ex2.approx", std::exp2);
  check("lg2.approx", std::log2);
  check("tanh.approx", std::tanh);
  check("rsqrt.approx", [](long double x) { return 1 / std::sqrt(x); });
  const auto small = [&](const std::string& name, double (*function)(double)) {
    check_lanes<float>(
        name + ".f32 %d, %a;", [&](float x) { return static_cast<float>(function(static_cast<double>(x))); }, a);
  };
  small("sin.approx", std::sin);
  small("cos.approx", std::cos);
  check_lanes<float>(
      "ex2.approx.ftz.f32 %d, %a;",
      [](float x) { return flushed(static_cast<float>(std::exp2(static_cast<double>(flushed(x))))); }, a);
  check_lanes<float>(
      "div.full.f32 %d, %a, %b;", [](float x, float y) { return x / y; }, a, a);
  check_lanes<float>(
      "div.approx.f32 %d, %a, %b;", [](float x, float y) { return x / y; }, a, a);
  check_lanes<double>(
      "rsqrt.approx.f64 %d, %a;", [](double x) { return 1 / std::sqrt(x); }, double_edges());
}

namespace {

// The value of a float of 16 bits, from its fields.
double value_of(uint16_t code, int exponent_bits) {
  const int mantissa_bits = 15 - exponent_bits, bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = code >> mantissa_bits & ((1 << exponent_bits) - 1), mantissa = code & ((1 << mantissa_bits) - 1);
  const double sign = code & 0x8000 ? -1 : 1;
  if (exponent == (1 << exponent_bits) - 1) {
    return mantissa != 0 ? std::numeric_limits<double>::quiet_NaN() : sign * std::numeric_limits<double>::infinity();
  }
  if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias - mantissa_bits);
  return sign * std::ldexp(mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits);
}

// Whether no other code is nearer to a * b + c, and none that is as near is even. Distances are exact in 128 bits.
uint16_t nearest(long double exact_high, long double exact_low, int exponent_bits, double sign_of_zero) {
  // exact = exact_high + exact_low, both exact, and exact_low is much smaller.
  if (std::isnan(exact_high)) return 0x7fff;
  const int mantissa_bits = 15 - exponent_bits;
  const uint16_t infinity = static_cast<uint16_t>(((1 << exponent_bits) - 1) << mantissa_bits);
  if (exact_high == 0 && exact_low == 0) return std::signbit(sign_of_zero) ? 0x8000 : 0;
  const bool negative = exact_high < 0 || (exact_high == 0 && exact_low < 0);
  const long double high = negative ? -exact_high : exact_high, low = negative ? -exact_low : exact_low;
  const uint16_t sign = negative ? 0x8000 : 0;
  if (std::isinf(high)) return sign | infinity;
  // The greatest code that is not more.
  const auto at_most = [&](long double value) { return high - value > -low || high - value == -low; };
  uint16_t below = 0, above = infinity;
  while (above - below > 1) {
    const auto middle = static_cast<uint16_t>((below + above) / 2);
    (at_most(static_cast<long double>(value_of(middle, exponent_bits))) ? below : above) = middle;
  }
  const long double begin = static_cast<long double>(value_of(below, exponent_bits));
  const long double end = above == infinity
                              ? begin + (begin - static_cast<long double>(value_of(below - 1, exponent_bits)))
                              : static_cast<long double>(value_of(above, exponent_bits));
  const long double distance = (high - begin / 2 - end / 2);
  if (distance == -low) return static_cast<uint16_t>(sign | (below % 2 == 0 ? below : above));
  return static_cast<uint16_t>(sign | (distance < -low ? below : above));
}

uint16_t fused(uint16_t a, uint16_t b, uint16_t c, int exponent_bits) {
  const double x = value_of(a, exponent_bits), y = value_of(b, exponent_bits), z = value_of(c, exponent_bits);
  const long double product = static_cast<long double>(x * y), addend = static_cast<long double>(z);
  if (std::isnan(x * y + z)) return 0x7fff;
  if (std::isinf(x * y + z)) return nearest(product + addend, 0, exponent_bits, 0);
  const bool product_leads = std::fabs(product) >= std::fabs(addend);
  const long double high = product_leads ? product : addend, low = product_leads ? addend : product;
  const long double sum = high + low, rest = low - (sum - high);
  return nearest(sum, rest, exponent_bits, x * y + z);
}

template <bool kPair>
void check_fma(const std::string& type, int exponent_bits) {
  using T = std::conditional_t<kPair, uint32_t, uint16_t>;
  Bits bits(6);
  std::vector<T> a, b, c;
  const auto add = [&](uint16_t x, uint16_t y, uint16_t z) {
    const auto pair = [&](uint16_t value) {
      return static_cast<T>(kPair ? static_cast<uint32_t>(value) << 16 | (value ^ 0x8001u) : value);
    };
    a.push_back(pair(x)), b.push_back(pair(y)), c.push_back(pair(z));
  };
  for (const uint64_t each : bits.many<uint64_t>(20000)) {
    add(static_cast<uint16_t>(each), static_cast<uint16_t>(each >> 16), static_cast<uint16_t>(each >> 32));
  }
  // Exponents that are close together.
  for (const uint64_t each : bits.many<uint64_t>(20000)) {
    const auto near = [](uint64_t value) { return static_cast<uint16_t>(0x3800 + value % 0x1000); };
    add(near(each), near(each >> 16), static_cast<uint16_t>(near(each >> 32) | (each & 1) << 15));
  }
  // A product in the middle of two floats, and a sum that is hardly more or less.
  if (exponent_bits == 8) {
    for (const uint16_t sign : {0, 0x8000}) add(0x4110, 0x41e8, static_cast<uint16_t>(0x0880 | sign));
  }
  check_lanes<T>(
      "fma.rn." + type + " %d, %a, %b, %c;",
      [&](T x, T y, T z) {
        const auto half = [&](int shift) {
          return fused(static_cast<uint16_t>(x >> shift), static_cast<uint16_t>(y >> shift),
                       static_cast<uint16_t>(z >> shift), exponent_bits);
        };
        return static_cast<T>(kPair ? static_cast<uint32_t>(half(kPair ? 16 : 0)) << 16 | half(0) : half(0));
      },
      a, b, c);
}

}  // namespace

MOE_TEST(fma_of_halves_rounds_the_exact_result_once) {
  check_fma<false>("f16", 5);
  check_fma<false>("bf16", 8);
  check_fma<true>("f16x2", 5);
  check_fma<true>("bf16x2", 8);
}

}  // namespace ptx_machine::test
