// What a stream was given to do, in order. A GPU does it some time before somebody waits for it: here at once, or not
// before the wait, so that it shows what counts on work that is not done yet.
#pragma once

#include <deque>
#include <functional>
#include <mutex>
#include <utility>

#include "core/status.h"

namespace moe::simt {

class WorkQueue {
 public:
  explicit WorkQueue(bool late) : late_(late) {}
  WorkQueue(const WorkQueue&) = delete;
  WorkQueue& operator=(const WorkQueue&) = delete;

  bool late() const { return late_; }
  // Does `work`, or keeps it. Any thread may call this and what follows.
  template <class Work>
  Status submit(Work&& work) {
    if (!late_) return work();
    const std::lock_guard lock(mutex_);
    work_.push_back(std::forward<Work>(work));
    return {};
  }
  // Does what was kept so far. The first failure is that of the next finish().
  void run() noexcept;
  // The same, and returns that failure.
  Status finish() noexcept;

 private:
  const bool late_;
  std::mutex running_;  // held by the thread that does the work
  std::mutex mutex_;
  std::deque<std::function<Status()>> work_;
  Status failure_;
};

}  // namespace moe::simt
