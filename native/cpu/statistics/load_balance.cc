#include <algorithm>
#include <cmath>

#include "cpu/operators.h"

namespace moe::cpu {

Status run(Context&, const BalanceLoss& p) {
  const int64_t sequences = p.tokens.shape[0], experts = p.tokens.shape[1];
  const auto* tokens = p.tokens.as<const int32_t>();
  const auto* means = p.means.as<const float>();
  double losses = 0;
  int64_t counted = 0;
  for (int64_t s = 0; s < sequences; ++s) {
    const int32_t count = p.counts.as<const int32_t>()[s];
    if (count == 0) continue;
    double sum = 0;
    for (int64_t i = s * experts; i < (s + 1) * experts; ++i) sum += static_cast<double>(tokens[i]) * means[i];
    losses += sum / count;
    ++counted;
  }
  *p.loss.as<float>() = counted == 0 ? 0.0f : static_cast<float>(p.scale * losses / static_cast<double>(counted));
  return {};
}

static double value_at(const TensorView& values, int64_t i) {
  return values.dtype == DType::i32 ? static_cast<double>(values.as<const int32_t>()[i]) : values.as<const float>()[i];
}

Status run(Context&, const Imbalance& p) {
  const int64_t count = p.values.size();
  double sum = 0, largest = -INFINITY;
  for (int64_t i = 0; i < count; ++i) {
    const double value = value_at(p.values, i);
    sum += value;
    largest = std::max(largest, value);
  }
  const double mean = sum / static_cast<double>(count);
  double squares = 0;
  for (int64_t i = 0; i < count; ++i) {
    const double difference = value_at(p.values, i) - mean;
    squares += difference * difference;
  }
  *p.result.as<float>() = imbalance_of({count, mean, largest, squares}, p.measure, p.epsilon);
  return {};
}

Status run(Context&, const UpdateSelectionBias& p) {
  const int64_t experts = p.bias.shape[0];
  const int32_t* tokens = p.tokens.as<const int32_t>();
  int64_t total = 0;
  for (int64_t i = 0; i < p.tokens.size(); ++i) total += tokens[i];
  for (int64_t e = 0; e < experts; ++e) {
    int64_t count = 0;
    for (int64_t i = e; i < p.tokens.size(); i += experts) count += tokens[i];
    p.updated.as<float>()[e] =
        static_cast<float>(p.bias.as<const float>()[e] + p.rate * sign_below_mean(count, total, experts));
  }
  return {};
}

}  // namespace moe::cpu
