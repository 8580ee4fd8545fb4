// Sums, products, quotients, minima and maxima.
#include <cmath>
#include <type_traits>

#include "rounding.h"

namespace ptx_machine {
namespace {

template <class T>
using Unsigned = std::make_unsigned_t<T>;

struct Add {
  template <class T>
  T operator()(T a, T b) const {
    if constexpr (std::is_integral_v<T>) {
      return static_cast<T>(static_cast<Unsigned<T>>(a) + static_cast<Unsigned<T>>(b));
    } else {
      return a + b;
    }
  }
};
struct Subtract {
  template <class T>
  T operator()(T a, T b) const {
    if constexpr (std::is_integral_v<T>) {
      return static_cast<T>(static_cast<Unsigned<T>>(a) - static_cast<Unsigned<T>>(b));
    } else {
      return a - b;
    }
  }
};
// Of integers, the lower half.
struct Multiply {
  template <class T>
  T operator()(T a, T b) const {
    if constexpr (std::is_integral_v<T>) {
      return static_cast<T>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b));
    } else {
      return a * b;
    }
  }
};
struct MultiplyHigh {
  template <class T>
  T operator()(T a, T b) const {
    using Wide = std::conditional_t<std::is_signed_v<T>, __int128, unsigned __int128>;
    return static_cast<T>(static_cast<Wide>(a) * static_cast<Wide>(b) >> 8 * sizeof(T));
  }
};
template <class Wide>
struct MultiplyWide {
  template <class T>
  Wide operator()(T a, T b) const {
    return static_cast<Wide>(a) * static_cast<Wide>(b);
  }
};
template <class Product>
struct MultiplyAdd {
  template <class T, class Sum>
  Sum operator()(T a, T b, Sum c) const {
    return Add{}(static_cast<Sum>(Product{}(a, b)), c);
  }
};
// A quotient by zero is unspecified.
struct Divide {
  template <class T>
  T operator()(T a, T b) const {
    if constexpr (std::is_integral_v<T>) {
      if (b == 0) return static_cast<T>(~Unsigned<T>{0});
      if constexpr (std::is_signed_v<T>) {
        if (b == -1) return Subtract{}(T{0}, a);
      }
    }
    return static_cast<T>(a / b);
  }
};
struct Remainder {
  template <class T>
  T operator()(T a, T b) const {
    if (b == 0) return a;
    if constexpr (std::is_signed_v<T>) {
      if (b == -1) return 0;
    }
    return static_cast<T>(a % b);
  }
};
// The least or the largest. Of a number and NaN, the number; -0 is less than +0.
template <bool kLargest>
struct Extreme {
  template <class T>
  T operator()(T a, T b) const {
    if constexpr (std::is_floating_point_v<T>) {
      if (std::isnan(a)) return b;
      if (std::isnan(b)) return a;
      if (a == b) return std::signbit(a) == kLargest ? b : a;
    }
    return (a < b) == kLargest ? b : a;
  }
};
struct Negate {
  template <class T>
  T operator()(T a) const {
    if constexpr (std::is_integral_v<T>) {
      return Subtract{}(T{0}, a);
    } else {
      return -a;
    }
  }
};
struct Absolute {
  template <class T>
  T operator()(T a) const {
    if constexpr (std::is_integral_v<T>) {
      return a < 0 ? Subtract{}(T{0}, a) : a;
    } else {
      return std::fabs(a);
    }
  }
};
// An operation of integers or floats.
template <class Operation, size_t kSources>
void build_number(Building& b) {
  const Type type = b.words.take_type();
  if (type == Type::f32 || type == Type::f64) return build_floats<Operation, kSources>(b, type);
  with_integer(b, type, [&]<class T>(T) {
    if constexpr (kSources == 1) {
      build_lanes<Operation, T, T>(b);
    } else {
      build_lanes<Operation, T, T, T>(b);
    }
  });
}

// mul and mad: the lower or upper half, or both.
template <bool kAdds>
void build_multiply(Building& b) {
  const Type type = b.words.take_type();
  if (type == Type::f32 || type == Type::f64) {
    // mad of floats is only an old name of fma.
    if (kAdds) b.words.unknown();
    return build_floats<Multiply, 2>(b, type);
  }
  const std::string half = b.words.take_one({"lo", "hi", "wide"});
  with_integer(b, type, [&]<class T>(T) {
    if (half == "wide") {
      using Wide = std::conditional_t<sizeof(T) == 2, std::conditional_t<std::is_signed_v<T>, int32_t, uint32_t>,
                                      std::conditional_t<std::is_signed_v<T>, int64_t, uint64_t>>;
      if constexpr (sizeof(T) == 8) {
        b.words.unknown();
      } else if constexpr (kAdds) {
        build_lanes<MultiplyAdd<MultiplyWide<Wide>>, Wide, T, T, Wide>(b);
      } else {
        build_lanes<MultiplyWide<Wide>, Wide, T, T>(b);
      }
    } else if constexpr (kAdds) {
      half == "lo" ? build_lanes<MultiplyAdd<Multiply>, T, T, T, T>(b)
                   : build_lanes<MultiplyAdd<MultiplyHigh>, T, T, T, T>(b);
    } else {
      half == "lo" ? build_lanes<Multiply, T, T, T>(b) : build_lanes<MultiplyHigh, T, T, T>(b);
    }
  });
}

void build_divide(Building& b) {
  b.words.take("full");
  b.words.take("approx");
  build_number<Divide, 2>(b);
}

void build_remainder(Building& b) {
  with_integer(b, b.words.take_type(), [&]<class T>(T) { build_lanes<Remainder, T, T, T>(b); });
}

// The products of four bytes.
template <bool kSignedA, bool kSignedB>
struct DotBytes {
  uint32_t operator()(uint32_t a, uint32_t b, uint32_t c) const {
    for (int shift = 0; shift < 32; shift += 8) c += byte<kSignedA>(a >> shift) * byte<kSignedB>(b >> shift);
    return c;
  }
  template <bool kSigned>
  static uint32_t byte(uint32_t bits) {
    return kSigned ? static_cast<uint32_t>(static_cast<int8_t>(bits)) : bits & 0xff;
  }
};

void build_dp4a(Building& b) {
  const bool is_signed_b = is_signed(b.words.take_type()), is_signed_a = is_signed(b.words.take_type());
  const auto build = [&]<bool kA, bool kB>() {
    build_lanes<DotBytes<kA, kB>, uint32_t, uint32_t, uint32_t, uint32_t>(b);
  };
  if (is_signed_a && is_signed_b) return build.operator()<true, true>();
  if (is_signed_a) return build.operator()<true, false>();
  if (is_signed_b) return build.operator()<false, true>();
  build.operator()<false, false>();
}

}  // namespace

void add_arithmetic(Builders& builders) {
  builders["add"] = build_number<Add, 2>;
  builders["sub"] = build_number<Subtract, 2>;
  builders["mul"] = build_multiply<false>;
  builders["mad"] = build_multiply<true>;
  builders["div"] = build_divide;
  builders["rem"] = build_remainder;
  builders["min"] = build_number<Extreme<false>, 2>;
  builders["max"] = build_number<Extreme<true>, 2>;
  builders["neg"] = build_number<Negate, 1>;
  builders["abs"] = build_number<Absolute, 1>;
  builders["dp4a"] = build_dp4a;
}

}  // namespace ptx_machine
