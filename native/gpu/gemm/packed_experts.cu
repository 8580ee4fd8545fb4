#include "gpu/gemm/packed_experts.h"

#include "gpu/gemm/pack.cuh"

namespace moe::MOE_GPU_NAMESPACE {

Status GpuPackedExperts::create(const ExpertProduct& weights, Runtime& runtime,
                                std::unique_ptr<GpuPackedExperts>* packed) {
  std::unique_ptr<GpuPackedExperts> made(new GpuPackedExperts(weights, runtime));
  if (made->bytes() > 0) MOE_TRY(runtime.allocate(made->bytes(), &made->data_));
  *packed = std::move(made);
  return {};
}

GpuPackedExperts::~GpuPackedExperts() {
  if (data_ != nullptr) runtime_.release(data_);
}

Status GpuPackedExperts::set_expert(int64_t expert, const WeightView& weight, const WeightView& up) {
  MOE_TRY(runtime_.use());
  const DType dtype = plain_dtype(*weights().format);
  const auto element = static_cast<int64_t>(info(dtype).bytes);
  char* place = static_cast<char*>(data_) + expert * layout_.expert_elements() * element;
  return launch_pack_rows(weight.codes, up.codes, {place, dtype, layout_.rows, layout_.pitch}, runtime_.traits(),
                          runtime_.stream());
}

size_t GpuPackedExperts::bytes() const {
  return static_cast<size_t>(weights().experts * layout_.expert_elements()) *
         info(plain_dtype(*weights().format)).bytes;
}

}  // namespace moe::MOE_GPU_NAMESPACE
