// Expert weights in the layout that the grouped GEMM reads.
#pragma once

#include <memory>

#include "core/backend.h"
#include "gpu/gemm/expert_inputs.h"
#include "gpu/gemm/kernels.h"
#include "gpu/runtime/runtime.h"

namespace moe::MOE_GPU_NAMESPACE {

class GpuPackedExperts : public PackedExperts {
 public:
  // UNSUPPORTED_DTYPE if no kernel takes the format.
  static Status create(const ExpertProduct& product, Runtime& runtime, std::unique_ptr<GpuPackedExperts>* packed);
  ~GpuPackedExperts() override;

  Status set_expert(int64_t expert, const WeightView& weight, const WeightView& up) override;
  size_t bytes() const override;
  const void* data() const { return data_; }
  const gpu::PackedMatrix& matrix() const { return matrix_; }
  const ExpertInputs& inputs() const { return inputs_; }

 private:
  GpuPackedExperts(const ExpertProduct& product, const gpu::GemmKernel& kernel, Runtime& runtime)
      : PackedExperts(product),
        runtime_(runtime),
        kernel_(kernel),
        matrix_(kernel.layout->measure(product)),
        inputs_(runtime, product) {}

  Runtime& runtime_;
  // The kernel whose layout this is.
  const gpu::GemmKernel& kernel_;
  gpu::PackedMatrix matrix_;  // one expert's
  ExpertInputs inputs_;       // of quantised weights; plain ones are dequantised when they are packed
  void* data_ = nullptr;
};

}  // namespace moe::MOE_GPU_NAMESPACE
