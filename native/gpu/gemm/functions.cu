#include "gpu/gemm/functions.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

struct Row {
  const gpu::GemmKernel* kernel;
  const GemmFunctions* functions;
};

#define MOE_ROW(NAME) {&gpu::NAME, &NAME},
constexpr Row kRows[] = {MOE_GEMM_KERNELS(MOE_ROW)};
#undef MOE_ROW

}  // namespace

const GemmFunctions& functions_of(const gpu::GemmKernel& kernel) {
  const Row* row = kRows;
  while (row->kernel != &kernel) ++row;
  return *row->functions;
}

}  // namespace moe::MOE_GPU_NAMESPACE
