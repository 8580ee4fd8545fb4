// Expert weights in the layout that the grouped GEMM reads.
#pragma once

#include <memory>

#include "core/backend.h"
#include "gpu/plan/plan.h"
#include "gpu/runtime/runtime.h"

namespace moe::MOE_GPU_NAMESPACE {

class GpuPackedExperts : public PackedExperts {
 public:
  static Status create(const ExpertProduct& weights, Runtime& runtime, std::unique_ptr<GpuPackedExperts>* packed);
  ~GpuPackedExperts() override;

  Status set_expert(int64_t expert, const WeightView& weight, const WeightView& up) override;
  size_t bytes() const override;
  const void* data() const { return data_; }

 private:
  GpuPackedExperts(const ExpertProduct& weights, Runtime& runtime)
      : PackedExperts(weights), runtime_(runtime), layout_(gpu::packed_layout(weights)) {}

  Runtime& runtime_;
  gpu::PackedLayout layout_;
  void* data_ = nullptr;
};

}  // namespace moe::MOE_GPU_NAMESPACE
