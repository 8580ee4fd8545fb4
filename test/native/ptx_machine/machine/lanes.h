// Steps that do the same in every lane, and steps for builders of several files.
#pragma once

#include <tuple>
#include <utility>

#include "assembler.h"
#include "warp.h"

namespace ptx_machine {

// d = operation(a, b, ...), where d is a Result and a, b, ... are Sources.
template <class Operation, class Result, class... Sources, size_t... kIndex>
void each_lane(Warp& warp, const Instruction& in, Mask mask, std::index_sequence<kIndex...>) {
  Result* result = warp.at<Result>(in.operands[0]);
  const std::tuple<const Sources*...> sources{warp.at<const Sources>(in.operands[1 + kIndex])...};
  if (mask == kAll) {
    // Lanes do not depend on each other, even where the result's register is a source too. Clang finds out by itself.
#ifndef __clang__
#pragma GCC ivdep
#endif
    for (unsigned lane = 0; lane < kLanes; ++lane) result[lane] = Operation{}(std::get<kIndex>(sources)[lane]...);
    return;
  }
  for_lanes(mask, [&](unsigned lane) { result[lane] = Operation{}(std::get<kIndex>(sources)[lane]...); });
}

template <class Operation, class Result, class... Sources>
void each_lane(Warp& warp, const Instruction& in, Mask mask) {
  each_lane<Operation, Result, Sources...>(warp, in, mask, std::index_sequence_for<Sources...>{});
}

// Adds the operands and the step.
template <class Operation, class Result, class... Sources>
void build_lanes(Building& b) {
  b.add(0, 8 * sizeof(Result));
  size_t index = 1;
  (b.add(index++, 8 * sizeof(Sources)), ...);
  b.instruction.step = each_lane<Operation, Result, Sources...>;
}

inline void nothing(Warp&, const Instruction&, Mask) {}

// The lanes of `mask` get a result; the others keep what they have.
inline void set(Warp& warp, uint32_t place, Mask mask, uint32_t value) {
  for_lanes(mask, [&](unsigned lane) { warp.at<uint32_t>(place)[lane] = value; });
}
inline void set_predicate(Warp& warp, uint32_t place, Mask mask, Mask values) {
  Mask& predicate = warp.predicate(place);
  predicate = (predicate & ~mask) | (values & mask);
}

// Calls `body` with a value of the C++ type for a PTX integer type.
template <class Body>
void with_integer(Building& b, Type type, Body&& body) {
  switch (type) {
    case Type::b16:
    case Type::u16: return body(uint16_t{});
    case Type::s16: return body(int16_t{});
    case Type::b32:
    case Type::u32: return body(uint32_t{});
    case Type::s32: return body(int32_t{});
    case Type::b64:
    case Type::u64: return body(uint64_t{});
    case Type::s64: return body(int64_t{});
    default: b.words.unknown();
  }
}

}  // namespace ptx_machine
