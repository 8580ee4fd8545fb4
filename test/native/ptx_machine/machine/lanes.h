// Steps that do the same for each lane.
#pragma once

#include <tuple>
#include <utility>

#include "assembler.h"
#include "warp.h"

namespace ptx_machine {

// d = operation(a, b, ...), of the types Result and Sources.
template <class Operation, class Result, class... Sources, size_t... kIndex>
void each_lane(Warp& warp, const Instruction& in, Mask mask, std::index_sequence<kIndex...>) {
  Result* result = warp.at<Result>(in.operands[0]);
  const std::tuple<const Sources*...> sources{warp.at<const Sources>(in.operands[1 + kIndex])...};
  if (mask == kAll) {
#pragma GCC ivdep
    for (unsigned lane = 0; lane < kLanes; ++lane) result[lane] = Operation{}(std::get<kIndex>(sources)[lane]...);
    return;
  }
  for_lanes(mask, [&](unsigned lane) { result[lane] = Operation{}(std::get<kIndex>(sources)[lane]...); });
}

template <class Operation, class Result, class... Sources>
void each_lane(Warp& warp, const Instruction& in, Mask mask) {
  each_lane<Operation, Result, Sources...>(warp, in, mask, std::index_sequence_for<Sources...>{});
}

// Adds the result and the sources, and the step.
template <class Operation, class Result, class... Sources>
void build_lanes(Building& b) {
  b.add(0, 8 * sizeof(Result));
  size_t index = 1;
  (b.add(index++, 8 * sizeof(Sources)), ...);
  b.instruction.step = each_lane<Operation, Result, Sources...>;
}

// Calls `body` with a value of the integer type.
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
