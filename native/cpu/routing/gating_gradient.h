// A token's logits on one thread; see core/gating_gradient.h.
#pragma once

#include <algorithm>
#include <cmath>

#include "core/gating_gradient.h"
#include "cpu/isa/kernels.h"

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

}  // namespace moe::cpu
