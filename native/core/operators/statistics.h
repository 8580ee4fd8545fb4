// What a router did, and its losses; see lib/core/operators/statistics.ts.
// The T tokens are S sequences of equal length, one after another.
#pragma once

#include <cstdint>

#include "core/divide.h"
#include "core/enum.h"
#include "core/operators/routing.h"
#include "core/token_mask.h"

namespace moe {

struct RouterScores {
  static constexpr const char* kName = "routerScores";

  TensorView logits;
  TensorView scores;
  TensorView log_sum_exp;
  TensorView entropy;
  ExpertScoring scoring = ExpertScoring::softmax;
  bool normalize = false;

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("logits", &RouterScores::logits, "[T, E] float");
    f.optional_output("scores", &RouterScores::scores, "[T, E] f32");
    f.optional_output("logSumExp", &RouterScores::log_sum_exp, "[T] f32");
    f.optional_output("entropy", &RouterScores::entropy, "[T] f32");
    f.value("scoring", &RouterScores::scoring);
    f.value("normalize", &RouterScores::normalize);
  }
};

struct ExpertTotals {
  static constexpr const char* kName = "expertTotals";

  TensorView ids;
  TensorView weights;
  TensorView token_mask;
  TensorView tokens;
  TensorView dropped;
  TensorView sums;      // absent if weights are
  int64_t choices = 0;  // only a token's first `choices` slots count

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("ids", &ExpertTotals::ids, "[T, k] i32");
    f.optional_input("weights", &ExpertTotals::weights, "[T, k] f32");
    f.optional_input("tokenMask", &ExpertTotals::token_mask, "[T] u8");
    f.output("tokens", &ExpertTotals::tokens, "[S, E] i32");
    f.output("dropped", &ExpertTotals::dropped, "[S] i32");
    f.optional_output("sums", &ExpertTotals::sums, "[S, E] f32");
    f.value("choices", &ExpertTotals::choices);
  }

  // Without choices T may be any number, with no memory behind it.
  int64_t counted_tokens() const { return ids.shape[1] == 0 ? 0 : ids.shape[0]; }

  Status check() const {
    const int64_t sequences = tokens.shape[0];
    return expect_sizes(sequences >= 1 && ids.shape[0] % sequences == 0 && choices >= 0 && choices <= ids.shape[1] &&
                            sums.absent() == weights.absent() && ids.size() <= INT32_MAX,
                        "expertTotals: expected sequences that divide the tokens, and at most k choices");
  }
};

struct ColumnMeans {
  static constexpr const char* kName = "columnMeans";

  TensorView values;
  TensorView token_mask;
  TensorView means;
  TensorView counts;
  bool square = false;
  bool total = false;  // sums, not divided by the counts

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("values", &ColumnMeans::values, "[T, N] f32");
    f.optional_input("tokenMask", &ColumnMeans::token_mask, "[T] u8");
    f.output("means", &ColumnMeans::means, "[S, N] f32");
    f.optional_output("counts", &ColumnMeans::counts, "[S] i32");
    f.value("square", &ColumnMeans::square);
    f.value("total", &ColumnMeans::total);
  }

  Status check() const {
    const int64_t sequences = means.shape[0];
    MOE_TRY(expect_sizes(sequences >= 1 && values.shape[0] % sequences == 0,
                         "columnMeans: expected sequences that divide the rows"));
    return expect_sizes(counts.absent() || values.shape[0] / sequences <= INT32_MAX,
                        "columnMeans: expected sequences of fewer than 2^31 rows to count");
  }
};

struct BalanceLoss {
  static constexpr const char* kName = "balanceLoss";

  TensorView tokens;
  TensorView means;
  TensorView counts;
  TensorView loss;
  double scale = 0;

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("tokens", &BalanceLoss::tokens, "[S, E] i32");
    f.input("means", &BalanceLoss::means, "[S, E] f32");
    f.input("counts", &BalanceLoss::counts, "[S] i32");
    f.output("loss", &BalanceLoss::loss, "[1] f32");
    f.value("scale", &BalanceLoss::scale);
  }
};

MOE_ENUM(ImbalanceMeasure, cv_squared, cv_squared_unbiased, maximum_violation)

struct Imbalance {
  static constexpr const char* kName = "imbalance";

  TensorView values;
  TensorView result;
  ImbalanceMeasure measure = ImbalanceMeasure::cv_squared;
  double epsilon = 0;

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("values", &Imbalance::values, "[...] number");
    f.output("result", &Imbalance::result, "[1] f32");
    f.value("measure", &Imbalance::measure);
    f.value("epsilon", &Imbalance::epsilon);
  }
};

struct UpdateSelectionBias {
  static constexpr const char* kName = "updateSelectionBias";

  TensorView bias;
  TensorView tokens;
  TensorView updated;  // may be bias
  double rate = 0;

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("bias", &UpdateSelectionBias::bias, "[E] f32");
    f.input("tokens", &UpdateSelectionBias::tokens, "[S, E] i32");
    f.output("updated", &UpdateSelectionBias::updated, "[E] f32");
    f.value("rate", &UpdateSelectionBias::rate);
  }
};

struct Accumulate {
  static constexpr const char* kName = "accumulate";

  TensorView values;  // N values, or totals [N, 2]
  TensorView totals;
  bool values_are_totals = false;
  double scale = 1;  // of float values only

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("values", &Accumulate::values, "[...] V");
    f.updated("totals", &Accumulate::totals, "[N, 2] V");
    f.value("valuesAreTotals", &Accumulate::values_are_totals);
    f.value("scale", &Accumulate::scale);
  }

  Status check() const {
    return expect_sizes(values.size() == (values_are_totals ? 2 : 1) * totals.shape[0],
                        "accumulate: expected as many values as totals");
  }
};

// What the measures of imbalance need from the values.
struct Spread {
  int64_t count;
  double mean;
  double largest;
  double squares;  // Σ (value - mean)²
};

MOE_HOST_DEVICE inline float imbalance_of(const Spread& spread, ImbalanceMeasure measure, double epsilon) {
  if (spread.count == 0) return 0.0f;
  if (measure == ImbalanceMeasure::maximum_violation) {
    return spread.mean == 0 ? 0.0f : static_cast<float>(spread.largest / spread.mean - 1);
  }
  const int64_t divisor = spread.count - (measure == ImbalanceMeasure::cv_squared_unbiased ? 1 : 0);
  if (divisor == 0) return 0.0f;
  const double variance = spread.squares / static_cast<double>(divisor);
  return static_cast<float>(variance / (spread.mean * spread.mean + epsilon));
}

// The sign of total / experts - count.
MOE_HOST_DEVICE inline int sign_below_mean(int64_t count, int64_t total, int64_t experts) {
  return (count * experts < total) - (count * experts > total);
}

// A 64-bit integer in two words, which need not be aligned to eight bytes.
struct WideInteger {
  uint32_t low;
  int32_t high;

  MOE_HOST_DEVICE int64_t value() const { return static_cast<int64_t>(high) * (int64_t{1} << 32) + low; }
  MOE_HOST_DEVICE void add(int64_t other) {
    const int64_t sum = value() + other;
    low = static_cast<uint32_t>(sum);
    high = static_cast<int32_t>(sum >> 32);
  }
};

// A number as the sum of two float32: the second holds what the first leaves out, 48 bits in all.
struct WideFloat {
  float high;
  float low;

  MOE_HOST_DEVICE double value() const { return static_cast<double>(high) + low; }
  MOE_HOST_DEVICE void add(double other) {
    const double sum = value() + other;
    high = static_cast<float>(sum);
    low = static_cast<float>(sum - high);
  }
};

// How the rows of a sequence are summed: in order within units of consecutive rows, then unit by unit in order. A
// unit's size depends on the sequence's length alone, about its square root, so that no chain of additions is long and
// sums are accurate.
struct RowUnits {
  int64_t sequences = 1;
  int64_t rows = 0;           // in a sequence
  int64_t rows_per_unit = 1;  // the last unit of a sequence may have fewer
  int64_t units = 0;          // in a sequence

  MOE_HOST_DEVICE int64_t all() const { return sequences * units; }
};

inline RowUnits row_units(int64_t rows, int64_t sequences) {
  RowUnits result{sequences, sequences > 0 ? rows / sequences : 0, 32, 0};
  while (result.rows_per_unit * result.rows_per_unit < result.rows) result.rows_per_unit *= 2;
  result.units = ceil_divide(result.rows, result.rows_per_unit);
  return result;
}

}  // namespace moe
