// Steps of optimisers: one pass over memory, each thread over blocks of its own.
#include "core/operators/optimizers.h"

#include <algorithm>

#include "core/divide.h"
#include "cpu/operators.h"

namespace moe::cpu {

namespace {

// Values per block: those of all tensors stay in the first-level cache.
constexpr int64_t kBlock = 1024;

// Calls step(begin, end) for blocks of `parameter`, then writes their copy, if there is one.
template <class Step>
void for_blocks(Context& context, const TensorView& parameter, const TensorView& copy, Step&& step) {
  const float* values = parameter.as<const float>();
  const int64_t size = copy.absent() ? 0 : static_cast<int64_t>(info(copy.dtype).bytes);
  context.team.for_range(parameter.shape[0], 16 * kBlock, [&](int64_t begin, int64_t end) {
    for (int64_t first = begin; first < end; first += kBlock) {
      const int64_t last = std::min(end, first + kBlock);
      step(first, last);
      if (size > 0) {
        context.kernels.from_f32(copy.dtype, values + first, last - first, copy.as<char>() + first * size);
      }
    }
  });
}

}  // namespace

Status run(Context& context, const SumOfSquares& p) {
  const float* values = p.values.as<const float>();
  const int64_t count = p.values.shape[0], blocks = ceil_divide(count, kSquaresBlock);
  double* sums = nullptr;
  MOE_TRY(reserve_workspace(context, [&](Arena& arena) { sums = arena.take<double>(blocks); }));
  context.team.for_range(blocks, 4, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      // Several sums, so that one addition need not wait for the last.
      constexpr int64_t kLanes = 8;
      double lanes[kLanes] = {};
      const int64_t first = block * kSquaresBlock, last = std::min(count, first + kSquaresBlock);
      for (int64_t i = first; i < last; ++i) {
        lanes[i % kLanes] += static_cast<double>(values[i]) * static_cast<double>(values[i]);
      }
      double sum = 0;
      for (const double lane : lanes) sum += lane;
      sums[block] = sum;
    }
  });
  double total = *p.total.as<const float>();
  for (int64_t block = 0; block < blocks; ++block) total += sums[block];
  *p.total.as<float>() = static_cast<float>(total);
  return {};
}

Status run(Context& context, const AdamW& p) {
  const AdamWRule rule(p);
  const float factor = clip_factor(p.squared_norm.as<const float>(), p.max_norm);
  float* __restrict parameter = p.parameter.as<float>();
  float* __restrict mean = p.mean.as<float>();
  float* __restrict square = p.square.as<float>();
  const float* __restrict gradient = p.gradient.as<const float>();
  for_blocks(context, p.parameter, p.copy, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) rule.apply(factor * gradient[i], parameter[i], mean[i], square[i]);
  });
  return {};
}

Status run(Context& context, const Sgd& p) {
  const SgdRule rule(p);
  const float factor = clip_factor(p.squared_norm.as<const float>(), p.max_norm);
  float* __restrict parameter = p.parameter.as<float>();
  float* __restrict velocity = p.has_velocity() ? p.velocity.as<float>() : nullptr;
  const float* __restrict gradient = p.gradient.as<const float>();
  for_blocks(context, p.parameter, p.copy, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      rule.apply(factor * gradient[i], parameter[i], velocity == nullptr ? nullptr : velocity + i);
    }
  });
  return {};
}

}  // namespace moe::cpu
