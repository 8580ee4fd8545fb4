#include "gpu/gemm/wgmma.h"

#include "gpu/gemm/kernels.h"
#include "gpu/plan/gemm_plan.h"

namespace moe::gpu {
namespace {

constexpr DType kF16[] = {DType::f16};
constexpr DType kBF16[] = {DType::bf16};
constexpr ComputeCapabilities kHopper[] = {{90, 90}};

size_t shared_bytes(const GemmTile& tile, const WeightFormat&) {
  return with_staged_sums(tile, tile.stages * (tile.rows + tile.columns) * kStageRowBytes);
}

}  // namespace

constexpr GemmKernel kWgmmaBF16{.name = "wgmma_bf16",
                                .tokens = kBF16,
                                .x = DType::bf16,
                                .formats = kOnly<kBF16Format>,
                                .numbers = "exact products, float32 sums",
                                .runs_on = kHopper,
                                .layout = &kRowLayout,
                                .tiles = kWgmmaTiles,
                                .shared_bytes = shared_bytes,
                                .plan = plan_tiles};

constexpr GemmKernel kWgmmaF16{.name = "wgmma_f16",
                               .tokens = kF16,
                               .x = DType::f16,
                               .formats = kOnly<kF16Format>,
                               .numbers = "exact products, float32 sums",
                               .runs_on = kHopper,
                               .layout = &kRowLayout,
                               .tiles = kWgmmaTiles,
                               .shared_bytes = shared_bytes,
                               .plan = plan_tiles};

}  // namespace moe::gpu
