// Moves between registers, and between the kinds of addresses.
#include "lanes.h"

namespace ptx_machine {
namespace {

struct Same {
  template <class T>
  T operator()(T a) const {
    return a;
  }
};

void move_predicate(Warp& warp, const Instruction& in, Mask mask) {
  set_predicate(warp, in.operands[0], mask, warp.predicate(in.operands[1]));
}

// d from its parts, the lowest first.
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

// The parts of a register, the lowest first. Place 0: this part is ignored.
template <class Whole, class Part>
void split(Warp& warp, const Instruction& in, Mask mask) {
  const Whole* whole = warp.at<Whole>(in.operands[0]);
  for_lanes(mask, [&](unsigned lane) {
    const Whole value = whole[lane];
    for (size_t i = 0; i < sizeof(Whole) / sizeof(Part); ++i) {
      if (in.operands[1 + i] == 0) continue;
      warp.at<Part>(in.operands[1 + i])[lane] = static_cast<Part>(value >> (8 * sizeof(Part) * i));
    }
  });
}

void build_parts(Building& b, bool joins, unsigned bits) {
  const auto& names = b.argument(joins ? 1 : 0).parts;
  const auto part_bits = static_cast<unsigned>(bits / names.size());
  b.add(joins ? 0 : 1, bits);
  for (const std::string& name : names) {
    const bool is_ignored = !joins && name == "_";
    b.operands.push_back(is_ignored ? 0 : b.assembler.place(name, part_bits));
  }
  if (bits == 32 && names.size() == 2) {
    b.instruction.step = joins ? join<uint32_t, uint16_t> : split<uint32_t, uint16_t>;
  } else if (bits == 64 && names.size() == 2) {
    b.instruction.step = joins ? join<uint64_t, uint32_t> : split<uint64_t, uint32_t>;
  } else if (bits == 64 && names.size() == 4) {
    b.instruction.step = joins ? join<uint64_t, uint16_t> : split<uint64_t, uint16_t>;
  } else {
    b.words.unknown();
  }
}

void build_mov(Building& b) {
  const Type type = b.words.take_type();
  const unsigned bits = bits_of(type);
  if (b.argument(0).is_vector) return build_parts(b, false, bits);
  if (b.argument(1).is_vector) return build_parts(b, true, bits);
  switch (bits) {
    case 1:
      b.add(0, 1);
      b.add(1, 1);
      b.instruction.step = move_predicate;
      return;
    case 16: return build_lanes<Same, uint16_t, uint16_t>(b);
    case 32: return build_lanes<Same, uint32_t, uint32_t>(b);
    case 64: return build_lanes<Same, uint64_t, uint64_t>(b);
    default: b.words.unknown();
  }
}

// Generic addresses of global memory are its own.
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

void add_moves(Builders& builders) {
  builders["mov"] = build_mov;
  builders["cvta"] = build_cvta;
}

}  // namespace ptx_machine
