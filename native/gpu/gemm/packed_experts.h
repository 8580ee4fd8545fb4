// Expert weights in the layout that the grouped GEMM reads.
#pragma once

#include <memory>

#include "core/backend.h"
#include "gpu/gemm/expert_inputs.h"
#include "gpu/gemm/kernels.h"
#include "gpu/runtime/runtime.h"

namespace moe::MOE_GPU_NAMESPACE {

// Experts whose matrices are in the host's memory, and the places on the device that they take in turn. Other experts
// have the places after these.
struct OffloadedExperts {
  int64_t experts = 0;
  int64_t places = 0;
};

class GpuPackedExperts : public PackedExperts {
 public:
  // The first of the product's experts may be offloaded. UNSUPPORTED_DTYPE if no kernel takes the format.
  static Status create(const ExpertProduct& product, const OffloadedExperts& offloaded, Runtime& runtime,
                       std::unique_ptr<GpuPackedExperts>* packed);
  ~GpuPackedExperts() override;

  Status set_expert(int64_t expert, const WeightView& weight, const WeightView& up) override;
  // Brings an offloaded expert to a place.
  Status load(int64_t expert, int64_t place, Uploads& uploads) const;
  // On the device.
  size_t bytes() const override;
  const void* data() const { return data_; }
  const gpu::PackedMatrix& matrix() const { return matrix_; }
  const ExpertInputs& inputs() const { return inputs_; }

 private:
  GpuPackedExperts(const ExpertProduct& product, const OffloadedExperts& offloaded, const gpu::GemmKernel& kernel,
                   Runtime& runtime)
      : PackedExperts(product),
        runtime_(runtime),
        kernel_(kernel),
        matrix_(kernel.layout->measure(product)),
        inputs_(runtime, product),
        offloaded_(offloaded),
        host_(runtime) {}
  Status pack(const WeightView& weight, const WeightView& up, void* matrix);
  void* at(int64_t place) const { return static_cast<char*>(data_) + place * matrix_.bytes; }
  char* on_host(int64_t expert) const { return host_.at(static_cast<size_t>(expert * matrix_.bytes)); }

  Runtime& runtime_;
  // The kernel whose layout this is.
  const gpu::GemmKernel& kernel_;
  gpu::PackedMatrix matrix_;  // one expert's
  ExpertInputs inputs_;       // of quantised weights; plain ones are dequantised when they are packed
  OffloadedExperts offloaded_;
  PinnedMemory host_;
  void* data_ = nullptr;
};

}  // namespace moe::MOE_GPU_NAMESPACE
