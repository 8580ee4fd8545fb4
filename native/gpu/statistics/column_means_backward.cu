#include <ptx/launch.cuh>

#include "gpu/operators.h"
#include "gpu/plan/plan.h"
#include "gpu/tile/loops.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

struct Arguments {
  const float* means;
  const int* counts;
  const float* values;
  float* gradient;
  TokenMask mask;
  int64_t size;
  int64_t columns;
  int64_t rows_per_sequence;
};

MOE_KERNEL(column_means_backward_kernel, (gpu::kRowThreads, 1), const Arguments a) {
  for_each_item(a.size, [&](int64_t i) {
    const int64_t row = i / a.columns, sequence = row / a.rows_per_sequence;
    float slope = 0.0f, mean = 0.0f;
    if (a.mask.counts(row)) {
      slope = column_factor(a.counts, sequence, a.values != nullptr);
      if (a.values != nullptr) slope *= a.values[i];
      mean = a.means[sequence * a.columns + i % a.columns];
    }
    a.gradient[i] = mean * slope;
  });
}

}  // namespace

Status run(Context& context, const ColumnMeansBackward& p) {
  const Arguments arguments{
      .means = p.d_means.as<float>(),
      .counts = p.counts.as<int>(),
      .values = p.values.as<float>(),
      .gradient = p.d_values.as<float>(),
      .mask = TokenMask(p.token_mask),
      .size = p.d_values.size(),
      .columns = p.d_values.shape[1],
      .rows_per_sequence = p.d_values.shape[0] / p.d_means.shape[0],
  };
  return launch("column_means_backward", column_means_backward_kernel,
                dim3(gpu::element_grid(arguments.size, context.traits())), dim3(gpu::kRowThreads), 0, context.stream(),
                arguments);
}

}  // namespace moe::MOE_GPU_NAMESPACE
