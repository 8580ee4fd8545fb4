// Gating on the device: a warp chooses a token's experts and weighs them.
#pragma once

#include <cmath>

#include "gpu/routing/gating.cuh"
#include "gpu/routing/gating_choice.cuh"
#include "gpu/routing/gating_weights.cuh"
#include "gpu/tile/loops.cuh"

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

// The logits of one token. Their dtype is data: choosing takes far longer than reading them once.
struct Logits {
  const void* logits;
  DType dtype;
  int64_t first;
  __device__ float operator()(int expert) const { return load_as_float(logits, dtype, first + expert); }
};

// The keys that experts are chosen by when the logits alone are not enough.
struct SelectionKeys {
  Logits logits;
  const void* bias;
  DType bias_dtype;
  Scoring scoring;  // none: by logit
  float max, sum;   // for a softmax; otherwise sum is 1

  __device__ float operator()(int expert) const {
    const float logit = logits(expert);
    const float key = score_of(scoring, logit, max) / sum;
    if (std::isnan(logit)) return NAN;
    return bias == nullptr ? key : key + load_as_float(bias, bias_dtype, expert);
  }
};

// One warp handles one token. choose(last) finds the next expert after `last`; all lanes call logit_of(expert) for it.
template <class Choose, class LogitOf>
__device__ __forceinline__ void choose_and_weigh(const GatingArguments& a, int64_t token, const Statistics& row,
                                                 Choose&& choose, LogitOf&& logit_of) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  int* ids = a.ids + token * a.rule.top_k;
  float* weights = a.weights + token * a.rule.top_k;
  if (!row.finite && lane == 0) atomicAdd(a.non_finite_rows, 1ull);
  float chosen_max = -INFINITY;
  Ranked last;
  for (int slot = 0; slot < a.rule.top_k; ++slot) {
    last = choose(last);
    const float logit = logit_of(last);
    chosen_max = fmaxf(chosen_max, logit);
    if (lane != slot % 32) continue;
    ids[slot] = last.index;
    weights[slot] = logit;
  }
  weigh(a.rule, row, chosen_max, weights);
}

// Without bias and groups, experts are chosen by the logits themselves.
template <int kPerLane>
__device__ __forceinline__ void gate_by_logit(const GatingArguments& a, int64_t token, const Logits& source) {
  const LaneValues<Logits, kPerLane> logits(source, a.experts);
  const bool sparse = a.rule.scoring == Scoring::sparsemixer;
  choose_and_weigh(
      a, token, statistics_of(logits, sums_all(a.rule)),
      [&](Ranked last) {
        FirstAfter next(last);
        logits.for_each([&](int expert, float logit) { next.show(rank_of(logit), expert); });
        return next.of_warp();
      },
      [&](Ranked chosen) {
        const float logit = value_of(chosen.rank);
        if (!sparse) return logit;
        return near_share(logits, logit, 2.0f * a.rule.jitter, logit, [&](int expert, float value) {
          return expert == chosen.index || chosen.before(rank_of(value), expert);
        });
      });
}

template <int kPerLane>
__device__ __forceinline__ void gate_by_key(const GatingArguments& a, int64_t token, const Logits& source) {
  const GatingRule& rule = a.rule;
  const Scoring keys_of = rule.selection_key == SelectionKey::logit ? Scoring::none : rule.scoring;
  const bool softmax = keys_of == Scoring::softmax;
  const Statistics row = statistics_of(LaneValues<Logits, 0>(source, a.experts), softmax || sums_all(rule));
  using Keys = LaneValues<SelectionKeys, kPerLane>;
  const SelectionKeys key_of{.logits = source,
                             .bias = a.bias,
                             .bias_dtype = a.bias_dtype,
                             .scoring = keys_of,
                             .max = row.max,
                             .sum = softmax ? fmaxf(row.sum, 1.0f) : 1.0f};
  Keys keys(key_of, a.experts);
  const BestGroups<Keys> groups(keys, rule.num_groups, rule.top_groups, a.group_terms);
  if constexpr (Keys::kKept) {
    for (int group = 0; group < groups.count() && groups.count() > 1; ++group) {
      if (!groups.contains(group)) keys.exclude(group * groups.size(), (group + 1) * groups.size());
    }
  }
  choose_and_weigh(
      a, token, row,
      [&](Ranked last) {
        FirstAfter next(last);
        const auto show = [&](int expert, float key) { next.show(rank_of(key), expert); };
        if (Keys::kKept || groups.count() == 1) {
          keys.for_each(show);
        } else {
          for (int group = 0; group < groups.count(); ++group) {
            if (groups.contains(group)) keys.for_each(group * groups.size(), (group + 1) * groups.size(), show);
          }
        }
        return next.of_warp();
      },
      [&](Ranked chosen) { return source(chosen.index); });
}

// By the warps of a grid, one token each.
template <int kPerLane, bool kByLogit>
__device__ __forceinline__ void gate_tokens(const GatingArguments& a) {
  for_each_row(a.tokens, [&](int64_t token) {
    const Logits row{a.logits, a.logits_dtype, token * a.experts};
    if constexpr (kByLogit) {
      gate_by_logit<kPerLane>(a, token, row);
    } else {
      gate_by_key<kPerLane>(a, token, row);
    }
  });
}

// Calls use.operator()<kPerLane, kByLogit>() for the code that gates these tokens. `per_lane`: see gpu::GatingPlan.
template <class Use>
Status dispatch_gating(const GatingArguments& a, int per_lane, Use&& use) {
  const auto with = [&]<int kPerLane>() -> Status {
    const bool by_logit = a.bias == nullptr && a.rule.num_groups == 1;
    return by_logit ? use.template operator()<kPerLane, true>() : use.template operator()<kPerLane, false>();
  };
  switch (per_lane) {
    case 2: return with.template operator()<2>();
    case 8: return with.template operator()<8>();
    case 32: return with.template operator()<32>();
    default: return with.template operator()<0>();
  }
}

}  // namespace moe::MOE_GPU_NAMESPACE
