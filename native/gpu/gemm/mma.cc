#include "gpu/gemm/mma.h"

#include "gpu/gemm/kernels.h"
#include "gpu/plan/gemm_plan.h"

namespace moe::gpu {
namespace {

constexpr DType kF32[] = {DType::f32};
constexpr DType kF16[] = {DType::f16};
constexpr DType kBF16[] = {DType::bf16};

size_t shared_bytes(const GemmTile& tile, const WeightFormat&) {
  return with_staged_sums(tile, tile.stages * (tile.rows + tile.columns) * kStageRowBytes);
}

}  // namespace

constexpr GemmKernel kMmaBF16{.name = "mma_bf16",
                              .tokens = kBF16,
                              .x = DType::bf16,
                              .formats = kOnly<kBF16Format>,
                              .numbers = "exact products, float32 sums",
                              .layout = &kRowLayout,
                              .tiles = kMmaTiles,
                              .shared_bytes = shared_bytes,
                              .plan = plan_tiles};

constexpr GemmKernel kMmaF16{.name = "mma_f16",
                             .tokens = kF16,
                             .x = DType::f16,
                             .formats = kOnly<kF16Format>,
                             .numbers = "exact products, float32 sums",
                             .layout = &kRowLayout,
                             .tiles = kMmaTiles,
                             .shared_bytes = shared_bytes,
                             .plan = plan_tiles};

constexpr GemmKernel kMmaTF32{.name = "mma_tf32",
                              .tokens = kF32,
                              .x = DType::f32,
                              .formats = kOnly<kF32Format>,
                              .numbers = "tokens and weights rounded to tf32, float32 sums",
                              .rounds = Rounding::tf32,
                              .layout = &kRowLayout,
                              .tiles = kMmaTF32Tiles,
                              .shared_bytes = shared_bytes,
                              .plan = plan_tiles};

}  // namespace moe::gpu
