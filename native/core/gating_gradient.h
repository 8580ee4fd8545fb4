// One token's gate with its choice held fixed: the gradient of the logits, and the weights that it takes, which differ
// from those of gating in their last bits. See lib/operators/routing/gating_backward.ts.
#pragma once

#include <cfloat>
#include <cmath>
#include <type_traits>

#include "core/noisy_top_k.h"
#include "core/operators/routing.h"
#include "core/scores.h"

namespace moe {

// A Row is a token's logits, whose experts are divided among lanes that work together: logit(e); finite(), whether any
// is; share(e), its part of the softmax over all; for_each(use), use(e, logit) for the lane's own experts; owns(e);
// sum(value) and largest(value) over the lanes. A Choice gives each slot's expert, or -1. All lanes call all functions
// with the same arguments.
//
// Weights are scale * score / divisor, and the divisor depends on all scores. Gradients are computed for the logarithm
// of each score, so that scores near 0 need no division.
template <Scoring kScoring, class Row, class Choice>
class FixedGate {
 public:
  MOE_HOST_DEVICE FixedGate(const GatingRule& rule, const Row& row, const Choice& choice)
      : rule_(rule), row_(row), choice_(choice) {
    if (kScoring == Scoring::softmax_selected) find_selected();
    if (row.finite()) find_divisor();
  }

  // The weight of a slot; 0 if it has no expert.
  MOE_HOST_DEVICE float weight(int slot) const {
    const int expert = choice_(slot);
    return expert < 0 ? 0.0f : weight_of(score(slot, expert));
  }

  // Adds to `gradient` [experts] the gradient of the logits, where gradient_of(slot) is that of the weights. A logit
  // that is not finite gets none.
  template <class WeightGradient>
  MOE_HOST_DEVICE void add_gradient(const WeightGradient& gradient_of, float* gradient) const {
    if (divisor_ == 0.0f) return;
    float moment = 0.0f;
    for_each_choice([&](int slot, int, float score) { moment += weight_of(score) * gradient_of(slot); });
    // What the divisor's change takes from the gradient of a score's logarithm, and the whole of that gradient. The
    // moment of infinite logits may be infinite where no divisor depends on them.
    const auto taken = [&](float score) { return divides(score) ? moment * divisor_share(score) : 0.0f; };
    const auto relative = [&](int slot, float score) { return weight_of(score) * gradient_of(slot) - taken(score); };

    float total = 0.0f;
    if (scale_free()) {
      total = moment - moment;  // 0, or NaN if a gradient is not finite
    } else {
      for_each_choice([&](int slot, int, float score) { total += relative(slot, score); });
    }
    if (kScoring == Scoring::softmax && total != 0.0f) {
      row_.for_each([&](int expert, float logit) { add(gradient, expert, logit, -row_.share(expert) * total); });
    }
    for_each_choice([&](int slot, int expert, float score) {
      const float logit = row_.logit(expert);
      float own = relative(slot, score);
      switch (kScoring) {
        case Scoring::softmax_selected: own -= score * total; break;
        case Scoring::sigmoid: own *= sigmoid(-logit); break;
        case Scoring::sqrt_softplus: own *= relative_slope(logit, score); break;
        case Scoring::none: own = factor() * gradient_of(slot) - (score == 0.0f ? 0.0f : taken(score) / score); break;
        case Scoring::sparsemixer: add_near(slot, -own, gradient); break;
        default: break;
      }
      if (row_.owns(expert)) add(gradient, expert, logit, own);
    });
  }

 private:
  // Calls use(slot, expert, score) for every slot with an expert.
  template <class Use>
  MOE_HOST_DEVICE void for_each_choice(Use&& use) const {
    for (int slot = 0; slot < rule_.top_k; ++slot) {
      const int expert = choice_(slot);
      if (expert >= 0) use(slot, expert, score(slot, expert));
    }
  }

  MOE_HOST_DEVICE static void add(float* gradient, int expert, float logit, float value) {
    if (fabsf(logit) < INFINITY) gradient[expert] += value;
  }

  MOE_HOST_DEVICE float score(int slot, int expert) const {
    const float logit = row_.logit(expert);
    if (logit != logit) return 0.0f;
    switch (kScoring) {
      case Scoring::softmax: return row_.share(expert);
      case Scoring::softmax_selected: return exponential(logit, selected_max_) / selected_sum_;
      case Scoring::sigmoid: return sigmoid(logit);
      case Scoring::sqrt_softplus: return sqrt_softplus(clipped(logit));
      case Scoring::sparsemixer: {
        const Near near = find_near(slot);
        return near.sum > 0.0f ? near_term(slot, expert, logit, near.best) / near.sum : 0.0f;
      }
      default: return clipped(logit);
    }
  }
  MOE_HOST_DEVICE static float clipped(float logit) { return fminf(fmaxf(logit, -FLT_MAX), FLT_MAX); }

  // The derivative of the logarithm of a square root of a softplus.
  MOE_HOST_DEVICE static float relative_slope(float logit, float score) {
    if (score == 0.0f) return 0.0f;
    return logit < kExponentialSoftplus ? 0.5f : sigmoid(logit) / (2.0f * softplus(logit));
  }

  // What scores are multiplied by.
  MOE_HOST_DEVICE float factor() const { return rule_.scale / unit_ / divisor_; }
  MOE_HOST_DEVICE float weight_of(float score) const {
    return divisor_ == 0.0f ? 0.0f : score / unit_ / divisor_ * rule_.scale;
  }

  // Whether multiplying all scores by one number leaves the weights as they are, so that what softmaxes divide by has
  // no gradient.
  MOE_HOST_DEVICE bool scale_free() const {
    return rule_.normalization == Normalization::sum || rule_.normalization == Normalization::lp;
  }

  // Whether the divisor depends on a score.
  MOE_HOST_DEVICE bool divides(float score) const {
    switch (rule_.normalization) {
      case Normalization::sum:
      case Normalization::sum_plus_epsilon: return true;
      case Normalization::clamped_sum: return divisor_ > rule_.epsilon;
      case Normalization::lp: return score != 0.0f;
      default: return false;
    }
  }
  // Its relative change by a relative change of such a score.
  MOE_HOST_DEVICE float divisor_share(float score) const {
    if (rule_.normalization == Normalization::lp) return powf(fabsf(score) / unit_ / divisor_, rule_.power);
    return score / divisor_;
  }

  MOE_HOST_DEVICE void find_selected() {
    selected_max_ = -INFINITY;
    for (int slot = 0; slot < rule_.top_k; ++slot) {
      if (choice_(slot) >= 0) selected_max_ = fmaxf(selected_max_, row_.logit(choice_(slot)));
    }
    selected_sum_ = 0.0f;
    for (int slot = 0; slot < rule_.top_k; ++slot) {
      if (choice_(slot) >= 0) selected_sum_ += exponential(row_.logit(choice_(slot)), selected_max_);
    }
    // Without terms, all are 0.
    if (selected_sum_ == 0.0f) selected_sum_ = 1.0f;
  }

  MOE_HOST_DEVICE void find_divisor() {
    float sum = 0.0f, largest = 0.0f;
    for_each_choice([&](int, int, float score) {
      sum += score;
      largest = fmaxf(largest, fabsf(score));
    });
    switch (rule_.normalization) {
      case Normalization::sum: divisor_ = sum; break;
      case Normalization::sum_plus_epsilon: divisor_ = sum + rule_.epsilon; break;
      case Normalization::clamped_sum: divisor_ = fmaxf(sum, rule_.epsilon); break;
      case Normalization::lp: {
        if (largest == 0.0f) return;
        // Relative to the largest, so that nothing overflows.
        float powers = 0.0f;
        for_each_choice([&](int, int, float score) { powers += powf(fabsf(score) / largest, rule_.power); });
        unit_ = largest;
        divisor_ = powf(powers, 1.0f / rule_.power);
        break;
      }
      default: divisor_ = 1.0f; break;
    }
  }

  // SparseMixer's softmax for a slot: over the experts left by the slots before that are near the best of them.
  struct Near {
    float best, sum;
  };
  MOE_HOST_DEVICE float near_term(int slot, int expert, float logit, float best) const {
    for (int before = 0; before < slot; ++before) {
      if (choice_(before) == expert) return 0.0f;
    }
    return (best - logit) / fmaxf(fabsf(logit), best) > 2.0f * rule_.jitter ? 0.0f : exponential(logit, best);
  }
  MOE_HOST_DEVICE Near find_near(int slot) const {
    float best = -INFINITY, sum = 0.0f;
    row_.for_each([&](int expert, float logit) {
      bool left = true;
      for (int before = 0; before < slot; ++before) left = left && choice_(before) != expert;
      if (left) best = fmaxf(best, logit);
    });
    best = row_.largest(best);
    row_.for_each([&](int expert, float logit) { sum += near_term(slot, expert, logit, best); });
    return {best, row_.sum(sum)};
  }
  // Adds value * the slot's softmax to the gradient.
  MOE_HOST_DEVICE void add_near(int slot, float value, float* gradient) const {
    const Near near = find_near(slot);
    if (!(near.sum > 0.0f)) return;
    row_.for_each([&](int expert, float logit) {
      add(gradient, expert, logit, value * near_term(slot, expert, logit, near.best) / near.sum);
    });
  }

  const GatingRule& rule_;
  const Row& row_;
  const Choice& choice_;
  float selected_max_ = 0.0f, selected_sum_ = 1.0f;
  // Scores are divided by both. A divisor of 0: all weights are 0.
  float unit_ = 1.0f, divisor_ = 0.0f;
};

template <Scoring kScoring, class Row, class Choice>
MOE_HOST_DEVICE FixedGate<kScoring, Row, Choice> fixed_gate(const GatingRule& rule, const Row& row,
                                                            const Choice& choice) {
  return {rule, row, choice};
}

// Calls use(std::integral_constant<Scoring, ...>) for a scoring known at run time.
template <class Use>
auto dispatch_scoring(Scoring scoring, Use&& use) {
  switch (scoring) {
    case Scoring::softmax_selected: return use(std::integral_constant<Scoring, Scoring::softmax_selected>{});
    case Scoring::sigmoid: return use(std::integral_constant<Scoring, Scoring::sigmoid>{});
    case Scoring::sqrt_softplus: return use(std::integral_constant<Scoring, Scoring::sqrt_softplus>{});
    case Scoring::none: return use(std::integral_constant<Scoring, Scoring::none>{});
    case Scoring::sparsemixer: return use(std::integral_constant<Scoring, Scoring::sparsemixer>{});
    default: return use(std::integral_constant<Scoring, Scoring::softmax>{});
  }
}

}  // namespace moe
