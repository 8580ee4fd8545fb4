#include "gpu/backend.h"

#include "gpu/gemm/packed_experts.h"
#include "gpu/layer/layer.h"
#include "gpu/layer/slot_memory.h"

namespace moe::MOE_GPU_NAMESPACE {

// The factory that cuda/devices.h and simt/devices.h declare.
Status open(int index, const DeviceOptions& options, std::unique_ptr<Backend>* backend) {
  std::unique_ptr<Runtime> runtime;
  MOE_TRY(Runtime::open(index, options, &runtime));
  auto made = std::make_unique<GpuBackend>(std::move(runtime), options.allowed);
  MOE_TRY(made->open());
  *backend = std::move(made);
  return {};
}

Status GpuBackend::write(void* device, const void* host, size_t bytes) { return runtime().write(device, host, bytes); }

Status GpuBackend::read(void* host, const void* device, size_t bytes) {
  return context_.errors.collect(warnings, {host, device, bytes});
}

// What has been reported is read behind all other work, so reading it waits for that too.
Status GpuBackend::synchronize() { return context_.errors.collect(warnings); }

Status GpuBackend::packed_experts(const ExpertProduct& weights, int64_t, std::unique_ptr<PackedExperts>* packed) {
  std::unique_ptr<GpuPackedExperts> made;
  MOE_TRY(GpuPackedExperts::create(weights, nullptr, runtime(), &made));
  *packed = std::move(made);
  return {};
}

std::shared_ptr<OffloadBudget> GpuBackend::offload_budget(const BudgetOptions& options) {
  return std::make_shared<SlotMemory>(runtime(), options);
}

Status GpuBackend::layer(const LayerDescription& description, const OffloadOptions* offload,
                         std::unique_ptr<Layer>* layer) {
  return GpuLayer::create(description, offload, context_, layer);
}

}  // namespace moe::MOE_GPU_NAMESPACE
