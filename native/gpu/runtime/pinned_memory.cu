#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "core/host_memory.h"
#include "core/pages.h"
#include "gpu/runtime/runtime.h"

namespace moe::MOE_GPU_NAMESPACE {

// Whether child processes get pages when this process forks. Pinned ones must not be shared with a child: before Linux
// 5.12 this process's next write would go to a copy of the page, and the GPU would still read the old one.
static void share_with_children([[maybe_unused]] void* data, [[maybe_unused]] size_t bytes,
                                [[maybe_unused]] bool shares) {
#if defined(__linux__)
  madvise(data, bytes, shares ? MADV_DOFORK : MADV_DONTFORK);
#endif
}

PinnedMemory::~PinnedMemory() {
  if (pinned_) {
    runtime_.unpin(data_);
    share_with_children(data_, bytes_, true);
  }
  if (data_ != nullptr) HostMemory::of_process().release(data_);
}

// Pages are pinned as a whole, so nobody else's memory may be on them.
Status PinnedMemory::reserve(size_t bytes) {
  if (bytes == 0) return {};
  const size_t pages = up_to_page(bytes);
  MOE_TRY(HostMemory::of_process().allocate(pages, page_size(), &data_));
  bytes_ = pages;
  return {};
}

Status PinnedMemory::pin() {
  if (pinned_ || data_ == nullptr) return {};
  share_with_children(data_, bytes_, false);
  if (Status status = runtime_.pin(data_, bytes_); !status.ok()) {
    share_with_children(data_, bytes_, true);
    return status;
  }
  pinned_ = true;
  return {};
}

}  // namespace moe::MOE_GPU_NAMESPACE
