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

// Loops over arrays alone, with constants of their own: compilers make vectors of them.
void step_values(const AdamWRule rule, float factor, int64_t count, const float* __restrict gradient,
                 float* __restrict parameter, float* __restrict mean, float* __restrict square) {
  for (int64_t i = 0; i < count; ++i) rule.apply(factor * gradient[i], parameter[i], mean[i], square[i]);
}

template <bool has_velocity>
void step_values(const SgdRule rule, float factor, int64_t count, const float* __restrict gradient,
                 float* __restrict parameter, float* __restrict velocity) {
  for (int64_t i = 0; i < count; ++i) {
    rule.apply(factor * gradient[i], parameter[i], has_velocity ? &velocity[i] : nullptr);
  }
}

double sum_of_squares(const float* values, int64_t count) {
  // Several sums, so that one addition need not wait for the last.
  constexpr int64_t kLanes = 8;
  double lanes[kLanes] = {};
  const auto add = [&](int64_t i, int64_t lane) {
    lanes[lane] += static_cast<double>(values[i]) * static_cast<double>(values[i]);
  };
  const int64_t whole = count / kLanes * kLanes;
  for (int64_t i = 0; i < whole; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) add(i + lane, lane);
  }
  for (int64_t i = whole; i < count; ++i) add(i, i - whole);
  double sum = 0;
  for (const double lane : lanes) sum += lane;
  return sum;
}

}  // namespace

Status run(Context& context, const SumOfSquares& p) {
  const float* values = p.values.as<const float>();
  const int64_t count = p.values.shape[0], blocks = ceil_divide(count, kSquaresBlock);
  double* sums = nullptr;
  MOE_TRY(reserve_workspace(context, [&](Arena& arena) { sums = arena.take<double>(blocks); }));
  context.team.for_range(blocks, 4, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      const int64_t first = block * kSquaresBlock;
      sums[block] = sum_of_squares(values + first, std::min(kSquaresBlock, count - first));
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
  for_blocks(context, p.parameter, p.copy, [&](int64_t begin, int64_t end) {
    step_values(rule, factor, end - begin, p.gradient.as<const float>() + begin, p.parameter.as<float>() + begin,
                p.mean.as<float>() + begin, p.square.as<float>() + begin);
  });
  return {};
}

Status run(Context& context, const Sgd& p) {
  const SgdRule rule(p);
  const float factor = clip_factor(p.squared_norm.as<const float>(), p.max_norm);
  for_blocks(context, p.parameter, p.copy, [&](int64_t begin, int64_t end) {
    const float* gradient = p.gradient.as<const float>() + begin;
    float* parameter = p.parameter.as<float>() + begin;
    const int64_t count = end - begin;
    if (p.has_velocity()) {
      step_values<true>(rule, factor, count, gradient, parameter, p.velocity.as<float>() + begin);
    } else {
      step_values<false>(rule, factor, count, gradient, parameter, nullptr);
    }
  });
  return {};
}

}  // namespace moe::cpu
