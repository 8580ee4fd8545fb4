// The rows of the tensor-core kernels for plain weights.
#include "gpu/gemm/mma.h"

#include "gpu/gemm/kernels.h"
#include "gpu/gemm/wgmma.h"
#include "gpu/plan/gemm_plan.h"

namespace moe::gpu {
namespace {

constexpr DType kF32[] = {DType::f32};
constexpr DType kF16[] = {DType::f16};
constexpr DType kBF16[] = {DType::bf16};

size_t shared_bytes(const GemmTile& tile, const WeightFormat&) {
  return with_staged_sums(tile, tile.stages * (tile.rows + tile.columns) * kStageRowBytes);
}

// Tokens and weights of one 16-bit type.
template <const auto& kTokens, const WeightFormat& kFormat>
constexpr GemmKernel row(const char* name, std::span<const GemmTile> tiles,
                         std::span<const ComputeCapabilities> runs_on = kAllCapabilities) {
  return {.name = name,
          .tokens = kTokens,
          .x = kTokens[0],
          .formats = kOnly<kFormat>,
          .numbers = "exact products, float32 sums",
          .runs_on = runs_on,
          .layout = &kRowLayout,
          .tiles = tiles,
          .shared_bytes = shared_bytes,
          .plan = plan_tiles};
}

}  // namespace

constexpr GemmKernel kWgmmaBF16 = row<kBF16, kBF16Format>("wgmma_bf16", kWgmmaTiles, kHopper);
constexpr GemmKernel kWgmmaF16 = row<kF16, kF16Format>("wgmma_f16", kWgmmaTiles, kHopper);
constexpr GemmKernel kMmaBF16 = row<kBF16, kBF16Format>("mma_bf16", kMmaTiles);
constexpr GemmKernel kMmaF16 = row<kF16, kF16Format>("mma_f16", kMmaTiles);

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
