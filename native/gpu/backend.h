// One GPU, or the simulated one.
#pragma once

#include <memory>

#include "core/backend.h"
#include "gpu/operators.h"

namespace moe::MOE_GPU_NAMESPACE {

class GpuBackend : public Backend {
 public:
  GpuBackend(std::unique_ptr<Runtime> runtime, const AllowedRoundings& allowed)
      : context_(std::move(runtime), allowed) {}
  Status open() { return context_.errors.open(); }

  const char* description() const override { return context_.runtime->description().c_str(); }
  Status allocate(size_t bytes, void** data) override { return context_.runtime->allocate(bytes, data); }
  void release(void* data, size_t) override { context_.runtime->release(data); }
  bool host_addressable() const override { return context_.runtime->host_addressable(); }
  Status write(void* device, const void* host, size_t bytes) override;
  // May also return the failures that synchronize() would report, because a read waits.
  Status read(void* host, const void* device, size_t bytes) override;
  Status synchronize() override;
  Status settle(std::function<void()> then) noexcept override { return runtime().settle(std::move(then)); }
  void release_stream() noexcept override { runtime().release_stream(); }

#define MOE_OPERATOR(Operator)                  \
  Status run(const Operator& p) override {      \
    MOE_TRY(context_.runtime->use());           \
    return MOE_GPU_NAMESPACE::run(context_, p); \
  }
  MOE_OPERATORS(MOE_OPERATOR)
#undef MOE_OPERATOR

  Status packed_experts(const ExpertProduct& weights, int64_t rows, std::unique_ptr<PackedExperts>* packed) override;
  std::shared_ptr<OffloadBudget> offload_budget(const BudgetOptions& options) override;
  Status layer(const LayerDescription& description, const OffloadOptions* offload,
               std::unique_ptr<Layer>* layer) override;

 private:
  Runtime& runtime() { return *context_.runtime; }

  Context context_;
};

}  // namespace moe::MOE_GPU_NAMESPACE
