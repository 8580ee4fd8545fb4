// The gradient of the grouped GEMM's weights: for each expert a product dy^T x, summed over the expert's rows in order,
// in float32. A block computes tiles of an expert's gradient.
#include <climits>
#include <iterator>

#include <ptx/launch.cuh>

#include "gpu/gemm/tile_map.cuh"
#include "gpu/gemm/weight_gradient.cuh"
#include "gpu/gemm/weight_gradient_fma.cuh"
#include "gpu/gemm/weight_gradient_mma.cuh"
#include "gpu/gemm/weight_gradient_wgmma.cuh"
#include "gpu/operators.h"
#include "gpu/plan/plan_parts.h"
#include "gpu/plan/weight_gradient_plan.h"
#include "gpu/tile/dispatch.h"
#include "gpu/tile/loops.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

constexpr int kBiasThreads = 128;

template <class Tile>
__device__ __forceinline__ void compute_tiles(const WeightGradientArguments& a) {
  Tile tile(a);
  for_each_rectangle<Tile::kTile.rows, Tile::kTile.columns>(
      a, [&](const WeightGradientRectangle& rectangle) { tile.compute(rectangle); });
}

MOE_KERNEL(weight_gradient_fma_kernel, (gpu::kWeightGradientFmaTile.threads(), gpu::kWeightGradientFmaTile.blocks),
           const WeightGradientArguments a) {
  compute_tiles<WeightGradientFmaTile>(a);
}

template <class T, int kTileIndex>
MOE_KERNEL(weight_gradient_mma_kernel,
           (gpu::kWeightGradientMmaTiles[kTileIndex].threads(), gpu::kWeightGradientMmaTiles[kTileIndex].blocks),
           const WeightGradientArguments a) {
  compute_tiles<WeightGradientMmaTile<T, kTileIndex>>(a);
}

template <class T, int kTileIndex>
MOE_KERNEL(weight_gradient_wgmma_kernel,
           (gpu::kWeightGradientWgmmaTiles[kTileIndex].threads(), gpu::kWeightGradientWgmmaTiles[kTileIndex].blocks),
           const WeightGradientArguments a) {
  if constexpr (ptx::kHasWgmma) {
    compute_tiles<WeightGradientWgmmaTile<T, kTileIndex>>(a);
  } else {
    ptx::wgmma_fence();
  }
}

// One thread for a column of an expert's dy, block of rows by block. It loads several rows before it adds the first.
MOE_KERNEL(bias_gradient_kernel, (kBiasThreads), const WeightGradientArguments a) {
  constexpr int kTogether = 8;
  static_assert(kBiasGradientRows % kTogether == 0);
  for_each_item(a.experts * a.outputs, [&](int64_t item) {
    const int64_t expert = item / a.outputs, column = item % a.outputs;
    const int64_t end = a.first_rows[expert + 1];
    float total = a.accumulate ? a.bias_gradient[item] : 0.0f;
    for (int64_t block = a.first_rows[expert]; block < end; block += kBiasGradientRows) {
      float sum = 0.0f;
      for (int64_t first = block; first < end && first < block + kBiasGradientRows; first += kTogether) {
        bool exists[kTogether];
        float values[kTogether];
#pragma unroll
        for (int i = 0; i < kTogether; ++i) exists[i] = first + i < end && token_of(a, first + i) >= 0;
#pragma unroll
        for (int i = 0; i < kTogether; ++i) {
          if (!exists[i]) continue;
          values[i] = load_as_float(a.output_gradient, a.output_gradient_dtype, (first + i) * a.outputs + column);
        }
#pragma unroll
        for (int i = 0; i < kTogether; ++i) sum = exists[i] ? sum + values[i] : sum;
      }
      total += sum;
    }
    a.bias_gradient[item] = total;
  });
}

template <class Kernel>
Status launch_tiles(Kernel* kernel, const WeightGradientArguments& arguments, const gpu::WeightGradientPlan& plan,
                    Stream stream) {
  return launch("weight_gradient", kernel, dim3(plan.grid), dim3(plan.tile.threads()), plan.shared_bytes, stream,
                arguments);
}

template <class T>
Status launch_tensor_cores(const WeightGradientArguments& arguments, const gpu::WeightGradientPlan& plan,
                           Stream stream) {
  if (plan.kernel == gpu::WeightGradientKernel::wgmma) {
    return gpu::dispatch_index<std::size(gpu::kWeightGradientWgmmaTiles)>(plan.tile_index, [&](auto index) {
      return launch_tiles(weight_gradient_wgmma_kernel<T, decltype(index)::value>, arguments, plan, stream);
    });
  }
  return gpu::dispatch_index<std::size(gpu::kWeightGradientMmaTiles)>(plan.tile_index, [&](auto index) {
    return launch_tiles(weight_gradient_mma_kernel<T, decltype(index)::value>, arguments, plan, stream);
  });
}

Status launch_weight_gradient(const WeightGradientArguments& arguments, const gpu::WeightGradientPlan& plan,
                              Stream stream) {
  if (!plan.tensor_cores()) return launch_tiles(weight_gradient_fma_kernel, arguments, plan, stream);
  return arguments.x_dtype == DType::bf16 ? launch_tensor_cores<bf16>(arguments, plan, stream)
                                          : launch_tensor_cores<f16>(arguments, plan, stream);
}

// Whether runs of this many elements are aligned in every row.
bool runs_aligned(const TensorView& matrix, int64_t pitch, int64_t run) {
  const uint64_t bytes = static_cast<uint64_t>(run) * info(matrix.dtype).bytes;
  return reinterpret_cast<uint64_t>(matrix.data) % bytes == 0 && pitch % run == 0;
}

}  // namespace

Status run(Context& context, const GroupedGemmWeightBackward& p) {
  const int64_t experts = p.d_weight.shape[0], rows = p.dy.shape[0];
  const gpu::DeviceTraits& traits = context.traits();
  const Stream stream = context.stream();
  // The map's table of first rows is all that is read.
  constexpr int kWholeExperts = INT_MAX;
  Scratch map(*context.runtime);
  MOE_TRY(map.reserve(gpu::tile_map_bytes(rows, experts, kWholeExperts)));
  gpu::IdError* error = context.errors.next(
      {.parameter = "groupedGemmWeightBackward: offsets", .what = nullptr, .limit = rows, .columns = 0});
  MOE_TRY(launch_tile_map(tile_map_arguments({p.offsets.as<int>(), experts, rows}, {.group = {0, experts}},
                                             kWholeExperts, map.at(0), error),
                          traits.max_threads, stream));
  const gpu::WeightGradientPlan plan = gpu::plan_weight_gradient({.experts = experts,
                                                                  .outputs = p.dy.shape[1],
                                                                  .columns = p.x.shape[1],
                                                                  .x = p.x.dtype,
                                                                  .output_gradient = p.dy.dtype},
                                                                 traits);
  // Elements that a kernel loads and that it stores at once.
  const int64_t run = plan.tensor_cores() ? kChunkBytes / int64_t{sizeof(bf16)} : WeightGradientFmaTile::kRun;
  const int64_t sums = plan.tensor_cores() ? 2 : WeightGradientFmaTile::kRun;
  const WeightGradientArguments arguments{
      .x = p.x.data,
      .output_gradient = p.dy.data,
      .x_dtype = p.x.dtype,
      .output_gradient_dtype = p.dy.dtype,
      .token_of_row = p.token_of_row.as<int>(),
      .x_rows = p.x.shape[0],
      .token_error = context.errors.next(
          {.parameter = "groupedGemmWeightBackward: tokenOfRow", .what = "a row", .limit = p.x.shape[0], .columns = 0}),
      .first_rows = gpu::first_rows_of(map.at(0), rows, experts, kWholeExperts) + 1,
      .experts = experts,
      .outputs = p.dy.shape[1],
      .columns = p.x.shape[1],
      .weight_gradient = p.d_weight.as<float>(),
      .bias_gradient = p.d_bias.as<float>(),
      .accumulate = p.accumulate,
      .aligned_x = runs_aligned(p.x, p.x.shape[1], run),
      .aligned_output_gradient = runs_aligned(p.dy, p.dy.shape[1], run),
      .aligned_weight_gradient = runs_aligned(p.d_weight, p.x.shape[1], sums),
  };
  MOE_TRY(launch_weight_gradient(arguments, plan, stream));
  if (p.d_bias.absent() || p.d_bias.size() == 0) return {};
  return launch("bias_gradient", bias_gradient_kernel,
                dim3(gpu::capped_grid(ceil_divide(experts * arguments.outputs, kBiasThreads),
                                      gpu::kBlocksPerMultiprocessor, traits)),
                dim3(kBiasThreads), 0, stream, arguments);
}

}  // namespace moe::MOE_GPU_NAMESPACE
