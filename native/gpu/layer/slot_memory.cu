#include "gpu/layer/slot_memory.h"

namespace moe::MOE_GPU_NAMESPACE {

Status SlotMemory::reserve(const std::vector<int64_t>& matrix_bytes, int64_t slots) {
  const Status status = guarded([&]() -> Status {
    MOE_TRY(Uploads::create(runtime_, &uploads_));
    memory_.reserve(matrix_bytes.size());
    for (const int64_t bytes : matrix_bytes) {
      void* data = nullptr;
      MOE_TRY(runtime_.allocate(static_cast<size_t>(slots * bytes), &data));
      memory_.push_back(data);
    }
    return {};
  });
  if (!status.ok()) release();
  return status;
}

void SlotMemory::release() noexcept {
  uploads_.reset();
  free_memory();
}

void SlotMemory::free_memory() noexcept {
  for (void* data : memory_) runtime_.release(data);
  memory_.clear();
}

void SlotMemory::settle() noexcept {
  const std::lock_guard lock(uploads_mutex_);
  uploads_->wait();
}

}  // namespace moe::MOE_GPU_NAMESPACE
