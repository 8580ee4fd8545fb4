#include <cmath>

#include <ptx/launch.cuh>

#include "gpu/operators.h"
#include "gpu/plan/plan.h"
#include "gpu/tile/loops.cuh"
#include "gpu/tile/reduce.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

struct BalanceArguments {
  const int* tokens;
  const float* means;
  const int* counts;
  float* loss;
  int64_t sequences;
  int64_t experts;
  double scale;
};

MOE_KERNEL(balance_loss_kernel, (gpu::kRowThreads), const BalanceArguments a) {
  double sum = 0, counted = 0;
  for_each_of_block(a.sequences * a.experts, [&](int64_t i) {
    const int count = a.counts[i / a.experts];
    if (count != 0) sum += static_cast<double>(a.tokens[i]) * a.means[i] / count;
  });
  for_each_of_block(a.sequences, [&](int64_t s) { counted += a.counts[s] != 0 ? 1 : 0; });
  sum = block_reduce(sum, Sum{});
  counted = block_reduce(counted, Sum{});
  if (threadIdx.x == 0) *a.loss = counted == 0 ? 0.0f : static_cast<float>(a.scale * sum / counted);
}

struct ImbalanceArguments {
  const void* values;
  float* result;
  int64_t count;
  ImbalanceMeasure measure;
  double epsilon;
};

template <class T>
MOE_KERNEL(imbalance_kernel, (gpu::kRowThreads), const ImbalanceArguments a) {
  const T* values = static_cast<const T*>(a.values);
  double sum = 0, largest = -INFINITY;
  for_each_of_block(a.count, [&](int64_t i) {
    const double value = values[i];
    sum += value;
    largest = value > largest ? value : largest;
  });
  const double mean = block_reduce(sum, Sum{}) / static_cast<double>(a.count);
  largest = block_reduce(largest, Max{});
  double squares = 0;
  for_each_of_block(a.count, [&](int64_t i) {
    const double difference = values[i] - mean;
    squares += difference * difference;
  });
  squares = block_reduce(squares, Sum{});
  if (threadIdx.x == 0) *a.result = imbalance_of({a.count, mean, largest, squares}, a.measure, a.epsilon);
}

struct BiasArguments {
  const float* bias;
  const int* tokens;
  float* updated;
  int64_t experts;
  int64_t count;  // number of tokens
  double rate;
};

MOE_KERNEL(update_selection_bias_kernel, (gpu::kRowThreads), const BiasArguments a) {
  long long own = 0;
  for_each_of_block(a.count, [&](int64_t i) { own += a.tokens[i]; });
  const long long total = block_reduce(own, Sum{});
  for_each_of_block(a.experts, [&](int64_t expert) {
    int64_t tokens = 0;
    for (int64_t i = expert; i < a.count; i += a.experts) tokens += a.tokens[i];
    a.updated[expert] = static_cast<float>(a.bias[expert] + a.rate * sign_below_mean(tokens, total, a.experts));
  });
}

constexpr int kBlocks = 1;

}  // namespace

Status run(Context& context, const BalanceLoss& p) {
  const BalanceArguments arguments{
      .tokens = p.tokens.as<int>(),
      .means = p.means.as<float>(),
      .counts = p.counts.as<int>(),
      .loss = p.loss.as<float>(),
      .sequences = p.tokens.shape[0],
      .experts = p.tokens.shape[1],
      .scale = p.scale,
  };
  return launch("balance_loss", balance_loss_kernel, dim3(kBlocks), dim3(gpu::kRowThreads), 0, context.stream(),
                arguments);
}

Status run(Context& context, const Imbalance& p) {
  const ImbalanceArguments arguments{
      .values = p.values.data,
      .result = p.result.as<float>(),
      .count = p.values.size(),
      .measure = p.measure,
      .epsilon = p.epsilon,
  };
  const auto kernel = p.values.dtype == DType::i32 ? imbalance_kernel<int> : imbalance_kernel<float>;
  return launch("imbalance", kernel, dim3(kBlocks), dim3(gpu::kRowThreads), 0, context.stream(), arguments);
}

Status run(Context& context, const UpdateSelectionBias& p) {
  const BiasArguments arguments{
      .bias = p.bias.as<float>(),
      .tokens = p.tokens.as<int>(),
      .updated = p.updated.as<float>(),
      .experts = p.bias.shape[0],
      .count = p.tokens.size(),
      .rate = p.rate,
  };
  return launch("update_selection_bias", update_selection_bias_kernel, dim3(kBlocks), dim3(gpu::kRowThreads), 0,
                context.stream(), arguments);
}

}  // namespace moe::MOE_GPU_NAMESPACE
