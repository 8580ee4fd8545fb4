// What the lanes of a warp do together: exchanges, votes, barriers and the matrices of ldmatrix.
#include <algorithm>
#include <array>

#include "lanes.h"

namespace ptx_machine {
namespace {

enum Exchange : int64_t { kButterfly, kDown, kUp, kIndex };

// d, perhaps a predicate, a, b, c. PTX ISA, "shfl.sync".
template <bool kHasPredicate>
void shuffle(Warp& warp, const Instruction& in, Mask mask) {
  constexpr size_t kFirst = kHasPredicate ? 2 : 1;
  const uint32_t *values = warp.at<uint32_t>(in.operands[kFirst]), *others = warp.at<uint32_t>(in.operands[kFirst + 1]),
                 *clamps = warp.at<uint32_t>(in.operands[kFirst + 2]);
  std::array<uint32_t, kLanes> results{};
  Mask inside = 0;
  for_lanes(mask, [&](unsigned lane) {
    const unsigned by = others[lane] & 31, clamp = clamps[lane] & 31, segment = clamps[lane] >> 8 & 31;
    const unsigned most = (lane & segment) | (clamp & ~segment), least = lane & segment;
    unsigned from = lane;
    bool is_inside = false;
    switch (in.immediate) {
      case kUp:
        from = lane - by;
        is_inside = static_cast<int>(from) >= static_cast<int>(most);
        break;
      case kDown:
        from = lane + by;
        is_inside = from <= most;
        break;
      case kButterfly:
        from = lane ^ by;
        is_inside = from <= most;
        break;
      default:
        from = least | (by & ~segment);
        is_inside = from <= most;
    }
    if (!is_inside) from = lane;
    if ((mask >> from & 1) == 0) warp.fault("lane " + std::to_string(lane) + " takes a value of a lane that is not there");
    results[lane] = values[from];
    inside |= static_cast<Mask>(is_inside) << lane;
  });
  for_lanes(mask, [&](unsigned lane) { warp.at<uint32_t>(in.operands[0])[lane] = results[lane]; });
  if constexpr (kHasPredicate) {
    Mask& to = warp.predicate(in.operands[1]);
    to = (to & ~mask) | (inside & mask);
  }
}

void take_members(Building& b, size_t argument) {
  b.instruction.flow = Flow::together;
  b.instruction.members = b.assembler.place(b.argument(argument).parts[0], 32);
}

void build_shfl(Building& b) {
  if (!b.words.take("sync") || b.words.take_type() != Type::b32) b.words.unknown();
  const std::string mode = b.words.take_one({"bfly", "down", "up", "idx"});
  b.instruction.immediate = mode == "bfly" ? kButterfly : mode == "down" ? kDown : mode == "up" ? kUp : kIndex;
  const bool has_predicate = b.argument(0).parts.size() == 2;
  b.operands.push_back(b.assembler.place(b.argument(0).parts[0], 32));
  if (has_predicate) b.operands.push_back(b.assembler.place(b.argument(0).parts[1], 1));
  for (size_t i = 1; i < 4; ++i) b.add(i, 32);
  take_members(b, 4);
  b.instruction.step = has_predicate ? shuffle<true> : shuffle<false>;
}

void set(Warp& warp, uint32_t place, Mask mask, uint32_t value) {
  for_lanes(mask, [&](unsigned lane) { warp.at<uint32_t>(place)[lane] = value; });
}

enum Vote : int64_t { kBallot, kAny, kAllOf, kUniform };

// d, the predicate; bit 8 of the immediate: it is negated.
void vote(Warp& warp, const Instruction& in, Mask mask) {
  const Mask given = warp.predicate(in.operands[1]);
  const Mask votes = (in.immediate & 256 ? ~given : given) & mask;
  if ((in.immediate & 255) == kBallot) return set(warp, in.operands[0], mask, votes);
  const bool result = (in.immediate & 255) == kAny      ? votes != 0
                      : (in.immediate & 255) == kAllOf ? votes == mask
                                                       : votes == 0 || votes == mask;
  Mask& to = warp.predicate(in.operands[0]);
  to = (to & ~mask) | (result ? mask : 0);
}

void build_vote(Building& b) {
  if (!b.words.take("sync")) b.words.unknown();
  const Type type = b.words.take_type();
  const std::string mode = b.words.take_one({"ballot", "any", "all", "uni"});
  const Operand predicate = b.assembler.operand(b.argument(1).parts[0], 1);
  b.instruction.immediate = (mode == "ballot" ? kBallot : mode == "any" ? kAny : mode == "all" ? kAllOf : kUniform) |
                            (predicate.negated ? 256 : 0);
  b.add(0, bits_of(type));
  b.operands.push_back(predicate.kind == Operand::Kind::constant ? b.assembler.constant(1, predicate.value)
                                                                 : predicate.place);
  take_members(b, 2);
  b.instruction.step = vote;
}

// The lanes with the same value.
template <class T>
void match(Warp& warp, const Instruction& in, Mask mask) {
  const T* values = warp.at<T>(in.operands[1]);
  std::array<Mask, kLanes> same{};
  for_lanes(mask, [&](unsigned lane) {
    for_lanes(mask, [&](unsigned other) { same[lane] |= static_cast<Mask>(values[other] == values[lane]) << other; });
  });
  for_lanes(mask, [&](unsigned lane) { warp.at<uint32_t>(in.operands[0])[lane] = same[lane]; });
}

void build_match(Building& b) {
  if (!b.words.take("any") || !b.words.take("sync")) b.words.unknown();
  const unsigned bits = bits_of(b.words.take_type());
  b.add(0, 32);
  b.add(1, bits);
  take_members(b, 2);
  b.instruction.step = bits == 64 ? match<uint64_t> : match<uint32_t>;
}

enum Reduction : int64_t { kSum, kLeast, kMost, kBitAnd, kBitOr };

template <class T>
void reduce(Warp& warp, const Instruction& in, Mask mask) {
  const T* values = warp.at<T>(in.operands[1]);
  T result = values[std::countr_zero(mask)];
  for_lanes(mask & (mask - 1), [&](unsigned lane) {
    const T value = values[lane];
    switch (in.immediate) {
      case kSum: result = static_cast<T>(static_cast<uint32_t>(result) + static_cast<uint32_t>(value)); break;
      case kLeast: result = std::min(result, value); break;
      case kMost: result = std::max(result, value); break;
      case kBitAnd: result &= value; break;
      default: result |= value;
    }
  });
  set(warp, in.operands[0], mask, static_cast<uint32_t>(result));
}

void build_redux(Building& b) {
  if (!b.words.take("sync")) b.words.unknown();
  const Type type = b.words.take_type();
  const std::string mode = b.words.take_one({"add", "min", "max", "and", "or"});
  b.instruction.immediate = mode == "add"   ? kSum
                            : mode == "min" ? kLeast
                            : mode == "max" ? kMost
                            : mode == "and" ? kBitAnd
                                            : kBitOr;
  b.add(0, 32);
  b.add(1, 32);
  take_members(b, 2);
  b.instruction.step = type == Type::s32 ? reduce<int32_t> : reduce<uint32_t>;
}

void active(Warp& warp, const Instruction& in, Mask mask) { set(warp, in.operands[0], mask, mask); }

void build_activemask(Building& b) {
  if (b.words.take_type() != Type::b32) b.words.unknown();
  b.add(0, 32);
  b.instruction.step = active;
}

void nothing(Warp&, const Instruction&, Mask) {}

void build_bar(Building& b) {
  b.words.take("cta");
  if (b.words.take("warp")) {
    if (!b.words.take("sync")) b.words.unknown();
    take_members(b, 0);
    b.instruction.step = nothing;
    return;
  }
  b.instruction.flow = b.words.take_one({"sync", "arrive"}) == "sync" ? Flow::barrier : Flow::arrive;
  b.words.take("aligned");
  for (size_t i = 0; i < b.count(); ++i) b.add(i, 32);
}

// Matrices of 8 rows of 16 bytes, to the registers of a warp or from them. PTX ISA, "ldmatrix" and "stmatrix".
template <bool kStores, bool kTransposes>
void matrices(Warp& warp, const Instruction& in, Mask) {
  constexpr unsigned kRows = 8;
  const size_t count = in.count - 1;
  const uint32_t* registers = in.operands + (kStores ? 1 : 0);
  const uint32_t* addresses = warp.at<uint32_t>(in.operands[kStores ? 0 : count]);
  for (size_t matrix = 0; matrix < count; ++matrix) {
    uint16_t elements[kRows][kRows];
    std::byte* rows[kRows];
    for (unsigned row = 0; row < kRows; ++row) {
      rows[row] = warp.shared(addresses[matrix * kRows + row] + static_cast<uint64_t>(in.immediate), 16);
      if constexpr (!kStores) std::memcpy(elements[row], rows[row], 16);
    }
    uint32_t* values = warp.at<uint32_t>(registers[matrix]);
    for (unsigned lane = 0; lane < kLanes; ++lane) {
      const unsigned row = lane / 4, column = lane % 4 * 2;
      const auto element = [&](unsigned i) -> uint16_t& {
        return kTransposes ? elements[column + i][row] : elements[row][column + i];
      };
      if constexpr (kStores) {
        element(0) = static_cast<uint16_t>(values[lane]);
        element(1) = static_cast<uint16_t>(values[lane] >> 16);
      } else {
        values[lane] = static_cast<uint32_t>(element(1)) << 16 | element(0);
      }
    }
    if constexpr (kStores) {
      for (unsigned row = 0; row < kRows; ++row) std::memcpy(rows[row], elements[row], 16);
    }
  }
}

template <bool kStores>
void build_matrices(Building& b) {
  for (std::string_view word : {"sync", "aligned", "m8n8"}) {
    if (!b.words.take(word)) b.words.unknown();
  }
  if (b.words.take_type() != Type::b16) b.words.unknown();
  if (!b.words.take("shared") && !b.words.take("shared::cta")) b.words.unknown();
  const bool transposes = b.words.take("trans");
  const size_t count = b.words.take("x4") ? 4 : b.words.take("x2") ? 2 : (b.words.take_one({"x1"}), 1);
  const size_t registers = kStores ? 1 : 0;
  if (b.argument(registers).parts.size() != count) b.words.unknown();
  if (kStores && b.add_address(0) != 32) b.words.unknown();
  b.add_parts(registers, 32);
  if (!kStores && b.add_address(1) != 32) b.words.unknown();
  b.instruction.flow = Flow::together;
  b.instruction.step = transposes ? matrices<kStores, true> : matrices<kStores, false>;
}

void leave(Warp&, const Instruction&, Mask) {}
void build_leave(Building& b) {
  b.words.take("uni");
  b.instruction.flow = Flow::leave;
  b.instruction.step = leave;
}

void trap(Warp& warp, const Instruction&, Mask) { warp.fault("a trap"); }
void build_trap(Building& b) { b.instruction.step = trap; }

}  // namespace

void add_lanes(std::map<std::string, Builder>& builders) {
  builders["shfl"] = build_shfl;
  builders["vote"] = build_vote;
  builders["match"] = build_match;
  builders["redux"] = build_redux;
  builders["activemask"] = build_activemask;
  builders["bar"] = build_bar;
  builders["barrier"] = build_bar;
  builders["ldmatrix"] = build_matrices<false>;
  builders["stmatrix"] = build_matrices<true>;
}

void add_control(std::map<std::string, Builder>& builders) {
  builders["ret"] = build_leave;
  builders["exit"] = build_leave;
  builders["trap"] = build_trap;
}

}  // namespace ptx_machine
