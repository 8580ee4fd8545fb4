#include "gpu/gemm/mma_quantized_launch.cuh"

namespace moe::MOE_GPU_NAMESPACE {

const GemmFunctions kMmaQuantizedBF16{.launch = launch_mma_quantized<bf16>, .pack = pack_quantized};

}  // namespace moe::MOE_GPU_NAMESPACE
