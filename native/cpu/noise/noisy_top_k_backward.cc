#include <algorithm>
#include <numeric>

#include "core/scores.h"
#include "cpu/noise/load_groups.h"
#include "cpu/operators.h"

namespace moe::cpu {

Status run(Context& context, const NoisyLogitsBackward& p) {
  constexpr int64_t kLogitsAtOnce = 1024;
  context.team.for_range(p.spread.size(), kLogitsAtOnce, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      float deviation = p.d_logits.as<const float>()[i] * p.noise.as<const float>()[i];
      if (!p.d_deviation.absent()) deviation += p.d_deviation.as<const float>()[i];
      p.d_spread.as<float>()[i] = deviation * sigmoid(p.spread.as<const float>()[i]);
    }
  });
  return {};
}

namespace {

struct LoadGradients {
  explicit LoadGradients(const ExpertLoadBackward& p) : p(p), groups(p) {}

  // What a group's sums of probabilities are multiplied by.
  float factor(int64_t group) const {
    if (p.group_load.absent()) return 1.0f;
    int64_t tokens = 0;
    for (int64_t token = 0; token < p.clean.shape[0]; ++token) tokens += groups.chosen(token, group) ? 1 : 0;
    return tokens == 0 ? 0.0f : p.group_load.as<const float>()[group] / static_cast<float>(tokens);
  }

  // One token's gradients in one group. `order` has room for its experts.
  void add_up(int64_t token, int64_t group, float factor, int32_t* order) const {
    const int64_t experts = groups.experts, first = token * p.clean.shape[1] + group * experts;
    float* by_clean = p.d_clean.as<float>() + first;
    float* by_noisy = p.d_noisy.as<float>() + first;
    float* by_deviation = p.d_deviation.as<float>() + first;
    for (float* gradient : {by_clean, by_noisy, by_deviation}) std::fill_n(gradient, experts, 0.0f);
    if (!groups.chosen(token, group)) return;
    const float* noisy = p.noisy.as<const float>() + first;
    std::iota(order, order + experts, 0);
    const int64_t ranks = std::min<int64_t>(p.top_k + 1, experts);
    std::partial_sort(order, order + ranks, order + experts, [&](int32_t a, int32_t b) {
      const float left = ordered_logit(noisy[a]), right = ordered_logit(noisy[b]);
      return left > right || (left == right && a < b);
    });
    const int32_t last = order[p.top_k - 1];
    const int32_t next = p.top_k < experts ? order[p.top_k] : -1;
    const float next_logit = next < 0 ? -INFINITY : ordered_logit(noisy[next]);
    for (int64_t e = 0; e < experts; ++e) {
      const int32_t at = noisy[e] > next_logit ? next : last;
      const float threshold = at < 0 ? -INFINITY : ordered_logit(noisy[at]);
      const LoadSlope slope =
          load_slope(p.clean.as<const float>()[first + e], threshold, p.deviation.as<const float>()[first + e],
                     factor * p.d_load.as<const float>()[group * experts + e]);
      by_clean[e] = slope.by_clean;
      by_deviation[e] = slope.by_deviation;
      if (at >= 0) by_noisy[at] -= slope.by_clean;
    }
  }

  const ExpertLoadBackward& p;
  LoadGroups groups;
};

}  // namespace

Status run(Context& context, const ExpertLoadBackward& p) {
  constexpr int64_t kTokensAtOnce = 64;
  const LoadGradients gradients(p);
  int32_t* orders = nullptr;
  float* factors = nullptr;
  MOE_TRY(reserve_workspace(context, [&](Arena& arena) {
    orders = arena.take<int32_t>(gradients.groups.experts * context.team.threads);
    factors = arena.take<float>(gradients.groups.count);
  }));
  for (int64_t group = 0; group < gradients.groups.count; ++group) factors[group] = gradients.factor(group);
  context.team.for_pieces(p.clean.shape[0], kTokensAtOnce, [&](int thread, int64_t begin, int64_t end) {
    for (int64_t token = begin; token < end; ++token) {
      for (int64_t group = 0; group < gradients.groups.count; ++group) {
        gradients.add_up(token, group, factors[group], orders + thread * gradients.groups.experts);
      }
    }
  });
  return gradients.groups.check("expertLoadBackward: groups.ids");
}

}  // namespace moe::cpu
