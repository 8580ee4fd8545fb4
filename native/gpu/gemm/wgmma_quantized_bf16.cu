#include "gpu/gemm/quantized_launch.cuh"
#include "gpu/gemm/wgmma_quantized.cuh"

namespace moe::MOE_GPU_NAMESPACE {

const GemmFunctions kWgmmaQuantizedBF16{.launch = launch_quantized<quantized::Wgmma, bf16>, .pack = pack_quantized};

}  // namespace moe::MOE_GPU_NAMESPACE
