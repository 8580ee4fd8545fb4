#include "gpu/gemm/mma_quantized_launch.cuh"

namespace moe::MOE_GPU_NAMESPACE {

const GemmFunctions kMmaQuantizedInt8{.launch = launch_mma_quantized<int8_t>, .pack = pack_quantized};

}  // namespace moe::MOE_GPU_NAMESPACE
