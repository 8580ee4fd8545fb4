#include "gpu/gemm/packed_experts.h"

#include "gpu/gemm/functions.cuh"

namespace moe::MOE_GPU_NAMESPACE {

Status GpuPackedExperts::create(const ExpertProduct& product, Runtime& runtime,
                                std::unique_ptr<GpuPackedExperts>* packed) {
  const gpu::GemmKernel* kernel = nullptr;
  MOE_TRY(gpu::find_best_gemm_kernel(*product.format, runtime.traits(), &kernel));
  std::unique_ptr<GpuPackedExperts> made(new GpuPackedExperts(product, *kernel, runtime));
  if (made->bytes() > 0) MOE_TRY(runtime.allocate(made->bytes(), &made->data_));
  *packed = std::move(made);
  return {};
}

GpuPackedExperts::~GpuPackedExperts() {
  if (data_ != nullptr) runtime_.release(data_);
}

Status GpuPackedExperts::set_expert(int64_t expert, const WeightView& weight, const WeightView& up) {
  MOE_TRY(runtime_.use());
  if (!weights().format->plain()) MOE_TRY(inputs_.set(expert, weight, up));
  return functions_of(kernel_).pack({.weight = weight,
                                     .up = up,
                                     .product = weights(),
                                     .packed = matrix_,
                                     .data = static_cast<char*>(data_) + expert * matrix_.bytes},
                                    runtime_);
}

size_t GpuPackedExperts::bytes() const {
  return static_cast<size_t>(weights().experts * matrix_.bytes) + inputs_.bytes();
}

}  // namespace moe::MOE_GPU_NAMESPACE
