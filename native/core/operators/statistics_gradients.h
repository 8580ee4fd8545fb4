// Gradients of the operators in statistics.h; see lib/core/operators/statistics.ts.
#pragma once

#include <cstdint>

#include "core/operators/statistics.h"

namespace moe {

struct RouterScoresBackward {
  static constexpr const char* kName = "routerScoresBackward";

  TensorView logits;
  TensorView d_scores;
  TensorView d_log_sum_exp;
  TensorView d_entropy;
  TensorView d_logits;
  ExpertScoring scoring = ExpertScoring::softmax;
  bool normalize = false;

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("logits", &RouterScoresBackward::logits, "[T, E] float");
    f.optional_input("dScores", &RouterScoresBackward::d_scores, "[T, E] f32");
    f.optional_input("dLogSumExp", &RouterScoresBackward::d_log_sum_exp, "[T] f32");
    f.optional_input("dEntropy", &RouterScoresBackward::d_entropy, "[T] f32");
    f.output("dLogits", &RouterScoresBackward::d_logits, "[T, E] f32");
    f.value("scoring", &RouterScoresBackward::scoring);
    f.value("normalize", &RouterScoresBackward::normalize);
  }
};

struct ExpertTotalsBackward {
  static constexpr const char* kName = "expertTotalsBackward";

  TensorView ids;
  TensorView token_mask;
  TensorView d_sums;
  TensorView d_weights;
  int64_t choices = 0;

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("ids", &ExpertTotalsBackward::ids, "[T, k] i32");
    f.optional_input("tokenMask", &ExpertTotalsBackward::token_mask, "[T] u8");
    f.input("dSums", &ExpertTotalsBackward::d_sums, "[S, E] f32");
    f.output("dWeights", &ExpertTotalsBackward::d_weights, "[T, k] f32");
    f.value("choices", &ExpertTotalsBackward::choices);
  }

  Status check() const {
    const int64_t sequences = d_sums.shape[0];
    return expect_sizes(sequences >= 1 && ids.shape[0] % sequences == 0 && choices >= 0 && choices <= ids.shape[1] &&
                            ids.size() <= INT32_MAX,
                        "expertTotalsBackward: expected sequences that divide the tokens, and at most k choices");
  }
};

struct ColumnMeansBackward {
  static constexpr const char* kName = "columnMeansBackward";

  TensorView d_means;
  TensorView counts;  // absent: sums
  TensorView values;  // absent: not squared
  TensorView token_mask;
  TensorView d_values;

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("dMeans", &ColumnMeansBackward::d_means, "[S, N] f32");
    f.optional_input("counts", &ColumnMeansBackward::counts, "[S] i32");
    f.optional_input("values", &ColumnMeansBackward::values, "[T, N] f32");
    f.optional_input("tokenMask", &ColumnMeansBackward::token_mask, "[T] u8");
    f.output("dValues", &ColumnMeansBackward::d_values, "[T, N] f32");
  }

  Status check() const {
    const int64_t sequences = d_means.shape[0];
    return expect_sizes(sequences >= 1 && d_values.shape[0] % sequences == 0,
                        "columnMeansBackward: expected sequences that divide the rows");
  }
};

struct BalanceLossBackward {
  static constexpr const char* kName = "balanceLossBackward";

  TensorView tokens;
  TensorView counts;
  TensorView d_means;
  double scale = 0;

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("tokens", &BalanceLossBackward::tokens, "[S, E] i32");
    f.input("counts", &BalanceLossBackward::counts, "[S] i32");
    f.output("dMeans", &BalanceLossBackward::d_means, "[S, E] f32");
    f.value("scale", &BalanceLossBackward::scale);
  }
};

struct CvSquaredBackward {
  static constexpr const char* kName = "cvSquaredBackward";

  TensorView values;
  TensorView d_values;
  bool unbiased = false;
  double epsilon = 0;
  double scale = 1;

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("values", &CvSquaredBackward::values, "[N] f32");
    f.output("dValues", &CvSquaredBackward::d_values, "[N] f32");
    f.value("unbiased", &CvSquaredBackward::unbiased);
    f.value("epsilon", &CvSquaredBackward::epsilon);
    f.value("scale", &CvSquaredBackward::scale);
  }
};

// What the gradient of a sequence's mean is multiplied by for that of a value; for squares the value is another factor.
// Without counts it is the gradient of the sum.
MOE_HOST_DEVICE inline float column_factor(const int32_t* counts, int64_t sequence, bool square) {
  return (square ? 2.0f : 1.0f) / (counts == nullptr ? 1.0f : static_cast<float>(counts[sequence]));
}

// The gradient of a sequence's mean score in the load-balancing loss; `counted` sequences have tokens that count.
MOE_HOST_DEVICE inline float balance_slope(int tokens, int count, int64_t counted, double scale) {
  return count == 0 ? 0.0f : static_cast<float>(scale * tokens / count / static_cast<double>(counted));
}

// The derivative of variance / (mean² + epsilon) by a value.
struct CvSlope {
  int64_t count;
  int64_t divisor;  // of the variance
  double mean;
  double squares;  // Σ (value - mean)²
  double epsilon;

  MOE_HOST_DEVICE double operator()(double value) const {
    if (divisor <= 0) return 0;
    const double square = mean * mean + epsilon;
    const double variance = squares / static_cast<double>(divisor);
    return 2 * (value - mean) / static_cast<double>(divisor) / square -
           2 * mean * variance / square / square / static_cast<double>(count);
  }
};

// The gradient of one logit through a token's scores, from its own gradient and the sum over the experts of each score
// times its gradient.
struct ScoreSlope {
  bool sigmoid;
  bool normalized;  // scores are divided by their sum
  float sum;        // of the scores

  // `other` is 1 - score for a sigmoid. A score of 0 does not hide a gradient that is not finite.
  MOE_HOST_DEVICE float operator()(float score, float other, float gradient, float total) const {
    if (!sigmoid) return score * (gradient - total);
    if (!normalized) return score * other * gradient;
    return sum == 0.0f ? 0.0f : score / sum * other * (gradient - total / sum);
  }
};

}  // namespace moe
