// Arithmetic of integers.
#include <algorithm>

#include "support.h"

namespace ptx_machine::test {
namespace {

template <class T>
std::string type_name() {
  return (std::is_signed_v<T> ? "s" : "u") + std::to_string(8 * sizeof(T));
}

// Exact, whatever the operands.
using Wide = __int128;

template <class T>
void check_arithmetic() {
  const std::string type = "." + type_name<T>();
  const auto [a, b] = pairs(integer_edges<T>(), integer_edges<T>());
  const auto check = [&, &first = a, &second = b](const std::string& name, auto&& exact) {
    check_lanes<T>(
        name + type + " %d, %a, %b;", [&](T x, T y) { return static_cast<T>(exact(Wide{x}, Wide{y})); }, first, second);
  };
  check("add", [](Wide x, Wide y) { return x + y; });
  check("sub", [](Wide x, Wide y) { return x - y; });
  check("mul.lo", [](Wide x, Wide y) {
    return static_cast<Wide>(static_cast<unsigned __int128>(x) * static_cast<unsigned __int128>(y));
  });
  check("min", [](Wide x, Wide y) { return x < y ? x : y; });
  check("max", [](Wide x, Wide y) { return x < y ? y : x; });
  // A quotient by zero is unspecified, but all of these are whole.
  std::vector<T> divisors = b;
  for (T& divisor : divisors) divisor = divisor == 0 ? T{5} : divisor;
  check_lanes<T>(
      "div" + type + " %d, %a, %b;", [](T x, T y) { return static_cast<T>(Wide{x} / Wide{y}); }, a, divisors);
  check_lanes<T>(
      "rem" + type + " %d, %a, %b;", [](T x, T y) { return static_cast<T>(Wide{x} % Wide{y}); }, a, divisors);
  check_lanes<T>(
      "mul.hi" + type + " %d, %a, %b;",
      [](T x, T y) {
        if constexpr (std::is_signed_v<T>) return static_cast<T>(Wide{x} * Wide{y} >> 8 * sizeof(T));
        return static_cast<T>(static_cast<unsigned __int128>(x) * y >> 8 * sizeof(T));
      },
      a, b);
  check_lanes<T>(
      "mad.lo" + type + " %d, %a, %b, %a;",
      [](T x, T y) {
        return static_cast<T>(static_cast<unsigned __int128>(Wide{x}) * static_cast<unsigned __int128>(Wide{y}) +
                              static_cast<unsigned __int128>(Wide{x}));
      },
      a, b);
  check_lanes<T>(
      "mad.hi" + type + " %d, %a, %b, %b;",
      [](T x, T y) {
        using U = std::make_unsigned_t<T>;
        U high;
        if constexpr (std::is_signed_v<T>) {
          high = static_cast<U>(Wide{x} * Wide{y} >> 8 * sizeof(T));
        } else {
          high = static_cast<U>(static_cast<unsigned __int128>(x) * y >> 8 * sizeof(T));
        }
        return static_cast<T>(high + static_cast<U>(y));
      },
      a, b);
  if constexpr (std::is_signed_v<T>) {
    check_lanes<T>(
        "neg" + type + " %d, %a;", [](T x) { return static_cast<T>(-Wide{x}); }, a);
    check_lanes<T>(
        "abs" + type + " %d, %a;", [](T x) { return static_cast<T>(x < 0 ? -Wide{x} : Wide{x}); }, a);
  }
}

template <class T, class Twice>
void check_wide() {
  const std::string type = "." + type_name<T>();
  const auto [a, b] = pairs(integer_edges<T>(), integer_edges<T>());
  check_lanes<Twice>(
      "mul.wide" + type + " %d, %a, %b;", [](T x, T y) { return static_cast<Twice>(Wide{x} * Wide{y}); }, a, b);
  std::vector<Twice> c = Bits(7).many<Twice>(a.size());
  check_lanes<Twice>(
      "mad.wide" + type + " %d, %a, %b, %c;",
      [](T x, T y, Twice z) { return static_cast<Twice>(Wide{x} * Wide{y} + Wide{z}); }, a, b, c);
}

}  // namespace

MOE_TEST(integers_of_all_widths_wrap_as_exact_ones_do) {
  check_arithmetic<uint16_t>();
  check_arithmetic<int16_t>();
  check_arithmetic<uint32_t>();
  check_arithmetic<int32_t>();
  check_arithmetic<uint64_t>();
  check_arithmetic<int64_t>();
}

MOE_TEST(wide_products_are_exact) {
  check_wide<uint16_t, uint32_t>();
  check_wide<int16_t, int32_t>();
  check_wide<uint32_t, uint64_t>();
  check_wide<int32_t, int64_t>();
}

MOE_TEST(quotients_by_zero_end_no_process) {
  check_lanes<uint32_t>(
      "div.u32 %d, %a, 0;", [](uint32_t) { return ~0u; }, integer_edges<uint32_t>());
  check_lanes<uint32_t>(
      "rem.u32 %d, %a, 0;", [](uint32_t a) { return a; }, integer_edges<uint32_t>());
}

MOE_TEST(dp4a_adds_the_products_of_four_bytes) {
  Bits bits(3);
  const auto a = bits.many<uint32_t>(80), b = bits.many<uint32_t>(80), c = bits.many<uint32_t>(80);
  const auto check = [&]<class A, class B>(const std::string& name, A, B) {
    check_lanes<uint32_t>(
        name + " %d, %a, %b, %c;",
        [](uint32_t x, uint32_t y, uint32_t z) {
          int64_t sum = z;
          for (int i = 0; i < 4; ++i) {
            sum += int64_t{static_cast<A>(x >> 8 * i)} * int64_t{static_cast<B>(y >> 8 * i)};
          }
          return static_cast<uint32_t>(sum);
        },
        a, b, c);
  };
  check("dp4a.u32.u32", uint8_t{}, uint8_t{});
  check("dp4a.s32.u32", int8_t{}, uint8_t{});
  check("dp4a.u32.s32", uint8_t{}, int8_t{});
  check("dp4a.s32.s32", int8_t{}, int8_t{});
}

}  // namespace ptx_machine::test
