#include "gpu/gemm/fma.h"

#include "gpu/gemm/kernels.h"

namespace moe::gpu {

size_t fma_shared_bytes(const GemmTile& tile, const WeightFormat&) {
  // Four floats of padding per row of x avoid bank conflicts.
  const int64_t stage = kFmaDepth * (tile.rows + 4 + tile.columns) * static_cast<int64_t>(sizeof(float));
  return with_staged_sums(tile, tile.stages * stage);
}

constexpr GemmKernel kFmaF32 = fma_row("fma_f32", kOnly<kF32Format>, kRowLayout);
constexpr GemmKernel kFmaF16 = fma_row("fma_f16", kOnly<kF16Format>, kRowLayout);
constexpr GemmKernel kFmaBF16 = fma_row("fma_bf16", kOnly<kBF16Format>, kRowLayout);

}  // namespace moe::gpu
