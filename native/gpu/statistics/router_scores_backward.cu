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
  const float* score_gradient;        // null: none
  const float* log_sum_exp_gradient;  // null: none
  const float* entropy_gradient;      // null: none
  float* logit_gradient;
  int64_t tokens;
  int64_t experts;
  bool sigmoid;
  bool normalize;
};

// One warp per token; each lane handles every 32nd expert.
template <class T>
MOE_KERNEL(router_scores_backward_kernel, (gpu::kRowThreads, 1), const Arguments a) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  for_each_row(a.tokens, [&](int64_t token) {
    const T* logits = static_cast<const T*>(a.logits) + token * a.experts;
    const float* score_gradient = a.score_gradient == nullptr ? nullptr : a.score_gradient + token * a.experts;
    const float log_sum_exp = a.log_sum_exp_gradient == nullptr ? 0.0f : a.log_sum_exp_gradient[token];
    const float entropy_gradient = a.entropy_gradient == nullptr ? 0.0f : a.entropy_gradient[token];
    // Sums of the scores, and of each times its gradient; those of a softmax still have to be divided by its sum.
    float scores = 0.0f, total = 0.0f;
    const auto [largest, sum, distances] = softmax_of_row(logits, a.experts, [&](int64_t e, float logit, float share) {
      const float score = a.sigmoid ? sigmoid_score(logit) : share;
      scores += score;
      if (score_gradient != nullptr) total += score * score_gradient[e];
    });
    scores = warp_sum(scores);
    total = warp_sum(total);
    const float logarithm = logf(sum);
    const float entropy = logarithm + distances / sum;
    const float unit = a.sigmoid ? 1.0f : 1.0f / sum;
    const ScoreSlope slope{a.sigmoid, a.normalize, scores};

    for (int64_t e = lane; e < a.experts; e += 32) {
      const float logit = to_float(logits[e]);
      float gradient = 0.0f;
      if (std::isfinite(logit)) {
        const float share = exponential(logit, largest) / sum;
        const float score = a.sigmoid ? sigmoid(logit) : share;
        if (score_gradient != nullptr) gradient = slope(score, sigmoid(-logit), score_gradient[e], total * unit);
        if (share > 0.0f) {
          const float distance = entropy + (logit - largest - logarithm);
          gradient += share * (log_sum_exp - distance * entropy_gradient);
        }
      }
      a.logit_gradient[token * a.experts + e] = gradient;
    }
  });
}

}  // namespace

Status run(Context& context, const RouterScoresBackward& p) {
  const Arguments arguments{
      .logits = p.logits.data,
      .score_gradient = p.d_scores.as<float>(),
      .log_sum_exp_gradient = p.d_log_sum_exp.as<float>(),
      .entropy_gradient = p.d_entropy.as<float>(),
      .logit_gradient = p.d_logits.as<float>(),
      .tokens = p.logits.shape[0],
      .experts = p.logits.shape[1],
      .sigmoid = p.scoring == ExpertScoring::sigmoid,
      .normalize = p.normalize,
  };
  const dim3 grid(gpu::row_grid(arguments.tokens, context.traits()));
  return gpu::dispatch_float(p.logits.dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    return launch("router_scores_backward", router_scores_backward_kernel<T>, grid, dim3(gpu::kRowThreads), 0,
                  context.stream(), arguments);
  });
}

}  // namespace moe::MOE_GPU_NAMESPACE
