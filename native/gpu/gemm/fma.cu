#include "gpu/gemm/fma.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

// Rows of elements.
template <class T>
struct PlainWeights {
  using Row = const T*;
  using Run = Vector<T, kFmaRun>;

  __device__ static Row row(const GemmArguments& a, int place, int64_t row) {
    return reinterpret_cast<const T*>(packed_matrix(a, place) + row * a.packed.pitch);
  }
  __device__ static void load(Row row, int k, Run& run) { load_elements(row + k, run); }
  __device__ static void convert(Row, const Run& run, float (&values)[kFmaRun]) {
#pragma unroll
    for (int i = 0; i < kFmaRun; ++i) values[i] = to_float(run.elements[i]);
  }
};

}  // namespace

const GemmFunctions kFmaF32{.launch = launch_fma<PlainWeights<float>>, .pack = pack_plain};
const GemmFunctions kFmaF16{.launch = launch_fma<PlainWeights<f16>>, .pack = pack_plain};
const GemmFunctions kFmaBF16{.launch = launch_fma<PlainWeights<bf16>>, .pack = pack_plain};

}  // namespace moe::MOE_GPU_NAMESPACE
