#include "simt/work_queue.h"

namespace moe::simt {

void WorkQueue::run() noexcept {
  if (!late_) return;
  const std::lock_guard running(running_);
  for (;;) {
    std::function<Status()> work;
    {
      const std::lock_guard lock(mutex_);
      if (work_.empty()) return;
      work = std::move(work_.front());
      work_.pop_front();
    }
    Status status = guarded(work);
    const std::lock_guard lock(mutex_);
    if (failure_.ok()) failure_ = std::move(status);
  }
}

Status WorkQueue::finish() noexcept {
  run();
  const std::lock_guard lock(mutex_);
  return std::exchange(failure_, Status());
}

}  // namespace moe::simt
