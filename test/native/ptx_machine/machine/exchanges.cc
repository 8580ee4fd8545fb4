// Exchanges between the lanes of a warp: shuffles, votes, matches and reductions.
#include <algorithm>
#include <array>

#include "lanes.h"

namespace ptx_machine {
namespace {

enum class Shuffle : int64_t { butterfly, down, up, index };

// d, perhaps whether the lane is in range, the value, the other lane, and the clamp. PTX ISA, "shfl.sync".
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
    switch (static_cast<Shuffle>(in.immediate)) {
      case Shuffle::up:
        from = lane - by;
        is_inside = static_cast<int>(from) >= static_cast<int>(most);
        break;
      case Shuffle::down:
        from = lane + by;
        is_inside = from <= most;
        break;
      case Shuffle::butterfly:
        from = lane ^ by;
        is_inside = from <= most;
        break;
      case Shuffle::index: from = least | (by & ~segment); is_inside = from <= most;
    }
    if (!is_inside) from = lane;
    if ((mask >> from & 1) == 0) {
      warp.fault("lane " + std::to_string(lane) + " takes the value of lane " + std::to_string(from) +
                 ", which does not take part");
    }
    results[lane] = values[from];
    inside |= static_cast<Mask>(is_inside) << lane;
  });
  for_lanes(mask, [&](unsigned lane) { warp.at<uint32_t>(in.operands[0])[lane] = results[lane]; });
  if constexpr (kHasPredicate) set_predicate(warp, in.operands[1], mask, inside);
}

void build_shfl(Building& b) {
  b.words.expect({"sync"});
  if (b.words.take_type() != Type::b32) b.words.unknown();
  b.instruction.immediate = static_cast<int64_t>(b.words.expect_value<Shuffle>(
      {{"bfly", Shuffle::butterfly}, {"down", Shuffle::down}, {"up", Shuffle::up}, {"idx", Shuffle::index}}));
  const auto& results = b.argument(0).parts;
  b.operands.push_back(b.assembler.place(results.at(0), 32));
  if (results.size() > 1) b.operands.push_back(b.assembler.place(results[1], 1));
  for (size_t i = 1; i < 4; ++i) b.add(i, 32);
  b.take_members(4);
  b.instruction.step = results.size() > 1 ? shuffle<true> : shuffle<false>;
}

enum class Vote { ballot, any, all, uniform };

struct Votes {
  Vote vote;
  bool negated;
};

// d and the predicate.
void vote(Warp& warp, const Instruction& in, Mask mask) {
  const auto [kind, negated] = *static_cast<const Votes*>(in.details);
  const Mask given = warp.predicate(in.operands[1]);
  const Mask votes = (negated ? ~given : given) & mask;
  bool result = false;
  switch (kind) {
    case Vote::ballot: return set(warp, in.operands[0], mask, votes);
    case Vote::any: result = votes != 0; break;
    case Vote::all: result = votes == mask; break;
    case Vote::uniform: result = votes == 0 || votes == mask; break;
  }
  set_predicate(warp, in.operands[0], mask, result ? kAll : 0);
}

void build_vote(Building& b) {
  b.words.expect({"sync"});
  const Type type = b.words.take_type();
  const auto kind = b.words.expect_value<Vote>(
      {{"ballot", Vote::ballot}, {"any", Vote::any}, {"all", Vote::all}, {"uni", Vote::uniform}});
  if (type != (kind == Vote::ballot ? Type::b32 : Type::pred)) b.words.unknown();
  b.add(0, bits_of(type));
  const bool negated = b.add_predicate(1);
  b.set_details(Votes{kind, negated});
  b.take_members(2);
  b.instruction.step = vote;
}

// The lanes that have the same value.
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
  b.words.expect({"any", "sync"});
  const unsigned bits = bits_of(b.words.take_type());
  b.add(0, 32);
  b.add(1, bits);
  b.take_members(2);
  b.instruction.step = bits == 64 ? match<uint64_t> : match<uint32_t>;
}

enum class Reduction : int64_t { add, min, max, with_and, with_or };

template <class T>
void reduce(Warp& warp, const Instruction& in, Mask mask) {
  const T* values = warp.at<T>(in.operands[1]);
  T result = values[std::countr_zero(mask)];
  for_lanes(mask & (mask - 1), [&](unsigned lane) {
    const T value = values[lane];
    switch (static_cast<Reduction>(in.immediate)) {
      case Reduction::add: result = static_cast<T>(static_cast<uint32_t>(result) + static_cast<uint32_t>(value)); break;
      case Reduction::min: result = std::min(result, value); break;
      case Reduction::max: result = std::max(result, value); break;
      case Reduction::with_and: result &= value; break;
      case Reduction::with_or: result |= value; break;
    }
  });
  set(warp, in.operands[0], mask, static_cast<uint32_t>(result));
}

void build_redux(Building& b) {
  b.words.expect({"sync"});
  const Type type = b.words.take_type();
  b.instruction.immediate = static_cast<int64_t>(b.words.expect_value<Reduction>({{"add", Reduction::add},
                                                                                  {"min", Reduction::min},
                                                                                  {"max", Reduction::max},
                                                                                  {"and", Reduction::with_and},
                                                                                  {"or", Reduction::with_or}}));
  b.add(0, 32);
  b.add(1, 32);
  b.take_members(2);
  b.instruction.step = type == Type::s32 ? reduce<int32_t> : reduce<uint32_t>;
}

void active(Warp& warp, const Instruction& in, Mask mask) { set(warp, in.operands[0], mask, mask); }

void build_activemask(Building& b) {
  if (b.words.take_type() != Type::b32) b.words.unknown();
  b.add(0, 32);
  b.instruction.step = active;
}

}  // namespace

void add_exchanges(Builders& builders) {
  builders["shfl"] = build_shfl;
  builders["vote"] = build_vote;
  builders["match"] = build_match;
  builders["redux"] = build_redux;
  builders["activemask"] = build_activemask;
}

}  // namespace ptx_machine
