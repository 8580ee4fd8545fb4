#include "gpu/gemm/packed_experts.h"

#include "gpu/gemm/functions.cuh"
#include "gpu/gemm/unpack.cuh"
#include "gpu/plan/plan.h"

namespace moe::MOE_GPU_NAMESPACE {

Status GpuPackedExperts::create(const ExpertProduct& product, void* slots, Runtime& runtime,
                                std::unique_ptr<GpuPackedExperts>* packed) {
  MOE_TRY(gpu::check_columns(product.columns));
  const gpu::GemmKernel* kernel = nullptr;
  MOE_TRY(gpu::find_best_gemm_kernel(*product.format, runtime.traits(), &kernel));
  std::unique_ptr<GpuPackedExperts> made(new GpuPackedExperts(product, slots, *kernel, runtime));
  const auto bytes = static_cast<size_t>(product.experts * made->matrix_.bytes);
  if (slots != nullptr) {
    MOE_TRY(made->host_.reserve(bytes));
  } else if (bytes > 0) {
    MOE_TRY(runtime.allocate(bytes, &made->data_));
  }
  *packed = std::move(made);
  return {};
}

GpuPackedExperts::~GpuPackedExperts() {
  if (!offloaded_ && data_ != nullptr) runtime_.release(data_);
}

Status GpuPackedExperts::set_expert(int64_t expert, const WeightView& weight, const WeightView& up) {
  MOE_TRY(runtime_.use());
  if (!weights().format->plain()) MOE_TRY(inputs_.set(expert, weight, up));
  if (!offloaded_) return pack(weight, up, at(expert));
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

Status GpuPackedExperts::copy_expert(int64_t expert, bool up, const TensorView& target) const {
  if (offloaded_) return {Code::unsupported_operation, "copying weights: expected a layer without offload"};
  MOE_TRY(runtime_.use());
  if (!weights().format->plain()) {
    const int64_t inputs = expert * weights().columns;
    return launch_unpack_quantized({.product = weights(),
                                    .packed = matrix_,
                                    .matrix = at(expert),
                                    .input_scales = inputs_.scales() == nullptr ? nullptr : inputs_.scales() + inputs,
                                    .input_order = inputs_.orders() == nullptr ? nullptr : inputs_.orders() + inputs,
                                    .up = up},
                                   target, runtime_.traits(), runtime_.stream());
  }
  const DType dtype = plain_dtype(*weights().format);
  const PackedRows rows{.data = at(expert),
                        .dtype = dtype,
                        .rows = matrix_.rows,
                        .pitch = matrix_.pitch / static_cast<int64_t>(info(dtype).bytes)};
  return launch_unpack_rows(rows, weights().gated(), up, target, runtime_.traits(), runtime_.stream());
}

Status GpuPackedExperts::load(int64_t expert, int64_t place, Uploads& uploads) const {
  return uploads.copy(at(place), on_host(expert), static_cast<size_t>(matrix_.bytes));
}

size_t GpuPackedExperts::bytes() const {
  return (offloaded_ ? 0 : static_cast<size_t>(weights().experts * matrix_.bytes)) + inputs_.bytes();
}

}  // namespace moe::MOE_GPU_NAMESPACE
