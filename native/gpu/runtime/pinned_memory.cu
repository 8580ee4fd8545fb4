#include "core/host_memory.h"
#include "gpu/runtime/runtime.h"

namespace moe::MOE_GPU_NAMESPACE {

// Pages are pinned as a whole, so that nobody else's memory may be on them.
static constexpr size_t kPage = 4096;

PinnedMemory::~PinnedMemory() {
  if (pinned_) runtime_.unpin(data_);
  if (data_ != nullptr) HostMemory::of_process().release(data_);
}

Status PinnedMemory::reserve(size_t bytes) {
  if (bytes == 0) return {};
  const size_t pages = (bytes + kPage - 1) / kPage * kPage;
  MOE_TRY(HostMemory::of_process().allocate(pages, kPage, &data_));
  bytes_ = pages;
  return {};
}

Status PinnedMemory::pin() {
  if (pinned_ || data_ == nullptr) return {};
  MOE_TRY(runtime_.pin(data_, bytes_));
  pinned_ = true;
  return {};
}

}  // namespace moe::MOE_GPU_NAMESPACE
