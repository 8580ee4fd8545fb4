// Slots on the device, for layers whose experts are in the host's memory, and the copies into them.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "core/offload/budget.h"
#include "gpu/runtime/runtime.h"

namespace moe::MOE_GPU_NAMESPACE {

class SlotMemory final : public OffloadBudget {
 public:
  SlotMemory(Runtime& runtime, const BudgetOptions& options) : OffloadBudget(options), runtime_(runtime) {}
  ~SlotMemory() override { free_memory(); }

  // The slots of one of the experts' matrices, side by side. They stay where they are while a layer has a share.
  void* matrices(size_t index) const { return memory_[index]; }
  // Calls work(uploads), for one thread at a time, because a layer may leave while another runs. The uploads of all
  // layers are in one order, so that a slot has the matrix that was loaded last.
  template <class Work>
  Status upload(Work&& work) {
    const std::lock_guard lock(uploads_mutex_);
    return work(*uploads_);
  }
  // Whether there are uploads that no work waits for yet. For the stream's thread.
  bool prefetching = false;

 private:
  Status reserve(const std::vector<int64_t>& matrix_bytes, int64_t slots) override;
  void release() noexcept override;
  void settle() noexcept override;
  void free_memory() noexcept;

  Runtime& runtime_;
  std::vector<void*> memory_;
  std::mutex uploads_mutex_;
  std::unique_ptr<Uploads> uploads_;
};

}  // namespace moe::MOE_GPU_NAMESPACE
