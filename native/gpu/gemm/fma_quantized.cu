#include "gpu/gemm/quantized_weights.cuh"

namespace moe::MOE_GPU_NAMESPACE {

const GemmFunctions kFmaQuantized{.launch = launch_fma<QuantizedWeights>, .pack = pack_quantized};

}  // namespace moe::MOE_GPU_NAMESPACE
