// Bits, predicates and moves.
#include <bit>
#include <cmath>
#include <type_traits>

#include "lanes.h"

namespace ptx_machine {
namespace {

struct And {
  template <class T>
  T operator()(T a, T b) const {
    return static_cast<T>(a & b);
  }
};
struct Or {
  template <class T>
  T operator()(T a, T b) const {
    return static_cast<T>(a | b);
  }
};
struct Xor {
  template <class T>
  T operator()(T a, T b) const {
    return static_cast<T>(a ^ b);
  }
};
struct Not {
  template <class T>
  T operator()(T a) const {
    return static_cast<T>(~a);
  }
};
// By more bits than there are: as by all of them.
struct ShiftLeft {
  template <class T>
  T operator()(T a, uint32_t by) const {
    return by >= 8 * sizeof(T) ? T{0} : static_cast<T>(static_cast<std::make_unsigned_t<T>>(a) << by);
  }
};
struct ShiftRight {
  template <class T>
  T operator()(T a, uint32_t by) const {
    if (by >= 8 * sizeof(T)) by = 8 * sizeof(T) - 1, a = std::is_signed_v<T> ? a : T{0};
    return static_cast<T>(a >> by);
  }
};

template <class Operation>
void predicates(Warp& warp, const Instruction& in, Mask mask) {
  Mask result;
  if constexpr (std::is_invocable_v<Operation, Mask, Mask>) {
    result = Operation{}(warp.predicate(in.operands[1]), warp.predicate(in.operands[2]));
  } else {
    result = Operation{}(warp.predicate(in.operands[1]));
  }
  Mask& to = warp.predicate(in.operands[0]);
  to = (to & ~mask) | (result & mask);
}

template <class Operation>
void build_bits(Building& b) {
  const Type type = b.words.take_type();
  if (type == Type::pred) {
    for (size_t i = 0; i < b.count(); ++i) b.add(i, 1);
    b.instruction.step = predicates<Operation>;
    return;
  }
  with_integer(b, type, [&]<class T>(T) {
    if constexpr (std::is_invocable_v<Operation, T, T>) {
      build_lanes<Operation, T, T, T>(b);
    } else {
      build_lanes<Operation, T, T>(b);
    }
  });
}

template <class Operation>
void build_shift(Building& b) {
  with_integer(b, b.words.take_type(), [&]<class T>(T) { build_lanes<Operation, T, T, uint32_t>(b); });
}

// Comparisons. Of floats, those without u are false where one is NaN, and those with it true.
struct Equal {
  template <class T>
  bool operator()(T a, T b) const { return a == b; }
};
struct NotEqual {
  template <class T>
  bool operator()(T a, T b) const {
    if constexpr (std::is_floating_point_v<T>) return a < b || a > b;
    return a != b;
  }
};
struct Less {
  template <class T>
  bool operator()(T a, T b) const { return a < b; }
};
struct LessEqual {
  template <class T>
  bool operator()(T a, T b) const { return a <= b; }
};
struct Greater {
  template <class T>
  bool operator()(T a, T b) const { return a > b; }
};
struct GreaterEqual {
  template <class T>
  bool operator()(T a, T b) const { return a >= b; }
};
// True where one is NaN.
template <class Comparison>
struct Unordered {
  template <class T>
  bool operator()(T a, T b) const { return a != a || b != b || Comparison{}(a, b); }
};
struct IsNumber {
  template <class T>
  bool operator()(T a, T b) const { return a == a && b == b; }
};
struct IsNan {
  template <class T>
  bool operator()(T a, T b) const { return a != a || b != b; }
};

// The second result, if it is wanted, is the opposite of the first; a predicate is combined with both.
enum Combine : int64_t { kNone, kAnd, kOr, kXor };
struct SetFlags {
  bool has_second, has_other, other_negated;
  Combine combine;
};
int64_t pack(const SetFlags& flags) {
  return flags.has_second | flags.has_other << 1 | flags.other_negated << 2 | flags.combine << 3;
}

template <class Comparison, class T>
void compare(Warp& warp, const Instruction& in, Mask mask) {
  const bool has_second = in.immediate & 1, has_other = in.immediate & 2, negated = in.immediate & 4;
  const uint32_t* o = in.operands + (has_second ? 2 : 1);
  const T *a = warp.at<T>(o[0]), *b = warp.at<T>(o[1]);
  Mask result = 0;
  for (unsigned lane = 0; lane < kLanes; ++lane) result |= static_cast<Mask>(Comparison{}(a[lane], b[lane])) << lane;
  Mask second = ~result;
  if (has_other) {
    const Mask other = negated ? ~warp.predicate(o[2]) : warp.predicate(o[2]);
    const auto combine = [&](Mask value) {
      switch (in.immediate >> 3) {
        case kAnd: return value & other;
        case kOr: return value | other;
        default: return value ^ other;
      }
    };
    result = combine(result);
    second = combine(second);
  }
  Mask& first = warp.predicate(in.operands[0]);
  first = (first & ~mask) | (result & mask);
  if (!has_second) return;
  Mask& opposite = warp.predicate(in.operands[1]);
  opposite = (opposite & ~mask) | (second & mask);
}

template <class T>
Step comparison(const std::string& name) {
  if constexpr (std::is_floating_point_v<T>) {
    if (name == "ltu") return compare<Unordered<Less>, T>;
    if (name == "leu") return compare<Unordered<LessEqual>, T>;
    if (name == "gtu") return compare<Unordered<Greater>, T>;
    if (name == "geu") return compare<Unordered<GreaterEqual>, T>;
    if (name == "equ") return compare<Unordered<Equal>, T>;
    if (name == "neu") return compare<Unordered<NotEqual>, T>;
    if (name == "num") return compare<IsNumber, T>;
    if (name == "nan") return compare<IsNan, T>;
  }
  if (name == "eq") return compare<Equal, T>;
  if (name == "ne") return compare<NotEqual, T>;
  if (name == "lt" || name == "lo") return compare<Less, T>;
  if (name == "le" || name == "ls") return compare<LessEqual, T>;
  if (name == "gt" || name == "hi") return compare<Greater, T>;
  return compare<GreaterEqual, T>;
}

void build_setp(Building& b) {
  const Type type = b.words.take_type();
  const std::string name = b.words.take_one({"eq", "ne", "lt", "le", "gt", "ge", "lo", "ls", "hi", "hs", "equ", "neu",
                                             "ltu", "leu", "gtu", "geu", "num", "nan"});
  SetFlags flags{};
  flags.has_second = b.argument(0).parts.size() == 2;
  flags.combine = b.words.take("and") ? kAnd : b.words.take("or") ? kOr : b.words.take("xor") ? kXor : kNone;
  flags.has_other = flags.combine != kNone;
  b.add_parts(0, 1);
  const unsigned bits = bits_of(type);
  b.add(1, bits);
  b.add(2, bits);
  if (flags.has_other) {
    const Operand other = b.assembler.operand(b.argument(3).parts[0], 1);
    flags.other_negated = other.negated;
    b.operands.push_back(other.place);
  }
  b.instruction.immediate = pack(flags);
  if (type == Type::f32) {
    b.instruction.step = comparison<float>(name);
  } else if (type == Type::f64) {
    b.instruction.step = comparison<double>(name);
  } else {
    with_integer(b, type, [&]<class T>(T) { b.instruction.step = comparison<T>(name); });
  }
}

template <class T>
void select(Warp& warp, const Instruction& in, Mask mask) {
  T* result = warp.at<T>(in.operands[0]);
  const T *a = warp.at<T>(in.operands[1]), *b = warp.at<T>(in.operands[2]);
  const Mask chosen = warp.predicate(in.operands[3]);
  for_lanes(mask, [&](unsigned lane) { result[lane] = chosen >> lane & 1 ? a[lane] : b[lane]; });
}

void build_selp(Building& b) {
  const unsigned bits = bits_of(b.words.take_type());
  for (size_t i = 0; i < 3; ++i) b.add(i, bits);
  b.add(3, 1);
  b.instruction.step = bits == 16 ? select<uint16_t> : bits == 32 ? select<uint32_t> : select<uint64_t>;
}

struct Same {
  template <class T>
  T operator()(T a) const {
    return a;
  }
};

// A register of several parts, lowest first, from or to one.
template <class Whole, class Part>
void join(Warp& warp, const Instruction& in, Mask mask) {
  Whole* whole = warp.at<Whole>(in.operands[0]);
  for_lanes(mask, [&](unsigned lane) {
    Whole value = 0;
    for (size_t i = 0; i < sizeof(Whole) / sizeof(Part); ++i) {
      const Whole part = warp.at<Part>(in.operands[1 + i])[lane];
      value = static_cast<Whole>(value | part << (8 * sizeof(Part) * i));
    }
    whole[lane] = value;
  });
}
template <class Whole, class Part>
void divide(Warp& warp, const Instruction& in, Mask mask) {
  const Whole* whole = warp.at<Whole>(in.operands[0]);
  for_lanes(mask, [&](unsigned lane) {
    const Whole value = whole[lane];
    for (size_t i = 0; i < sizeof(Whole) / sizeof(Part); ++i) {
      // 0: the part is not wanted.
      if (in.operands[1 + i] == 0) continue;
      warp.at<Part>(in.operands[1 + i])[lane] = static_cast<Part>(value >> (8 * sizeof(Part) * i));
    }
  });
}

void build_parts(Building& b, size_t whole, size_t parts, unsigned bits) {
  const auto& names = b.argument(parts).parts;
  const auto part_bits = static_cast<unsigned>(bits / names.size());
  b.add(whole, bits);
  for (const std::string& name : names) {
    const bool ignored = name == "_";
    b.operands.push_back(ignored ? 0 : b.assembler.place(name, part_bits));
  }
  const bool joins = whole == 0;
  if (bits == 32 && part_bits == 16) {
    b.instruction.step = joins ? join<uint32_t, uint16_t> : divide<uint32_t, uint16_t>;
  } else if (bits == 64 && part_bits == 32) {
    b.instruction.step = joins ? join<uint64_t, uint32_t> : divide<uint64_t, uint32_t>;
  } else if (bits == 64 && part_bits == 16) {
    b.instruction.step = joins ? join<uint64_t, uint16_t> : divide<uint64_t, uint16_t>;
  } else {
    b.words.unknown();
  }
}

void build_mov(Building& b) {
  const Type type = b.words.take_type();
  const unsigned bits = bits_of(type);
  if (b.argument(0).is_vector) return build_parts(b, 1, 0, bits);
  if (b.argument(1).is_vector) return build_parts(b, 0, 1, bits);
  if (type == Type::pred) {
    b.add(0, 1);
    b.add(1, 1);
    b.instruction.step = predicates<Same>;
    return;
  }
  if (bits == 16) return build_lanes<Same, uint16_t, uint16_t>(b);
  if (bits == 32) return build_lanes<Same, uint32_t, uint32_t>(b);
  build_lanes<Same, uint64_t, uint64_t>(b);
}

void lop3(Warp& warp, const Instruction& in, Mask mask) {
  uint32_t* result = warp.at<uint32_t>(in.operands[0]);
  const uint32_t *a = warp.at<uint32_t>(in.operands[1]), *b = warp.at<uint32_t>(in.operands[2]),
                 *c = warp.at<uint32_t>(in.operands[3]);
  for_lanes(mask, [&](unsigned lane) {
    uint32_t bits = 0;
    for (unsigned i = 0; i < 8; ++i) {
      if ((in.immediate >> i & 1) == 0) continue;
      bits |= (i & 4 ? a[lane] : ~a[lane]) & (i & 2 ? b[lane] : ~b[lane]) & (i & 1 ? c[lane] : ~c[lane]);
    }
    result[lane] = bits;
  });
}

void build_lop3(Building& b) {
  if (b.words.take_type() != Type::b32) b.words.unknown();
  for (size_t i = 0; i < 4; ++i) b.add(i, 32);
  b.instruction.immediate = static_cast<int64_t>(b.assembler.operand(b.argument(4).parts[0], 32).value);
  b.instruction.step = lop3;
}

// The bytes of b and a that the four digits of c choose, or with the digit's highest bit, the sign of the byte.
struct Permute {
  uint32_t operator()(uint32_t a, uint32_t b, uint32_t c) const {
    const uint64_t bytes = static_cast<uint64_t>(b) << 32 | a;
    uint32_t result = 0;
    for (int i = 0; i < 4; ++i) {
      const uint32_t digit = c >> (4 * i) & 15;
      auto byte = static_cast<uint32_t>(bytes >> (8 * (digit & 7))) & 0xff;
      if (digit & 8) byte = byte & 0x80 ? 0xff : 0;
      result |= byte << (8 * i);
    }
    return result;
  }
};

struct ExtractField {
  template <class T>
  T operator()(T a, uint32_t from, uint32_t length) const {
    constexpr uint32_t kBits = 8 * sizeof(T);
    from &= 255;
    length &= 255;
    if (length == 0) return 0;
    const uint32_t sign = std::min(from + length - 1, kBits - 1);
    const bool fills = std::is_signed_v<T> && (static_cast<std::make_unsigned_t<T>>(a) >> sign & 1) != 0;
    std::make_unsigned_t<T> result = 0;
    for (uint32_t i = 0; i < kBits; ++i) {
      const bool bit = i < length && from + i < kBits ? static_cast<std::make_unsigned_t<T>>(a) >> (from + i) & 1 : fills;
      result |= static_cast<std::make_unsigned_t<T>>(bit) << i;
    }
    return static_cast<T>(result);
  }
};
struct InsertField {
  template <class T>
  T operator()(T a, T b, uint32_t from, uint32_t length) const {
    constexpr uint32_t kBits = 8 * sizeof(T);
    from &= 255;
    length &= 255;
    if (length == 0 || from >= kBits) return b;
    const T mask = length >= kBits ? ~T{0} : static_cast<T>((T{1} << length) - 1);
    return static_cast<T>((b & ~(mask << from)) | (a & mask) << from);
  }
};

void build_bfe(Building& b) {
  with_integer(b, b.words.take_type(), [&]<class T>(T) { build_lanes<ExtractField, T, T, uint32_t, uint32_t>(b); });
}
void build_bfi(Building& b) {
  if (b.words.take_type() == Type::b64) return build_lanes<InsertField, uint64_t, uint64_t, uint64_t, uint32_t, uint32_t>(b);
  build_lanes<InsertField, uint32_t, uint32_t, uint32_t, uint32_t, uint32_t>(b);
}

// Of two registers, the higher one second.
template <bool kLeft, bool kWraps>
struct FunnelShift {
  uint32_t operator()(uint32_t a, uint32_t b, uint32_t by) const {
    by = kWraps ? by & 31 : std::min(by, 32u);
    const uint64_t both = static_cast<uint64_t>(b) << 32 | a;
    return static_cast<uint32_t>(kLeft ? both << by >> 32 : both >> by);
  }
};

void build_shf(Building& b) {
  if (b.words.take_type() != Type::b32) b.words.unknown();
  const bool left = b.words.take_one({"l", "r"}) == "l", wraps = b.words.take_one({"wrap", "clamp"}) == "wrap";
  const auto build = [&]<bool kLeft, bool kWraps>() {
    build_lanes<FunnelShift<kLeft, kWraps>, uint32_t, uint32_t, uint32_t, uint32_t>(b);
  };
  if (left) return wraps ? build.operator()<true, true>() : build.operator()<true, false>();
  wraps ? build.operator()<false, true>() : build.operator()<false, false>();
}

struct CountBits {
  template <class T>
  uint32_t operator()(T a) const {
    return static_cast<uint32_t>(std::popcount(a));
  }
};
struct CountZeros {
  template <class T>
  uint32_t operator()(T a) const {
    return static_cast<uint32_t>(std::countl_zero(a));
  }
};
struct Reverse {
  template <class T>
  T operator()(T a) const {
    T result = 0;
    for (size_t i = 0; i < 8 * sizeof(T); ++i) result = static_cast<T>(result << 1 | (a >> i & 1));
    return result;
  }
};
// The place of the highest bit, of negative numbers the highest that is no sign; or how far it is from the top.
template <bool kFromTop>
struct FindBit {
  template <class T>
  uint32_t operator()(T a) const {
    using U = std::make_unsigned_t<T>;
    const U bits = std::is_signed_v<T> && a < 0 ? static_cast<U>(~a) : static_cast<U>(a);
    if (bits == 0) return ~0u;
    const auto above = static_cast<uint32_t>(std::countl_zero(bits));
    return kFromTop ? above : static_cast<uint32_t>(8 * sizeof(T) - 1) - above;
  }
};

template <class Operation>
void build_count(Building& b) {
  if (bits_of(b.words.take_type()) == 64) return build_lanes<Operation, uint32_t, uint64_t>(b);
  build_lanes<Operation, uint32_t, uint32_t>(b);
}
void build_brev(Building& b) {
  if (bits_of(b.words.take_type()) == 64) return build_lanes<Reverse, uint64_t, uint64_t>(b);
  build_lanes<Reverse, uint32_t, uint32_t>(b);
}
void build_bfind(Building& b) {
  with_integer(b, b.words.take_type(), [&]<class T>(T) {
    b.words.take("shiftamt") ? build_lanes<FindBit<true>, uint32_t, T>(b) : build_lanes<FindBit<false>, uint32_t, T>(b);
  });
}
void build_prmt(Building& b) {
  if (b.words.take_type() != Type::b32) b.words.unknown();
  build_lanes<Permute, uint32_t, uint32_t, uint32_t, uint32_t>(b);
}

// Generic addresses are those of global memory, and beyond them those of shared memory.
template <bool kFromGeneric>
struct SharedAddress {
  uint64_t operator()(uint64_t a) const { return kFromGeneric ? a - kSharedWindow : a + kSharedWindow; }
};
void build_cvta(Building& b) {
  if (b.words.take_type() != Type::u64) b.words.unknown();
  const bool from_generic = b.words.take("to");
  if (b.words.take_one({"global", "shared"}) == "global") return build_lanes<Same, uint64_t, uint64_t>(b);
  from_generic ? build_lanes<SharedAddress<true>, uint64_t, uint64_t>(b)
               : build_lanes<SharedAddress<false>, uint64_t, uint64_t>(b);
}

}  // namespace

void add_logic(std::map<std::string, Builder>& builders) {
  builders["and"] = build_bits<And>;
  builders["or"] = build_bits<Or>;
  builders["xor"] = build_bits<Xor>;
  builders["not"] = build_bits<Not>;
  builders["shl"] = build_shift<ShiftLeft>;
  builders["shr"] = build_shift<ShiftRight>;
  builders["setp"] = build_setp;
  builders["selp"] = build_selp;
  builders["mov"] = build_mov;
  builders["lop3"] = build_lop3;
  builders["prmt"] = build_prmt;
  builders["bfe"] = build_bfe;
  builders["bfi"] = build_bfi;
  builders["shf"] = build_shf;
  builders["popc"] = build_count<CountBits>;
  builders["clz"] = build_count<CountZeros>;
  builders["brev"] = build_brev;
  builders["bfind"] = build_bfind;
  builders["cvta"] = build_cvta;
}

}  // namespace ptx_machine
