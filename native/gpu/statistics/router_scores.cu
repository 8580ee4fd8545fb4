#include <cmath>

#include <ptx/launch.cuh>

#include "gpu/operators.h"
#include "gpu/plan/plan.h"
#include "gpu/statistics/softmax_of_row.cuh"
#include "gpu/tile/dispatch.h"
#include "gpu/tile/loops.cuh"

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

// One warp per token; each lane handles every 32nd expert.
template <class T>
MOE_KERNEL(router_scores_kernel, (gpu::kRowThreads), const Arguments a) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  for_each_row(a.tokens, [&](int64_t token) {
    const T* logits = static_cast<const T*>(a.logits) + token * a.experts;
    float sigmoids = 0.0f;
    const auto [largest, sum, distances] = softmax_of_row(logits, a.experts, [&](int64_t, float logit, float) {
      if (a.sigmoid) sigmoids += sigmoid_score(logit);
    });
    sigmoids = warp_sum(sigmoids);
    if (lane == 0 && a.log_sum_exp != nullptr) a.log_sum_exp[token] = sum > 0.0f ? largest + logf(sum) : -INFINITY;
    if (lane == 0 && a.entropy != nullptr) a.entropy[token] = sum > 0.0f ? logf(sum) + distances / sum : 0.0f;

    if (a.scores == nullptr) return;
    const float divisor = !a.sigmoid ? sum : a.normalize ? sigmoids : 1.0f;
    for (int64_t e = lane; e < a.experts; e += 32) {
      const float logit = to_float(logits[e]);
      const float score = a.sigmoid ? sigmoid_score(logit) : exponential(logit, largest);
      a.scores[token * a.experts + e] = divisor > 0.0f ? score / divisor : 0.0f;
    }
  });
}

}  // namespace

Status run(Context& context, const RouterScores& p) {
  const Arguments arguments{
      .logits = p.logits.data,
      .scores = p.scores.as<float>(),
      .log_sum_exp = p.log_sum_exp.as<float>(),
      .entropy = p.entropy.as<float>(),
      .tokens = p.logits.shape[0],
      .experts = p.logits.shape[1],
      .sigmoid = p.scoring == ExpertScoring::sigmoid,
      .normalize = p.normalize,
  };
  const dim3 grid(gpu::row_grid(arguments.tokens, context.traits()));
  return gpu::dispatch_float(p.logits.dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    return launch("router_scores", router_scores_kernel<T>, grid, dim3(gpu::kRowThreads), 0, context.stream(),
                  arguments);
  });
}

}  // namespace moe::MOE_GPU_NAMESPACE
