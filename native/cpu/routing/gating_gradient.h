// A token's logits on one thread, and its gate; see core/gating_gradient.h.
#pragma once

#include <algorithm>
#include <cmath>

#include "core/gating_gradient.h"
#include "cpu/isa/kernels.h"
#include "cpu/runtime/context.h"
#include "cpu/runtime/indices.h"

namespace moe::cpu {

class LogitRow {
 public:
  // `shares` has room for a number per expert.
  LogitRow(const Kernels& kernels, const float* logits, int64_t experts, Scoring scoring, float* shares)
      : logits_(logits), experts_(static_cast<int>(experts)), shares_(shares) {
    finite_ = std::any_of(logits, logits + experts, [](float logit) { return std::isfinite(logit); });
    if (scoring == Scoring::softmax) kernels.softmax_scores(logits, experts, shares);
  }

  float logit(int expert) const { return logits_[expert]; }
  bool finite() const { return finite_; }
  float share(int expert) const { return shares_[expert]; }
  bool owns(int) const { return true; }
  float sum(float value) const { return value; }
  float largest(float value) const { return value; }
  template <class Use>
  void for_each(Use&& use) const {
    for (int expert = 0; expert < experts_; ++expert) use(expert, logits_[expert]);
  }

 private:
  const float* logits_;
  int experts_;
  const float* shares_;
  bool finite_;
};

// Calls use(token, row, gate) for every token, on all threads, with its logits [T, E] and the gate of its choices ids
// [T, k]. An id out of range is no choice.
template <class Use>
Status for_each_fixed_gate(Context& context, const TensorView& logits, const TensorView& ids, const GatingRule& rule,
                           Use&& use) {
  constexpr int64_t kTokensAtOnce = 64;
  const int64_t experts = logits.shape[1], top_k = ids.shape[1];
  float *lines = nullptr, *shares = nullptr;
  MOE_TRY(reserve_workspace(context, [&](Arena& arena) {
    lines = arena.take<float>(experts * context.team.threads);
    shares = arena.take<float>(experts * context.team.threads);
  }));
  context.team.for_pieces(logits.shape[0], kTokensAtOnce, [&](int thread, int64_t begin, int64_t end) {
    float* line = lines + thread * experts;
    for (int64_t token = begin; token < end; ++token) {
      context.kernels.to_f32(logits.dtype, logits.at(token), experts, line);
      const LogitRow row(context.kernels, line, experts, rule.scoring, shares + thread * experts);
      const int32_t* chosen = ids.as<const int32_t>() + token * top_k;
      const auto choice = [&](int slot) { return static_cast<int>(index_or_none(chosen[slot], experts)); };
      dispatch_scoring(rule.scoring, [&](auto scoring) { use(token, row, fixed_gate<scoring>(rule, row, choice)); });
    }
  });
  return {};
}

}  // namespace moe::cpu
