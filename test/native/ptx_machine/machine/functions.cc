// Functions of floats, and fma.
#include <bit>
#include <cmath>
#include <type_traits>

#include "rounding.h"

namespace ptx_machine {
namespace {

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
// Approximations are exact here, but for the last rounding.
template <class Operation>
void build_function(Building& b) {
  const Type type = b.words.take_type();
  b.words.take("approx");
  if constexpr (std::is_same_v<std::invoke_result_t<Operation, double>, double>) {
    return build_floats<Operation, 1>(b, type);
  } else {
    if (type != Type::f32) b.words.unknown();
    build_rounded<Operation, float, float>(b);
  }
}

// The nearest value if `value` is a T. Of the two values around it otherwise, the one whose last bit is 1: whatever is
// rounded from that to fewer bits is rounded right.
template <class T, class Bits>
T to_odd(T nearest, bool is_exact, bool is_short) {
  const auto bits = std::bit_cast<Bits>(nearest);
  if (is_exact || !std::isfinite(nearest) || (bits & 1) != 0) return nearest;
  return std::bit_cast<T>(is_short ? bits | 1 : bits - 1);
}

// a * b + c, rounded once, of one or two floats of 16 bits.
template <bool kBf16>
struct FusedHalves {
  static double widen(uint16_t bits) { return static_cast<double>(kBf16 ? from_bf16(bits) : from_f16(bits)); }
  uint16_t operator()(uint16_t a, uint16_t b, uint16_t c) const {
    // The product is exact. What the sum lacks is exact too.
    const double product = widen(a) * widen(b), addend = widen(c), rough = product + addend;
    const double part = rough - product, lack = (product - (rough - part)) + (addend - part);
    const double sum = to_odd<double, uint64_t>(rough, !(lack != 0), (lack < 0) == (rough < 0));
    const auto nearest = static_cast<float>(sum);
    const double back = static_cast<double>(nearest);
    const float result = to_odd<float, uint32_t>(nearest, back == sum, std::fabs(back) < std::fabs(sum));
    return kBf16 ? to_bf16(result) : to_f16(result);
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

template <class Operation, class Bits>
void build_halves(Building& b) {
  b.words.expect({"rn"});
  build_lanes<Operation, Bits, Bits, Bits, Bits>(b);
}

void build_fma(Building& b) {
  const Type type = b.words.take_type();
  switch (type) {
    case Type::f16x2: return build_halves<FusedHalves<false>, uint32_t>(b);
    case Type::bf16x2: return build_halves<FusedHalves<true>, uint32_t>(b);
    case Type::f16: return build_halves<FusedHalves<false>, uint16_t>(b);
    case Type::bf16: return build_halves<FusedHalves<true>, uint16_t>(b);
    default: build_floats<FusedMultiplyAdd, 3>(b, type);
  }
}

void build_copysign(Building& b) {
  if (b.words.take_type() == Type::f64) return build_lanes<CopySign, double, double, double>(b);
  build_lanes<CopySign, float, float, float>(b);
}

}  // namespace

void add_functions(Builders& builders) {
  builders["rcp"] = build_function<Reciprocal>;
  builders["sqrt"] = build_function<Root>;
  builders["rsqrt"] = build_function<ReciprocalRoot>;
  builders["ex2"] = build_function<Power>;
  builders["lg2"] = build_function<Logarithm>;
  builders["sin"] = build_function<Sine>;
  builders["cos"] = build_function<Cosine>;
  builders["tanh"] = build_function<HyperbolicTangent>;
  builders["fma"] = build_fma;
  builders["copysign"] = build_copysign;
}

}  // namespace ptx_machine
