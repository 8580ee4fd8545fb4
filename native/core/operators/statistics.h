// What a router did, and its losses; see lib/core/operators/statistics.ts.
// The T tokens are S sequences of equal length, one after another.
#pragma once

#include <cstdint>

#include "core/enum.h"
#include "core/operators/routing.h"
#include "core/token_mask.h"

namespace moe {

struct RouterScores {
  static constexpr const char* kName = "routerScores";

  TensorView logits;       // [T, E] float
  TensorView scores;       // [T, E] f32, or absent
  TensorView log_sum_exp;  // [T] f32, or absent
  TensorView entropy;      // [T] f32, or absent
  ExpertScoring scoring = ExpertScoring::softmax;
  bool normalize = false;

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("logits", &RouterScores::logits);
    f.optional_output("scores", &RouterScores::scores);
    f.optional_output("logSumExp", &RouterScores::log_sum_exp);
    f.optional_output("entropy", &RouterScores::entropy);
    f.value("scoring", &RouterScores::scoring);
    f.value("normalize", &RouterScores::normalize);
  }
};

struct ExpertTotals {
  static constexpr const char* kName = "expertTotals";

  TensorView ids;         // [T, k] i32
  TensorView weights;     // [T, k] f32, or absent
  TensorView token_mask;  // [T] u8, or absent
  TensorView tokens;      // [S, E] i32
  TensorView dropped;     // [S] i32
  TensorView sums;        // [S, E] f32, absent if weights are
  int64_t choices = 0;    // only a token's first `choices` slots count

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("ids", &ExpertTotals::ids);
    f.optional_input("weights", &ExpertTotals::weights);
    f.optional_input("tokenMask", &ExpertTotals::token_mask);
    f.output("tokens", &ExpertTotals::tokens);
    f.output("dropped", &ExpertTotals::dropped);
    f.optional_output("sums", &ExpertTotals::sums);
    f.value("choices", &ExpertTotals::choices);
  }
};

struct ColumnMeans {
  static constexpr const char* kName = "columnMeans";

  TensorView values;      // [T, N] f32
  TensorView token_mask;  // [T] u8, or absent
  TensorView means;       // [S, N] f32
  TensorView counts;      // [S] i32, or absent
  bool square = false;
  bool total = false;  // sums, not divided by the counts

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("values", &ColumnMeans::values);
    f.optional_input("tokenMask", &ColumnMeans::token_mask);
    f.output("means", &ColumnMeans::means);
    f.optional_output("counts", &ColumnMeans::counts);
    f.value("square", &ColumnMeans::square);
    f.value("total", &ColumnMeans::total);
  }
};

struct BalanceLoss {
  static constexpr const char* kName = "balanceLoss";

  TensorView tokens;  // [S, E] i32
  TensorView means;   // [S, E] f32
  TensorView counts;  // [S] i32
  TensorView loss;    // [1] f32
  double scale = 0;

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("tokens", &BalanceLoss::tokens);
    f.input("means", &BalanceLoss::means);
    f.input("counts", &BalanceLoss::counts);
    f.output("loss", &BalanceLoss::loss);
    f.value("scale", &BalanceLoss::scale);
  }
};

MOE_ENUM(ImbalanceMeasure, cv_squared, cv_squared_unbiased, maximum_violation)

struct Imbalance {
  static constexpr const char* kName = "imbalance";

  TensorView values;  // i32 or f32, of any shape
  TensorView result;  // [1] f32
  ImbalanceMeasure measure = ImbalanceMeasure::cv_squared;
  double epsilon = 0;

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("values", &Imbalance::values);
    f.output("result", &Imbalance::result);
    f.value("measure", &Imbalance::measure);
    f.value("epsilon", &Imbalance::epsilon);
  }
};

struct UpdateSelectionBias {
  static constexpr const char* kName = "updateSelectionBias";

  TensorView bias;     // [E] f32
  TensorView tokens;   // [S, E] i32
  TensorView updated;  // [E] f32, may be bias
  double rate = 0;

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("bias", &UpdateSelectionBias::bias);
    f.input("tokens", &UpdateSelectionBias::tokens);
    f.output("updated", &UpdateSelectionBias::updated);
    f.value("rate", &UpdateSelectionBias::rate);
  }
};

struct Accumulate {
  static constexpr const char* kName = "accumulate";

  TensorView values;  // i32 or f32: N values, or totals [N, 2]
  TensorView totals;  // [N, 2] of the same dtype
  bool values_are_totals = false;
  double scale = 1;  // of float values only

  template <class Fields>
  static constexpr void fields(Fields& f) {
    f.input("values", &Accumulate::values);
    f.updated("totals", &Accumulate::totals);
    f.value("valuesAreTotals", &Accumulate::values_are_totals);
    f.value("scale", &Accumulate::scale);
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
  result.units = (result.rows + result.rows_per_unit - 1) / result.rows_per_unit;
  return result;
}

}  // namespace moe
