#include <ptx/launch.cuh>

#include "gpu/operators.h"
#include "gpu/plan/plan.h"
#include "gpu/tile/loops.cuh"
#include "gpu/tile/reduce.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

struct BalanceArguments {
  const int* tokens;
  const int* counts;
  float* gradient;
  int64_t sequences;
  int64_t experts;
  double scale;
};

MOE_KERNEL(balance_loss_backward_kernel, (gpu::kRowThreads), const BalanceArguments a) {
  int counted = 0;
  for_each_of_block(a.sequences, [&](int64_t s) { counted += a.counts[s] != 0 ? 1 : 0; });
  counted = block_reduce(counted, Sum{});
  for_each_of_block(a.sequences * a.experts, [&](int64_t i) {
    a.gradient[i] = balance_slope(a.tokens[i], a.counts[i / a.experts], counted, a.scale);
  });
}

struct CvArguments {
  const float* values;
  float* gradient;
  int64_t count;
  int64_t divisor;
  double epsilon;
  double scale;
};

MOE_KERNEL(cv_squared_backward_kernel, (gpu::kRowThreads), const CvArguments a) {
  double sum = 0, squares = 0;
  for_each_of_block(a.count, [&](int64_t i) { sum += a.values[i]; });
  const double mean = block_reduce(sum, Sum{}) / static_cast<double>(a.count);
  for_each_of_block(a.count, [&](int64_t i) {
    const double difference = a.values[i] - mean;
    squares += difference * difference;
  });
  const CvSlope slope{a.count, a.divisor, mean, block_reduce(squares, Sum{}), a.epsilon};
  for_each_of_block(a.count, [&](int64_t i) { a.gradient[i] = static_cast<float>(a.scale * slope(a.values[i])); });
}

constexpr int kBlocks = 1;

}  // namespace

Status run(Context& context, const BalanceLossBackward& p) {
  const BalanceArguments arguments{
      .tokens = p.tokens.as<int>(),
      .counts = p.counts.as<int>(),
      .gradient = p.d_means.as<float>(),
      .sequences = p.tokens.shape[0],
      .experts = p.tokens.shape[1],
      .scale = p.scale,
  };
  return launch("balance_loss_backward", balance_loss_backward_kernel, dim3(kBlocks), dim3(gpu::kRowThreads), 0,
                context.stream(), arguments);
}

Status run(Context& context, const CvSquaredBackward& p) {
  const CvArguments arguments{
      .values = p.values.as<float>(),
      .gradient = p.d_values.as<float>(),
      .count = p.values.size(),
      .divisor = p.values.size() - (p.unbiased ? 1 : 0),
      .epsilon = p.epsilon,
      .scale = p.scale,
  };
  return launch("cv_squared_backward", cv_squared_backward_kernel, dim3(kBlocks), dim3(gpu::kRowThreads), 0,
                context.stream(), arguments);
}

}  // namespace moe::MOE_GPU_NAMESPACE
