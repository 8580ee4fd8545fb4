#include "gpu/gemm/packed_experts.h"

#include "gpu/gemm/functions.cuh"

namespace moe::MOE_GPU_NAMESPACE {

Status GpuPackedExperts::create(const ExpertProduct& product, const OffloadedExperts& offloaded, Runtime& runtime,
                                std::unique_ptr<GpuPackedExperts>* packed) {
  const gpu::GemmKernel* kernel = nullptr;
  MOE_TRY(gpu::find_best_gemm_kernel(*product.format, runtime.traits(), &kernel));
  std::unique_ptr<GpuPackedExperts> made(new GpuPackedExperts(product, offloaded, *kernel, runtime));
  MOE_TRY(made->host_.reserve(static_cast<size_t>(offloaded.experts * made->matrix_.bytes)));
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
  if (expert >= offloaded_.experts) return pack(weight, up, at(offloaded_.places + expert - offloaded_.experts));
  MOE_TRY(host_.pin());
  const auto bytes = static_cast<size_t>(matrix_.bytes);
  Scratch packed(runtime_);
  MOE_TRY(packed.reserve(bytes));
  MOE_TRY(pack(weight, up, packed.at(0)));
  return runtime_.read(on_host(expert), packed.at(0), bytes);
}

Status GpuPackedExperts::pack(const WeightView& weight, const WeightView& up, void* matrix) {
  return functions_of(kernel_).pack(
      {.weight = weight, .up = up, .product = weights(), .packed = matrix_, .data = matrix}, runtime_);
}

Status GpuPackedExperts::load(int64_t expert, int64_t place, Uploads& uploads) const {
  return uploads.copy(at(place), on_host(expert), static_cast<size_t>(matrix_.bytes));
}

size_t GpuPackedExperts::bytes() const {
  const int64_t places = weights().experts - offloaded_.experts + offloaded_.places;
  return static_cast<size_t>(places * matrix_.bytes) + inputs_.bytes();
}

}  // namespace moe::MOE_GPU_NAMESPACE
