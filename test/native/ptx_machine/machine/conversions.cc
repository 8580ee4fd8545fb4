// Conversions between types.
#include <cmath>
#include <limits>
#include <stdexcept>

#include "core/formats/small_numbers.h"
#include "floats.h"
#include "lanes.h"

namespace ptx_machine {
namespace {

// To an integer, even if the result is a float.
enum class Rounding { none, nearest, zero, down, up };

struct Conversion {
  Type to, from;
  Rounding rounding = Rounding::none;
  bool flushes = false, saturates = false;
  unsigned to_bits, from_bits;  // of the registers
};

bool is_float(Type type) { return type == Type::f16 || type == Type::bf16 || type == Type::f32 || type == Type::f64; }

double round_to_integer(double value, Rounding rounding) {
  switch (rounding) {
    case Rounding::nearest: return std::nearbyint(value);
    case Rounding::zero: return std::trunc(value);
    case Rounding::down: return std::floor(value);
    case Rounding::up: return std::ceil(value);
    case Rounding::none: break;
  }
  return value;
}

uint64_t load(Warp& warp, uint32_t place, unsigned bits, unsigned lane) {
  switch (bits) {
    case 16: return warp.at<uint16_t>(place)[lane];
    case 32: return warp.at<uint32_t>(place)[lane];
    default: return warp.at<uint64_t>(place)[lane];
  }
}
void store(Warp& warp, uint32_t place, unsigned bits, unsigned lane, uint64_t value) {
  switch (bits) {
    case 16: warp.at<uint16_t>(place)[lane] = static_cast<uint16_t>(value); break;
    case 32: warp.at<uint32_t>(place)[lane] = static_cast<uint32_t>(value); break;
    default: warp.at<uint64_t>(place)[lane] = value;
  }
}

double to_double(uint64_t bits, Type type) {
  switch (type) {
    case Type::f16: return static_cast<double>(from_f16(static_cast<uint16_t>(bits)));
    case Type::bf16: return static_cast<double>(from_bf16(static_cast<uint16_t>(bits)));
    case Type::f32: return static_cast<double>(std::bit_cast<float>(static_cast<uint32_t>(bits)));
    default: return std::bit_cast<double>(bits);
  }
}

uint64_t from_double(double value, Type type) {
  switch (type) {
    // Of what a float holds: a double is not converted to fewer bits than that.
    case Type::f16: return to_f16(static_cast<float>(value));
    case Type::bf16: return to_bf16(static_cast<float>(value));
    case Type::f32: return std::bit_cast<uint32_t>(static_cast<float>(value));
    default: return std::bit_cast<uint64_t>(value);
  }
}

// An integer of a type, extended to 64 bits by its sign.
uint64_t extend(uint64_t value, Type type) {
  const unsigned shift = 64 - bits_of(type);
  return is_signed(type) ? static_cast<uint64_t>(static_cast<int64_t>(value << shift) >> shift)
                         : value << shift >> shift;
}

uint64_t clamp_to_integer(double value, Type type) {
  if (std::isnan(value)) return 0;
  const unsigned bits = bits_of(type);
  if (is_signed(type)) {
    const double limit = std::ldexp(1.0, static_cast<int>(bits) - 1);
    const auto most = static_cast<uint64_t>(std::numeric_limits<int64_t>::max() >> (64 - bits));
    if (value >= limit) return most;
    if (value < -limit) return ~most;
    return static_cast<uint64_t>(static_cast<int64_t>(value));
  }
  if (value >= std::ldexp(1.0, static_cast<int>(bits))) return ~uint64_t{0} >> (64 - bits);
  return value <= 0 ? 0 : static_cast<uint64_t>(value);
}

// Saturation of integers of one type to another's range.
uint64_t saturate(uint64_t value, Type from, Type to) {
  const auto wide = is_signed(from) ? static_cast<__int128>(static_cast<int64_t>(value)) : static_cast<__int128>(value);
  const unsigned bits = bits_of(to);
  const __int128 most = (static_cast<__int128>(1) << (is_signed(to) ? bits - 1 : bits)) - 1;
  const __int128 least = is_signed(to) ? -most - 1 : 0;
  return static_cast<uint64_t>(wide > most ? most : wide < least ? least : wide);
}

uint64_t convert(uint64_t bits, const Conversion& c) {
  if (is_float(c.from)) {
    double value = to_double(bits, c.from);
    if (c.flushes) value = static_cast<double>(flush(static_cast<float>(value)));
    value = round_to_integer(value, c.rounding);
    if (!is_float(c.to)) return clamp_to_integer(value, c.to);
    if (c.saturates) value = !(value > 0) ? 0 : value < 1 ? value : 1;
    return from_double(value, c.to);
  }
  const uint64_t value = extend(bits, c.from);
  if (!is_float(c.to)) return c.saturates ? saturate(value, c.from, c.to) : value;
  if (c.to == Type::f64) {
    return std::bit_cast<uint64_t>(is_signed(c.from) ? static_cast<double>(static_cast<int64_t>(value))
                                                     : static_cast<double>(value));
  }
  // One rounding, as 64 bits do not fit into a double.
  const float rounded = is_signed(c.from) ? static_cast<float>(static_cast<int64_t>(value)) : static_cast<float>(value);
  return from_double(static_cast<double>(rounded), c.to);
}

void convert_lanes(Warp& warp, const Instruction& in, Mask mask) {
  const auto& c = *static_cast<const Conversion*>(in.details);
  for_lanes(mask, [&](unsigned lane) {
    const uint64_t value = convert(load(warp, in.operands[1], c.from_bits, lane), c);
    // Wider registers than the type have its sign in the bits above.
    store(warp, in.operands[0], c.to_bits, lane, is_float(c.to) ? value : extend(value, c.to));
  });
}

// Conversions that kernels do often.
template <class To>
struct Cast {
  template <class From>
  To operator()(From a) const {
    return static_cast<To>(a);
  }
};
struct WidenF16 {
  float operator()(uint16_t bits) const { return from_f16(bits); }
};
struct NarrowF16 {
  uint16_t operator()(float value) const { return to_f16(value); }
};
struct NarrowBf16 {
  uint16_t operator()(float value) const { return to_bf16(value); }
};

// To 10 bits behind the leading one, ties away from zero.
struct RoundTf32 {
  uint32_t operator()(uint32_t bits) const {
    if ((bits & 0x7f800000u) == 0x7f800000u) return (bits & 0x7fffffu) != 0 ? 0x7fffffffu : bits;
    return (bits + 0x1000u) & ~0x1fffu;
  }
};

// Two floats to a register's halves, the second to the lower one.
template <bool kBf16>
struct NarrowTwo {
  uint32_t operator()(float high, float low) const {
    const auto narrow = [](float value) { return static_cast<uint32_t>(kBf16 ? to_bf16(value) : to_f16(value)); };
    return narrow(high) << 16 | narrow(low);
  }
};

// To the nearest, at most 448. PTX has a single NaN.
uint32_t to_e4m3(float value) { return std::isnan(value) ? 0x7f : moe::to_e4m3(value); }
struct NarrowTwoE4M3 {
  uint16_t operator()(float high, float low) const { return static_cast<uint16_t>(to_e4m3(high) << 8 | to_e4m3(low)); }
};
struct WidenTwoE4M3 {
  uint32_t operator()(uint16_t codes) const {
    const auto half = [](uint32_t code) { return static_cast<uint32_t>(to_f16(moe::from_e4m3(code))); };
    return half(codes >> 8) << 16 | half(codes & 0xffu);
  }
};

// The step of a plain conversion that kernels do often; null: of another one.
Step frequent(const Conversion& c) {
  const auto is = [&](Type to, Type from) { return c.to == to && c.from == from; };
  if (is(Type::s64, Type::s32)) return each_lane<Cast<int64_t>, int64_t, int32_t>;
  if (is(Type::u64, Type::u32)) return each_lane<Cast<uint64_t>, uint64_t, uint32_t>;
  if (is(Type::u32, Type::u16)) return each_lane<Cast<uint32_t>, uint32_t, uint16_t>;
  if (is(Type::u32, Type::u64)) return each_lane<Cast<uint32_t>, uint32_t, uint64_t>;
  if (is(Type::u16, Type::u32)) return each_lane<Cast<uint16_t>, uint16_t, uint32_t>;
  if (is(Type::f32, Type::f16)) return each_lane<WidenF16, float, uint16_t>;
  if (is(Type::f16, Type::f32)) return each_lane<NarrowF16, uint16_t, float>;
  if (is(Type::bf16, Type::f32)) return each_lane<NarrowBf16, uint16_t, float>;
  if (is(Type::f32, Type::s32)) return each_lane<Cast<float>, float, int32_t>;
  return nullptr;
}

// Conversions of types that registers do not have: tf32, e4m3 and pairs.
bool build_special(Building& b) {
  if (b.words.take("tf32")) {
    b.words.expect({"rna", "f32"});
    build_lanes<RoundTf32, uint32_t, uint32_t>(b);
    return true;
  }
  for (const bool is_bf16 : {false, true}) {
    if (!b.words.take(is_bf16 ? "bf16x2" : "f16x2")) continue;
    b.words.expect({"rn"});
    if (b.words.take("e4m3x2")) {
      if (is_bf16) b.words.unknown();
      build_lanes<WidenTwoE4M3, uint32_t, uint16_t>(b);
      return true;
    }
    b.words.expect({"f32"});
    is_bf16 ? build_lanes<NarrowTwo<true>, uint32_t, float, float>(b)
            : build_lanes<NarrowTwo<false>, uint32_t, float, float>(b);
    return true;
  }
  if (b.words.take("e4m3x2")) {
    b.words.expect({"rn", "satfinite", "f32"});
    build_lanes<NarrowTwoE4M3, uint16_t, float, float>(b);
    return true;
  }
  return false;
}

void build_cvt(Building& b) {
  if (build_special(b)) return;
  Conversion c{};
  c.from = b.words.take_type();
  c.to = b.words.take_type();
  c.flushes = b.words.take("ftz");
  c.saturates = b.words.take("sat");
  const auto rounding = b.words.take_value<Rounding>(
      {{"rni", Rounding::nearest}, {"rzi", Rounding::zero}, {"rmi", Rounding::down}, {"rpi", Rounding::up}});
  c.rounding = rounding.value_or(Rounding::none);
  // Floats are always rounded to the nearest.
  b.words.take("rn");
  if (is_float(c.from) && !is_float(c.to) && c.rounding == Rounding::none) b.words.unknown();
  // These would be rounded twice.
  if (c.to == Type::bf16 && !is_float(c.from)) b.words.unknown();
  if (c.from == Type::f64 && (c.to == Type::f16 || c.to == Type::bf16)) b.words.unknown();
  if (c.flushes && c.from != Type::f32) b.words.unknown();
  const auto add = [&](size_t index, Type type) {
    const Operand given = b.assembler.operand(b.text(index), 0);
    if (given.bits < bits_of(type))
      throw std::runtime_error("expected a register of " + std::to_string(bits_of(type)) + " bits or more");
    b.operands.push_back(b.assembler.place(given, given.bits));
    return given.bits;
  };
  c.to_bits = add(0, c.to);
  c.from_bits = add(1, c.from);
  if (!c.flushes && !c.saturates && c.to_bits == bits_of(c.to) && c.from_bits == bits_of(c.from)) {
    b.instruction.step = frequent(c);
  }
  if (b.instruction.step != nullptr) return;
  b.set_details(c);
  b.instruction.step = convert_lanes;
}

}  // namespace

void add_conversions(Builders& builders) { builders["cvt"] = build_cvt; }

}  // namespace ptx_machine
