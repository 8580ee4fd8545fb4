#include "gpu/gemm/mma_quantized.cuh"
#include "gpu/gemm/quantized_launch.cuh"

namespace moe::MOE_GPU_NAMESPACE {

const GemmFunctions kMmaQuantizedBF16{.launch = launch_quantized<quantized::Mma, bf16>, .pack = pack_quantized};

}  // namespace moe::MOE_GPU_NAMESPACE
