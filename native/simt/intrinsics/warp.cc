#include "simt/intrinsics/warp.h"

#include <algorithm>

#include "simt/report.h"

namespace moe::simt::machine {

namespace {

template <class Function>
void for_each_lane(uint32_t mask, Function&& function) {
  for (uint32_t left = mask; left != 0; left &= left - 1) function(static_cast<unsigned>(std::countr_zero(left)));
}

void exchange(const Call& call, uint32_t mask, void* const* operands) {
  const auto operand = [&](unsigned lane) { return static_cast<ShuffleOperand*>(operands[lane]); };
  for_each_lane(mask, [&](unsigned lane) {
    const unsigned source = operand(lane)->source;
    if ((mask >> source & 1) == 0) {
      fail(call, "lane " + std::to_string(lane) + " reads lane " + std::to_string(source) + ", which is not in " +
                     mask_text(mask));
    }
    operand(lane)->result = operand(source)->value;
  });
}

void count_votes(const Call&, uint32_t mask, void* const* operands) {
  uint32_t ballot = 0;
  for_each_lane(mask, [&](unsigned lane) {
    ballot |= static_cast<uint32_t>(static_cast<VoteOperand*>(operands[lane])->predicate) << lane;
  });
  for_each_lane(mask, [&](unsigned lane) { static_cast<VoteOperand*>(operands[lane])->ballot = ballot; });
}

void find_equal(const Call&, uint32_t mask, void* const* operands) {
  const auto operand = [&](unsigned lane) { return static_cast<MatchOperand*>(operands[lane]); };
  for_each_lane(mask, [&](unsigned lane) {
    for_each_lane(mask, [&](unsigned other) {
      operand(lane)->equal |= static_cast<uint32_t>(operand(other)->value == operand(lane)->value) << other;
    });
  });
}

// Every lane gets the operation's result over all lanes' values, read as T.
template <class T, class Operation>
void reduce_all(const Call&, uint32_t mask, void* const* operands) {
  const auto operand = [&](unsigned lane) { return static_cast<ReduceOperand*>(operands[lane]); };
  const unsigned first = static_cast<unsigned>(std::countr_zero(mask));
  T total = static_cast<T>(operand(first)->value);
  for_each_lane(mask & ~(1u << first),
                [&](unsigned lane) { total = Operation{}(total, static_cast<T>(operand(lane)->value)); });
  for_each_lane(mask, [&](unsigned lane) { operand(lane)->result = static_cast<uint32_t>(total); });
}

struct Min {
  template <class T>
  T operator()(T a, T b) const {
    return std::min(a, b);
  }
};
struct Max {
  template <class T>
  T operator()(T a, T b) const {
    return std::max(a, b);
  }
};

// Neither aligned nor ordering memory, like all of CUDA's warp functions except __syncwarp.
constexpr Collective exchange_of(const char* name, void (*perform)(const Call&, uint32_t, void* const*)) {
  return {name, false, false, perform};
}

}  // namespace

const Collective kSyncWarp{"__syncwarp", false, true, nullptr};
const Collective kShuffle = exchange_of("__shfl_sync", exchange);
const Collective kShuffleUp = exchange_of("__shfl_up_sync", exchange);
const Collective kShuffleDown = exchange_of("__shfl_down_sync", exchange);
const Collective kShuffleXor = exchange_of("__shfl_xor_sync", exchange);
const Collective kBallot = exchange_of("__ballot_sync", count_votes);
const Collective kAny = exchange_of("__any_sync", count_votes);
const Collective kAll = exchange_of("__all_sync", count_votes);
const Collective kMatchAny = exchange_of("__match_any_sync", find_equal);
const Collective kMatchAll = exchange_of("__match_all_sync", find_equal);
const Collective kReduceAdd = exchange_of("__reduce_add_sync", reduce_all<uint32_t, std::plus<>>);
const Collective kReduceMinSigned = exchange_of("__reduce_min_sync", reduce_all<int32_t, Min>);
const Collective kReduceMinUnsigned = exchange_of("__reduce_min_sync", reduce_all<uint32_t, Min>);
const Collective kReduceMaxSigned = exchange_of("__reduce_max_sync", reduce_all<int32_t, Max>);
const Collective kReduceMaxUnsigned = exchange_of("__reduce_max_sync", reduce_all<uint32_t, Max>);
const Collective kReduceAnd = exchange_of("__reduce_and_sync", reduce_all<uint32_t, std::bit_and<>>);
const Collective kReduceOr = exchange_of("__reduce_or_sync", reduce_all<uint32_t, std::bit_or<>>);
const Collective kReduceXor = exchange_of("__reduce_xor_sync", reduce_all<uint32_t, std::bit_xor<>>);

}  // namespace moe::simt::machine
