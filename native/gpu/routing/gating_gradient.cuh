// A token's logits and its gate; see core/gating_gradient.h. Each lane of a warp owns every 32nd expert.
#pragma once

#include <cmath>

#include "core/gating_gradient.h"
#include "gpu/tile/checked_id.cuh"
#include "gpu/tile/element.cuh"
#include "gpu/tile/loops.cuh"
#include "gpu/tile/reduce.cuh"

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

class LogitRow {
 public:
  // Logits first .. first + experts - 1 of an array.
  __device__ LogitRow(const void* logits, DType dtype, int64_t first, int experts, Scoring scoring)
      : logits_(logits), dtype_(dtype), first_(first), experts_(experts) {
    bool finite = false;
    for_each([&](int, float logit) {
      max_ = fmaxf(max_, logit);
      finite = finite || std::isfinite(logit);
    });
    max_ = warp_max(max_);
    finite_ = __any_sync(kAllLanes, finite) != 0;
    if (scoring != Scoring::softmax) return;
    for_each([&](int, float logit) { sum_ += exponential(logit, max_); });
    sum_ = warp_sum(sum_);
  }

  __device__ float logit(int expert) const { return load_as_float(logits_, dtype_, first_ + expert); }
  __device__ bool finite() const { return finite_; }
  __device__ float share(int expert) const { return exponential(logit(expert), max_) / sum_; }
  __device__ bool owns(int expert) const { return expert % 32 == static_cast<int>(threadIdx.x % 32); }
  __device__ float sum(float value) const { return warp_sum(value); }
  __device__ float largest(float value) const { return warp_max(value); }
  template <class Use>
  __device__ __forceinline__ void for_each(Use&& use) const {
    for (int expert = static_cast<int>(threadIdx.x % 32); expert < experts_; expert += 32) use(expert, logit(expert));
  }

 private:
  const void* logits_;
  DType dtype_;
  int64_t first_;
  int experts_;
  float max_ = -INFINITY, sum_ = 0.0f;
  bool finite_;
};

// Choices that are given, and the rule that weighs them.
struct GivenChoices {
  const void* logits;  // [T, E]
  DType dtype;
  const int* ids;  // [T, k]
  IdError* error;
  int64_t tokens;
  int experts;
  GatingRule rule;
};

template <class Operator>
GivenChoices given_choices(Context& context, const Operator& p, const char* parameter) {
  const int64_t experts = p.logits.shape[1];
  return {.logits = p.logits.data,
          .dtype = p.logits.dtype,
          .ids = p.ids.template as<int>(),
          .error = context.errors.next(
              {.parameter = parameter, .what = "an expert", .limit = experts, .columns = p.ids.shape[1]}),
          .tokens = p.logits.shape[0],
          .experts = static_cast<int>(experts),
          .rule = p.rule};
}

// Calls use(token, row, gate) for every token, one warp each. A choice out of range is none, and an error.
template <Scoring kScoring, class Use>
__device__ __forceinline__ void for_each_fixed_gate(const GivenChoices& a, Use&& use) {
  for_each_row(a.tokens, [&](int64_t token) {
    const LogitRow row(a.logits, a.dtype, token * a.experts, a.experts, kScoring);
    const int64_t first = token * a.rule.top_k;
    const auto choice = [&](int slot) { return checked_id(a.ids[first + slot], a.experts, first + slot, a.error); };
    use(token, row, fixed_gate<kScoring>(a.rule, row, choice));
  });
}

}  // namespace moe::MOE_GPU_NAMESPACE
