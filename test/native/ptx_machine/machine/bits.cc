// Logic, shifts and fields of bits.
#include <algorithm>
#include <bit>
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
// Shifts by more bits than there are shift all of them out.
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
  if constexpr (std::is_invocable_v<Operation, Mask, Mask>) {
    set_predicate(warp, in.operands[0], mask,
                  Operation{}(warp.predicate(in.operands[1]), warp.predicate(in.operands[2])));
  } else {
    set_predicate(warp, in.operands[0], mask, Operation{}(warp.predicate(in.operands[1])));
  }
}

template <class Operation>
void build_bits(Building& b) {
  const Type type = b.words.take_type();
  if (type == Type::pred) {
    constexpr size_t kOperands = std::is_invocable_v<Operation, Mask, Mask> ? 3 : 2;
    for (size_t i = 0; i < kOperands; ++i) b.add(i, 1);
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

// Bit i of the immediate is the result where the bits of a, b and c make up i.
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
  b.instruction.immediate = static_cast<int64_t>(b.number(4));
  b.instruction.step = lop3;
}

// Each of four digits of c chooses a byte of b and a. With the digit's highest bit, the byte's sign fills the result.
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
      const bool bit =
          i < length && from + i < kBits ? static_cast<std::make_unsigned_t<T>>(a) >> (from + i) & 1 : fills;
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
  if (b.words.take_type() == Type::b64)
    return build_lanes<InsertField, uint64_t, uint64_t, uint64_t, uint32_t, uint32_t>(b);
  build_lanes<InsertField, uint32_t, uint32_t, uint32_t, uint32_t, uint32_t>(b);
}

// Shifts two registers as one; b is the upper half.
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
// The place of the highest bit that is not a copy of the sign, or with kFromTop, the shift that brings it to the top.
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

}  // namespace

void add_bits(Builders& builders) {
  builders["and"] = build_bits<And>;
  builders["or"] = build_bits<Or>;
  builders["xor"] = build_bits<Xor>;
  builders["not"] = build_bits<Not>;
  builders["shl"] = build_shift<ShiftLeft>;
  builders["shr"] = build_shift<ShiftRight>;
  builders["lop3"] = build_lop3;
  builders["prmt"] = build_prmt;
  builders["bfe"] = build_bfe;
  builders["bfi"] = build_bfi;
  builders["shf"] = build_shf;
  builders["popc"] = build_count<CountBits>;
  builders["clz"] = build_count<CountZeros>;
  builders["brev"] = build_brev;
  builders["bfind"] = build_bfind;
}

}  // namespace ptx_machine
