#include "cpu/operators.h"

namespace moe::cpu {

Status run(Context&, const BalanceLossBackward& p) {
  const int64_t sequences = p.tokens.shape[0], experts = p.tokens.shape[1];
  const auto* counts = p.counts.as<const int32_t>();
  int64_t counted = 0;
  for (int64_t s = 0; s < sequences; ++s) counted += counts[s] != 0 ? 1 : 0;
  for (int64_t i = 0; i < sequences * experts; ++i) {
    p.d_means.as<float>()[i] = balance_slope(p.tokens.as<const int32_t>()[i], counts[i / experts], counted, p.scale);
  }
  return {};
}

Status run(Context&, const CvSquaredBackward& p) {
  const int64_t count = p.values.size();
  const auto* values = p.values.as<const float>();
  double sum = 0, squares = 0;
  for (int64_t i = 0; i < count; ++i) sum += values[i];
  const double mean = sum / static_cast<double>(count);
  for (int64_t i = 0; i < count; ++i) squares += (values[i] - mean) * (values[i] - mean);
  const CvSlope slope{count, count - (p.unbiased ? 1 : 0), mean, squares, p.epsilon};
  for (int64_t i = 0; i < count; ++i) p.d_values.as<float>()[i] = static_cast<float>(p.scale * slope(values[i]));
  return {};
}

}  // namespace moe::cpu
