#include "gpu/gemm/mma_quantized.cuh"
#include "gpu/gemm/quantized_launch.cuh"

namespace moe::MOE_GPU_NAMESPACE {

const GemmFunctions kMmaQuantizedInt8{.launch = launch_quantized<quantized::Mma, int8_t>, .pack = pack_quantized};

}  // namespace moe::MOE_GPU_NAMESPACE
