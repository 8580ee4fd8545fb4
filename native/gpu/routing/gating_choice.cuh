// How one warp finds the largest values one after another, among all experts or those of the best groups. Each is the
// best of those after the previous one in the order (rank descending, index ascending), so nothing has to be marked as
// taken.
#pragma once

#include <climits>
#include <cmath>

#include "core/float_order.h"
#include "gpu/tile/element.cuh"
#include "gpu/tile/reduce.cuh"

namespace moe::MOE_GPU_NAMESPACE {

// Integers in the order of the values: NaN is the smallest, and the two zeros are equal.
__device__ __forceinline__ uint32_t rank_of(float value) { return ~descending_order(value); }

__device__ __forceinline__ float value_of(uint32_t rank) {
  if (rank == 0) return NAN;
  return float_from_bits((rank >> 31) != 0 ? rank & 0x7fffffffu : ~rank);
}

// A place in the order. The default is before all others.
struct Ranked {
  uint32_t rank = UINT_MAX;
  int index = -1;

  __device__ bool before(uint32_t other_rank, int other_index) const {
    return other_rank < rank || (other_rank == rank && other_index > index);
  }
};

// Finds the first place after `last` among those shown to it, whose indices must ascend.
struct FirstAfter {
  Ranked last;
  Ranked best{0, INT_MAX};

  __device__ explicit FirstAfter(Ranked after) : last(after) {}
  __device__ __forceinline__ void show(uint32_t rank, int index) {
    if (last.before(rank, index) && (rank > best.rank || best.index == INT_MAX)) best = {rank, index};
  }
  // The first among those shown to all lanes.
  __device__ __forceinline__ Ranked of_warp() const {
    const uint32_t rank = __reduce_max_sync(kAllLanes, best.rank);
    return {rank, __reduce_min_sync(kAllLanes, best.rank == rank ? best.index : INT_MAX)};
  }
};

// The values source(0 .. count - 1). Each lane owns every 32nd. With kPerLane > 0 there are at most 32 * kPerLane, kept
// in registers; with kPerLane 0 there may be any number, computed again each time.
template <class Source, int kPerLane>
class LaneValues {
 public:
  static constexpr bool kKept = kPerLane > 0;

  __device__ LaneValues(const Source& source, int count) : source_(source), count_(count) {
    if constexpr (kKept) for_each_owned([&](int i, int index) { values_[i] = source(index); });
  }

  // Calls use(index, value) for values first .. end - 1 that are not excluded, in order.
  template <class Use>
  __device__ __forceinline__ void for_each(int first, int end, Use&& use) const {
    if constexpr (kKept) {
      for_each_owned([&](int i, int index) {
        if (index >= first && index < end && (excluded_ >> i & 1) == 0) use(index, values_[i]);
      });
    } else {
      for (int index = first + lane(); index < end; index += 32) use(index, source_(index));
    }
  }
  template <class Use>
  __device__ __forceinline__ void for_each(Use&& use) const {
    for_each(0, count_, use);
  }

  __device__ __forceinline__ void exclude(int first, int end) {
    for_each_owned([&](int i, int index) { excluded_ |= index >= first && index < end ? 1u << i : 0u; });
  }

  __device__ __forceinline__ int count() const { return count_; }

 private:
  __device__ static int lane() { return static_cast<int>(threadIdx.x % 32); }

  template <class Use>
  __device__ __forceinline__ void for_each_owned(Use&& use) const {
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const int index = lane() + 32 * i;
      if (index < count_) use(i, index);
    }
  }

  Source source_;
  int count_;
  uint32_t excluded_ = 0;
  float values_[kKept ? kPerLane : 1];
};

// The groups whose experts may be chosen. Nobody asks if there is only one.
template <class Keys>
class BestGroups {
 public:
  __device__ BestGroups(const Keys& keys, int groups, int top, int terms)
      : keys_(keys), groups_(groups), size_(keys.count() / groups), terms_(terms) {
    if (groups == 1) return;
    if (groups <= 32) {
      for (int group = 0; group < groups; ++group) {
        const float score = sum_of_largest(group);
        if (static_cast<int>(threadIdx.x % 32) == group) score_ = score;
      }
    }
    for (int i = 0; i < top; ++i) {
      FirstAfter next(last_);
      for (int group = 0; group < groups; ++group) next.show(rank_of(score(group)), group);
      last_ = next.best;
    }
  }

  __device__ bool contains(int group) const {
    const uint32_t rank = rank_of(score(group));
    return group == last_.index || !last_.before(rank, group);
  }
  __device__ int count() const { return groups_; }
  __device__ int size() const { return size_; }

 private:
  // A lane keeps one group's score; with more than 32 groups, scores are computed again.
  __device__ float score(int group) const {
    return groups_ <= 32 ? __shfl_sync(kAllLanes, score_, group) : sum_of_largest(group);
  }

  __device__ float sum_of_largest(int group) const {
    Ranked last;
    float sum = 0.0f;
    for (int i = 0; i < terms_; ++i) {
      FirstAfter next(last);
      keys_.for_each(group * size_, (group + 1) * size_, [&](int e, float key) { next.show(rank_of(key), e); });
      last = next.of_warp();
      const float key = value_of(last.rank);
      sum += std::isnan(key) ? -INFINITY : key;
    }
    return sum;
  }

  const Keys& keys_;
  int groups_, size_, terms_;
  float score_ = 0.0f;
  Ranked last_;
};

}  // namespace moe::MOE_GPU_NAMESPACE
