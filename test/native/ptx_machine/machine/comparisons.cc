// Comparisons, and selection by their results.
#include <type_traits>

#include "lanes.h"

namespace ptx_machine {
namespace {

// Where an operand is NaN, comparisons of floats are false, and those with a u are true.
struct Equal {
  template <class T>
  bool operator()(T a, T b) const {
    return a == b;
  }
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
  bool operator()(T a, T b) const {
    return a < b;
  }
};
struct LessEqual {
  template <class T>
  bool operator()(T a, T b) const {
    return a <= b;
  }
};
struct Greater {
  template <class T>
  bool operator()(T a, T b) const {
    return a > b;
  }
};
struct GreaterEqual {
  template <class T>
  bool operator()(T a, T b) const {
    return a >= b;
  }
};
template <class Comparison>
struct Unordered {
  template <class T>
  bool operator()(T a, T b) const {
    return a != a || b != b || Comparison{}(a, b);
  }
};
struct IsNumber {
  template <class T>
  bool operator()(T a, T b) const {
    return a == a && b == b;
  }
};
struct IsNan {
  template <class T>
  bool operator()(T a, T b) const {
    return a != a || b != b;
  }
};

enum class Combine { none, with_and, with_or, with_xor };

// The second result is the opposite of the comparison. Another predicate is combined with both.
struct Setp {
  bool has_second = false, other_negated = false;
  Combine combine = Combine::none;
};

Mask combine(Combine how, Mask a, Mask b) {
  switch (how) {
    case Combine::with_and: return a & b;
    case Combine::with_or: return a | b;
    case Combine::with_xor: return a ^ b;
    case Combine::none: break;
  }
  return a;
}

// The one or two results, a, b, and perhaps the other predicate.
template <class Comparison, class T>
void compare(Warp& warp, const Instruction& in, Mask mask) {
  const auto& setp = *static_cast<const Setp*>(in.details);
  const uint32_t* sources = in.operands + (setp.has_second ? 2 : 1);
  const T *a = warp.at<T>(sources[0]), *b = warp.at<T>(sources[1]);
  Mask result = 0;
  for (unsigned lane = 0; lane < kLanes; ++lane) result |= static_cast<Mask>(Comparison{}(a[lane], b[lane])) << lane;
  Mask opposite = ~result;
  if (setp.combine != Combine::none) {
    const Mask other = setp.other_negated ? ~warp.predicate(sources[2]) : warp.predicate(sources[2]);
    result = combine(setp.combine, result, other);
    opposite = combine(setp.combine, opposite, other);
  }
  set_predicate(warp, in.operands[0], mask, result);
  if (setp.has_second) set_predicate(warp, in.operands[1], mask, opposite);
}

template <class T>
Step comparison(const std::string& name) {
  if (name == "eq") return compare<Equal, T>;
  if (name == "ne") return compare<NotEqual, T>;
  if (name == "lt") return compare<Less, T>;
  if (name == "le") return compare<LessEqual, T>;
  if (name == "gt") return compare<Greater, T>;
  if (name == "ge") return compare<GreaterEqual, T>;
  if constexpr (std::is_floating_point_v<T>) {
    if (name == "ltu") return compare<Unordered<Less>, T>;
    if (name == "leu") return compare<Unordered<LessEqual>, T>;
    if (name == "gtu") return compare<Unordered<Greater>, T>;
    if (name == "geu") return compare<Unordered<GreaterEqual>, T>;
    if (name == "equ") return compare<Unordered<Equal>, T>;
    if (name == "neu") return compare<Unordered<NotEqual>, T>;
    if (name == "num") return compare<IsNumber, T>;
    if (name == "nan") return compare<IsNan, T>;
  } else if constexpr (std::is_unsigned_v<T>) {
    if (name == "lo") return compare<Less, T>;
    if (name == "ls") return compare<LessEqual, T>;
    if (name == "hi") return compare<Greater, T>;
    if (name == "hs") return compare<GreaterEqual, T>;
  }
  Words::unknown();
}

void build_setp(Building& b) {
  const Type type = b.words.take_type();
  const std::string name = b.words.take_one({"eq", "ne", "lt", "le", "gt", "ge", "lo", "ls", "hi", "hs", "equ", "neu",
                                             "ltu", "leu", "gtu", "geu", "num", "nan"});
  Setp setp;
  setp.has_second = b.argument(0).parts.size() == 2;
  const auto combine =
      b.words.take_value<Combine>({{"and", Combine::with_and}, {"or", Combine::with_or}, {"xor", Combine::with_xor}});
  setp.combine = combine.value_or(Combine::none);
  b.add_parts(0, 1);
  b.add(1, bits_of(type));
  b.add(2, bits_of(type));
  if (setp.combine != Combine::none) setp.other_negated = b.add_predicate(3);
  b.set_details(setp);
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

}  // namespace

void add_comparisons(Builders& builders) {
  builders["setp"] = build_setp;
  builders["selp"] = build_selp;
}

}  // namespace ptx_machine
