// Sums, products, quotients and functions, of integers and floats.
#include <cfenv>
#include <cmath>
#include <limits>
#include <type_traits>

#include "floats.h"
#include "lanes.h"

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
// Of a number and NaN, the number; -0 is less than +0.
struct Minimum {
  template <class T>
  T operator()(T a, T b) const {
    if constexpr (std::is_floating_point_v<T>) {
      if (std::isnan(a)) return b;
      if (std::isnan(b)) return a;
      if (a == b) return std::signbit(a) ? a : b;
    }
    return b < a ? b : a;
  }
};
struct Maximum {
  template <class T>
  T operator()(T a, T b) const {
    if constexpr (std::is_floating_point_v<T>) {
      if (std::isnan(a)) return b;
      if (std::isnan(b)) return a;
      if (a == b) return std::signbit(a) ? b : a;
    }
    return a < b ? b : a;
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
struct CopySign {
  template <class T>
  T operator()(T sign, T magnitude) const {
    return std::copysign(magnitude, sign);
  }
};
struct FusedMultiplyAdd {
  template <class T>
  T operator()(T a, T b, T c) const {
    return std::fma(a, b, c);
  }
};
// Rounded another way than to the nearest.
template <int kRounding, class Operation>
struct Rounded {
  template <class... T>
  auto operator()(T... values) const {
    std::fesetround(kRounding);
    // Volatile, or the compiler moves the operation across the calls.
    volatile auto result = apply(values...);
    std::fesetround(FE_TONEAREST);
    return static_cast<std::common_type_t<T...>>(result);
  }
  template <class... T>
  [[gnu::noinline]] static auto apply(T... values) {
    return Operation{}(values...);
  }
};
template <class Operation>
struct Flushed {
  template <class... T>
  float operator()(T... values) const {
    return flush(Operation{}(flush(values)...));
  }
};
template <class Operation>
struct Saturated {
  template <class... T>
  auto operator()(T... values) const {
    const auto result = Operation{}(values...);
    return !(result > 0) ? decltype(result){0} : result < 1 ? result : decltype(result){1};
  }
};
struct Reciprocal {
  template <class T>
  T operator()(T a) const {
    return T{1} / a;
  }
};
struct Root {
  template <class T>
  T operator()(T a) const {
    return std::sqrt(a);
  }
};
struct ReciprocalRoot {
  template <class T>
  T operator()(T a) const {
    return static_cast<T>(1.0 / std::sqrt(static_cast<double>(a)));
  }
};
struct Power {
  float operator()(float a) const { return static_cast<float>(std::exp2(static_cast<double>(a))); }
};
struct Logarithm {
  float operator()(float a) const { return static_cast<float>(std::log2(static_cast<double>(a))); }
};
struct Sine {
  float operator()(float a) const { return static_cast<float>(std::sin(static_cast<double>(a))); }
};
struct Cosine {
  float operator()(float a) const { return static_cast<float>(std::cos(static_cast<double>(a))); }
};
struct HyperbolicTangent {
  float operator()(float a) const { return static_cast<float>(std::tanh(static_cast<double>(a))); }
};

// With a rounding and flushing as the words say.
template <class Operation, class T, class... Sources>
void build_rounded(Building& b) {
  const bool flushes = b.words.take("ftz"), saturates = b.words.take("sat");
  if (b.words.take("rm")) {
    if (flushes || saturates) b.words.unknown();
    return build_lanes<Rounded<FE_DOWNWARD, Operation>, T, Sources...>(b);
  }
  if (b.words.take("rp")) {
    if (flushes || saturates) b.words.unknown();
    return build_lanes<Rounded<FE_UPWARD, Operation>, T, Sources...>(b);
  }
  if (b.words.take("rz")) {
    if (flushes || saturates) b.words.unknown();
    return build_lanes<Rounded<FE_TOWARDZERO, Operation>, T, Sources...>(b);
  }
  b.words.take("rn");
  if constexpr (std::is_same_v<T, float>) {
    if (flushes && saturates) return build_lanes<Saturated<Flushed<Operation>>, T, Sources...>(b);
    if (flushes) return build_lanes<Flushed<Operation>, T, Sources...>(b);
  } else if (flushes) {
    b.words.unknown();
  }
  if (saturates) return build_lanes<Saturated<Operation>, T, Sources...>(b);
  build_lanes<Operation, T, Sources...>(b);
}

// A word that does not change what is computed here: approximations are exact but for their last rounding.
template <class Operation>
void build_function(Building& b) {
  const Type type = b.words.take_type();
  b.words.take("approx");
  if (type == Type::f64) {
    if constexpr (std::is_invocable_r_v<double, Operation, double> && !std::is_same_v<Operation, Power>) {
      return build_rounded<Operation, double, double>(b);
    }
  }
  if (type != Type::f32) b.words.unknown();
  build_rounded<Operation, float, float>(b);
}

template <class Operation, size_t kSources>
void build_floats(Building& b, Type type) {
  if constexpr (kSources == 1) {
    return type == Type::f32 ? build_rounded<Operation, float, float>(b) : build_rounded<Operation, double, double>(b);
  } else if constexpr (kSources == 2) {
    return type == Type::f32 ? build_rounded<Operation, float, float, float>(b)
                             : build_rounded<Operation, double, double, double>(b);
  } else {
    return type == Type::f32 ? build_rounded<Operation, float, float, float, float>(b)
                             : build_rounded<Operation, double, double, double, double>(b);
  }
}

// Of integers and floats.
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
    if constexpr (!kAdds) return build_floats<Multiply, 2>(b, type);
    b.words.unknown();
  }
  const std::string half = b.words.take_one({"lo", "hi", "wide"});
  with_integer(b, type, [&]<class T>(T) {
    if (half == "wide") {
      using Wide = std::conditional_t<
          sizeof(T) == 2, std::conditional_t<std::is_signed_v<T>, int32_t, uint32_t>,
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

// Two 16-bit floats, or one: the exact result of each is rounded once.
template <bool kBf16>
struct FusedHalves {
  static float widen(uint16_t bits) { return kBf16 ? from_bf16(bits) : from_f16(bits); }
  // The product of two is exact in double, and so is the sum but for numbers that are too far apart to matter twice.
  static uint16_t narrow(double value) {
    const auto rounded = static_cast<float>(value);
    // Rounded to odd, so that the second rounding is right.
    auto bits = std::bit_cast<uint32_t>(rounded);
    if (static_cast<double>(rounded) != value && std::isfinite(rounded) && (bits & 1) == 0) {
      const bool up = std::fabs(static_cast<double>(rounded)) < std::fabs(value);
      bits = up ? bits | 1 : bits - 1;
    }
    return kBf16 ? to_bf16(std::bit_cast<float>(bits)) : to_f16(std::bit_cast<float>(bits));
  }
  uint16_t operator()(uint16_t a, uint16_t b, uint16_t c) const {
    return narrow(static_cast<double>(widen(a)) * static_cast<double>(widen(b)) + static_cast<double>(widen(c)));
  }
  uint32_t operator()(uint32_t a, uint32_t b, uint32_t c) const {
    const auto half = [&](int shift) {
      return static_cast<uint32_t>((*this)(static_cast<uint16_t>(a >> shift), static_cast<uint16_t>(b >> shift),
                                           static_cast<uint16_t>(c >> shift)))
             << shift;
    };
    return half(0) | half(16);
  }
};

void build_fma(Building& b) {
  const Type type = b.words.take_type();
  switch (type) {
    case Type::f32:
    case Type::f64: return build_floats<FusedMultiplyAdd, 3>(b, type);
    case Type::f16x2: b.words.take("rn"); return build_lanes<FusedHalves<false>, uint32_t, uint32_t, uint32_t, uint32_t>(b);
    case Type::bf16x2: b.words.take("rn"); return build_lanes<FusedHalves<true>, uint32_t, uint32_t, uint32_t, uint32_t>(b);
    case Type::f16: b.words.take("rn"); return build_lanes<FusedHalves<false>, uint16_t, uint16_t, uint16_t, uint16_t>(b);
    case Type::bf16: b.words.take("rn"); return build_lanes<FusedHalves<true>, uint16_t, uint16_t, uint16_t, uint16_t>(b);
    default: b.words.unknown();
  }
}

void build_divide(Building& b) {
  b.words.take("full");
  b.words.take("approx");
  build_number<Divide, 2>(b);
}

void build_copysign(Building& b) {
  if (b.words.take_type() == Type::f64) return build_lanes<CopySign, double, double, double>(b);
  build_lanes<CopySign, float, float, float>(b);
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
  const auto build = [&]<bool kA, bool kB>() { build_lanes<DotBytes<kA, kB>, uint32_t, uint32_t, uint32_t, uint32_t>(b); };
  if (is_signed_a && is_signed_b) return build.operator()<true, true>();
  if (is_signed_a) return build.operator()<true, false>();
  if (is_signed_b) return build.operator()<false, true>();
  build.operator()<false, false>();
}

}  // namespace

void add_arithmetic(std::map<std::string, Builder>& builders) {
  builders["add"] = build_number<Add, 2>;
  builders["sub"] = build_number<Subtract, 2>;
  builders["mul"] = build_multiply<false>;
  builders["mad"] = build_multiply<true>;
  builders["fma"] = build_fma;
  builders["div"] = build_divide;
  builders["rem"] = build_remainder;
  builders["min"] = build_number<Minimum, 2>;
  builders["max"] = build_number<Maximum, 2>;
  builders["neg"] = build_number<Negate, 1>;
  builders["abs"] = build_number<Absolute, 1>;
  builders["copysign"] = build_copysign;
  builders["rcp"] = build_function<Reciprocal>;
  builders["sqrt"] = build_function<Root>;
  builders["rsqrt"] = build_function<ReciprocalRoot>;
  builders["ex2"] = build_function<Power>;
  builders["lg2"] = build_function<Logarithm>;
  builders["sin"] = build_function<Sine>;
  builders["cos"] = build_function<Cosine>;
  builders["tanh"] = build_function<HyperbolicTangent>;
  builders["dp4a"] = build_dp4a;
}

}  // namespace ptx_machine
