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
  // UNSUPPORTED_DTYPE if no kernel takes the format. With `slots`, which may be null, the experts' matrices are in the
  // host's memory and take places among these in turn.
  static Status create(const ExpertProduct& product, void* slots, Runtime& runtime,
                       std::unique_ptr<GpuPackedExperts>* packed);
  ~GpuPackedExperts() override;

  Status set_expert(int64_t expert, const WeightView& weight, const WeightView& up) override;
  Status copy_expert(int64_t expert, bool up, const TensorView& target) const override;
  // Brings an offloaded expert to a place.
  Status load(int64_t expert, int64_t place, Uploads& uploads) const;
  // On the device, without slots.
  size_t bytes() const override;
  const void* data() const { return data_; }
  const gpu::PackedMatrix& matrix() const { return matrix_; }
  const ExpertInputs& inputs() const { return inputs_; }

 private:
  GpuPackedExperts(const ExpertProduct& product, void* slots, const gpu::GemmKernel& kernel, Runtime& runtime)
      : PackedExperts(product),
        runtime_(runtime),
        kernel_(kernel),
        matrix_(kernel.layout->measure(product)),
        inputs_(runtime, product),
        offloaded_(slots != nullptr),
        host_(runtime),
        data_(slots) {}
  Status pack(const WeightView& weight, const WeightView& up, void* matrix);
  void* at(int64_t place) const { return static_cast<char*>(data_) + place * matrix_.bytes; }
  char* on_host(int64_t expert) const { return host_.at(static_cast<size_t>(expert * matrix_.bytes)); }

  Runtime& runtime_;
  // The kernel whose layout this is.
  const gpu::GemmKernel& kernel_;
  gpu::PackedMatrix matrix_;  // one expert's
  ExpertInputs inputs_;       // of quantised weights; plain ones are dequantised when they are packed
  const bool offloaded_;
  PinnedMemory host_;
  void* data_;  // of all experts, or the slots
};

}  // namespace moe::MOE_GPU_NAMESPACE
