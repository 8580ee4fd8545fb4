#include <cmath>

#include <ptx/launch.cuh>

#include "gpu/operators.h"
#include "gpu/plan/plan.h"
#include "gpu/tile/dispatch.h"
#include "gpu/tile/element.cuh"
#include "gpu/tile/reduce.cuh"
#include "gpu/tile/softmax.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

struct Arguments {
  const void* logits;
  float* scores;
  float* log_sum_exp;
  float* entropy;
  int64_t tokens;
  int64_t experts;
  bool sigmoid;
  bool normalize;
};

__device__ __forceinline__ float sigmoid(float logit) {
  return std::isnan(logit) ? 0.0f : 1.0f / (1.0f + expf(-logit));
}

// One warp per token; a lane has every 32nd expert.
template <class T>
__global__ void __launch_bounds__(gpu::kRowThreads) router_scores_kernel(const Arguments a) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int64_t warps = static_cast<int64_t>(gridDim.x) * (blockDim.x / 32);
  for (int64_t token = blockIdx.x * static_cast<int64_t>(blockDim.x / 32) + threadIdx.x / 32; token < a.tokens;
       token += warps) {
    const T* logits = static_cast<const T*>(a.logits) + token * a.experts;
    float largest = -INFINITY;
    for (int64_t e = lane; e < a.experts; e += 32) largest = fmaxf(largest, to_float(logits[e]));
    largest = warp_max(largest);

    float sum = 0.0f, distances = 0.0f, sigmoids = 0.0f;
    for (int64_t e = lane; e < a.experts; e += 32) {
      const float logit = to_float(logits[e]);
      const float share = exponential(logit, largest);
      sum += share;
      if (share > 0.0f && logit < largest) distances += share * (largest - logit);
      if (a.sigmoid) sigmoids += sigmoid(logit);
    }
    sum = warp_sum(sum);
    distances = warp_sum(distances);
    sigmoids = warp_sum(sigmoids);
    if (lane == 0 && a.log_sum_exp != nullptr) a.log_sum_exp[token] = sum > 0.0f ? largest + logf(sum) : -INFINITY;
    if (lane == 0 && a.entropy != nullptr) a.entropy[token] = sum > 0.0f ? logf(sum) + distances / sum : 0.0f;

    if (a.scores == nullptr) continue;
    const float divisor = !a.sigmoid ? sum : a.normalize ? sigmoids : 1.0f;
    for (int64_t e = lane; e < a.experts; e += 32) {
      const float logit = to_float(logits[e]);
      const float score = a.sigmoid ? sigmoid(logit) : exponential(logit, largest);
      a.scores[token * a.experts + e] = divisor > 0.0f ? score / divisor : 0.0f;
    }
  }
}

}  // namespace

Status run(Context& context, const RouterScores& p) {
  const Arguments arguments{
      p.logits.data,     p.scores.as<float>(), p.log_sum_exp.as<float>(),           p.entropy.as<float>(),
      p.logits.shape[0], p.logits.shape[1],    p.scoring == ExpertScoring::sigmoid, p.normalize};
  const dim3 grid(gpu::row_grid(arguments.tokens, context.traits()));
  return gpu::dispatch_float(p.logits.dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    return launch("router_scores", router_scores_kernel<T>, grid, dim3(gpu::kRowThreads), 0, context.stream(),
                  arguments);
  });
}

}  // namespace moe::MOE_GPU_NAMESPACE
