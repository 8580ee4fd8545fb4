#include <ptx/launch.cuh>

#include "gpu/operators.h"
#include "gpu/plan/plan.h"
#include "gpu/tile/dispatch.h"
#include "gpu/tile/element.cuh"
#include "gpu/tile/loops.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

constexpr int kRows = gpu::RouterGradientTile::kRows;
constexpr int kColumns = gpu::RouterGradientTile::kColumns;

struct Arguments {
  const void* x;
  const void* weight;
  const float* logit_gradient;
  void* x_gradient;
  DType x_gradient_dtype;
  float* weight_gradient;
  float* parts;  // [splits, E, H]; the weight's gradient if there is one split
  int64_t tokens, experts, hidden;
  int64_t splits, tokens_per_split;
  int64_t runs;  // of columns
  bool aligned_input, aligned_output;
};

// The first `count` columns of a run; all of them, in one access and without a branch, if rows are whole vectors.
template <bool kWholeVectors, class T>
__device__ __forceinline__ void load_run(const T* address, int64_t count, bool aligned, float (&values)[kColumns]) {
  if constexpr (kWholeVectors) {
    load_vector(address, values);
  } else {
    load_up_to(address, count, aligned, values);
  }
}

__device__ __forceinline__ void multiply_add(float factor, const float (&values)[kColumns], float (&sums)[kColumns]) {
#pragma unroll
  for (int i = 0; i < kColumns; ++i) sums[i] = fmaf(factor, values[i], sums[i]);
}

// One thread for some columns of a few tokens, over all experts in order. Instead of tokens that do not exist, the last
// one is taken again and not stored, so that no load waits for a branch.
template <class W, bool kWholeVectors>
MOE_KERNEL(router_token_gradient_kernel, (gpu::kRowThreads), const Arguments a) {
  for_each_item((a.tokens + kRows - 1) / kRows * a.runs, [&](int64_t item) {
    const int64_t first = item / a.runs * kRows;
    const int64_t column = item % a.runs * kColumns;
    const auto last = static_cast<int>(min(a.tokens - first, int64_t{kRows})) - 1;
    const float* gradient = a.logit_gradient + first * a.experts;
    float sums[kRows][kColumns] = {};
#pragma unroll(kWholeVectors ? 4 : 1)
    for (int64_t expert = 0; expert < a.experts; ++expert) {
      float weight[kColumns];
      load_run<kWholeVectors>(static_cast<const W*>(a.weight) + expert * a.hidden + column, a.hidden - column,
                              a.aligned_input, weight);
#pragma unroll
      for (int i = 0; i < kRows; ++i) multiply_add(gradient[min(i, last) * a.experts + expert], weight, sums[i]);
    }
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      if (first + i >= a.tokens) break;
      store_up_to(a.x_gradient, a.x_gradient_dtype, (first + i) * a.hidden + column, a.hidden - column,
                  a.aligned_output, sums[i]);
    }
  });
}

// One thread for some columns of a few experts, over the tokens of one split: block by block, in order.
template <class X, bool kWholeVectors>
MOE_KERNEL(router_weight_gradient_kernel, (gpu::kRowThreads), const Arguments a) {
  const int64_t tiles = (a.experts + kRows - 1) / kRows * a.runs;
  for_each_item(a.splits * tiles, [&](int64_t item) {
    const int64_t split = item / tiles;
    const int64_t first = item % tiles / a.runs * kRows;
    const int64_t column = item % a.runs * kColumns;
    const int64_t end = min(a.tokens, (split + 1) * a.tokens_per_split);
    float totals[kRows][kColumns] = {};
    for (int64_t block = split * a.tokens_per_split; block < end; block += kGradientBlock) {
      float sums[kRows][kColumns] = {};
      const int64_t block_end = min(end, block + kGradientBlock);
#pragma unroll(kWholeVectors ? 4 : 1)
      for (int64_t token = block; token < block_end; ++token) {
        float x[kColumns];
        load_run<kWholeVectors>(static_cast<const X*>(a.x) + token * a.hidden + column, a.hidden - column,
                                a.aligned_input, x);
#pragma unroll
        for (int i = 0; i < kRows; ++i) {
          if (first + i < a.experts) multiply_add(a.logit_gradient[token * a.experts + first + i], x, sums[i]);
        }
      }
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
#pragma unroll
        for (int c = 0; c < kColumns; ++c) totals[i][c] += sums[i][c];
      }
    }
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      if (first + i >= a.experts) break;
      float* part = a.parts + (split * a.experts + first + i) * a.hidden + column;
      store_up_to(part, a.hidden - column, false, totals[i]);
    }
  });
}

MOE_KERNEL(router_weight_sum_kernel, (gpu::kRowThreads), const Arguments a) {
  const int64_t size = a.experts * a.hidden;
  for_each_item(size, [&](int64_t i) {
    float sum = 0.0f;
    for (int64_t split = 0; split < a.splits; ++split) sum += a.parts[split * size + i];
    a.weight_gradient[i] = sum;
  });
}

}  // namespace

Status run(Context& context, const RouterProjectionBackward& p) {
  const gpu::DeviceTraits& traits = context.traits();
  const Stream stream = context.stream();
  Arguments arguments{
      .x = p.x.data,
      .weight = p.weight.data,
      .logit_gradient = p.d_logits.as<float>(),
      .x_gradient = p.d_x.data,
      .x_gradient_dtype = p.d_x.dtype,
      .weight_gradient = p.d_weight.as<float>(),
      .parts = p.d_weight.as<float>(),
      .tokens = p.x.shape[0],
      .experts = p.weight.shape[0],
      .hidden = p.x.shape[1],
      .splits = 1,
      .tokens_per_split = 0,
      .runs = (p.x.shape[1] + kColumns - 1) / kColumns,
      .aligned_input = false,
      .aligned_output = false,
  };
  const auto launch_items = [&](const char* name, auto kernel, int64_t items) {
    return launch(name, kernel, dim3(gpu::element_grid(items, traits)), dim3(gpu::kRowThreads), 0, stream, arguments);
  };
  const auto tiles = [&](int64_t rows) { return (rows + kRows - 1) / kRows * arguments.runs; };
  MOE_TRY(gpu::dispatch_float(p.weight.dtype, [&](auto type) {
    using W = typename decltype(type)::type;
    arguments.aligned_input = vectors_aligned<W, kColumns>(p.weight.data, arguments.hidden);
    // Every dtype of dx is aligned if the widest is.
    arguments.aligned_output = vectors_aligned<float, kColumns>(p.d_x.data, arguments.hidden);
    const bool whole = arguments.aligned_input && arguments.hidden % kColumns == 0;
    return launch_items("router_token_gradient",
                        whole ? router_token_gradient_kernel<W, true> : router_token_gradient_kernel<W, false>,
                        tiles(arguments.tokens));
  }));

  const gpu::RouterGradientPlan plan = gpu::plan_router_gradient(arguments.tokens, arguments.experts, arguments.hidden);
  Scratch scratch(*context.runtime);
  MOE_TRY(scratch.reserve(plan.workspace_bytes));
  if (plan.splits > 1) arguments.parts = reinterpret_cast<float*>(scratch.at(0));
  arguments.splits = plan.splits;
  arguments.tokens_per_split = plan.tokens_per_split;
  MOE_TRY(gpu::dispatch_float(p.x.dtype, [&](auto type) {
    using X = typename decltype(type)::type;
    arguments.aligned_input = vectors_aligned<X, kColumns>(p.x.data, arguments.hidden);
    const bool whole = arguments.aligned_input && arguments.hidden % kColumns == 0;
    return launch_items("router_weight_gradient",
                        whole ? router_weight_gradient_kernel<X, true> : router_weight_gradient_kernel<X, false>,
                        plan.splits * tiles(arguments.experts));
  }));
  if (plan.splits == 1) return {};
  return launch_items("router_weight_sum", router_weight_sum_kernel, arguments.experts * arguments.hidden);
}

}  // namespace moe::MOE_GPU_NAMESPACE
