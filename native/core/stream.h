// A device's in-order stream: one thread that runs enqueued work sequentially.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include "core/status.h"

namespace moe {

// The number of the call whose work this thread is running; 0 outside stream threads.
uint64_t current_call();

class Stream {
 public:
  Stream();
  // Finishes the enqueued work, unless cancelled, and ends the thread.
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  // The first failure since the last wait is kept for the next one. Returns the call's number, counted from 1.
  uint64_t enqueue(std::function<Status()> work);
  // `done` runs on the stream thread after all earlier work; it receives the kept failure, which is then cleared.
  void enqueue_wait(std::function<void(Status)> done);
  // Blocks until all work enqueued so far is done; returns the kept failure and clears it.
  Status wait();
  // Whether all work enqueued so far is done; does not wait.
  bool idle() const { return unfinished_.load(std::memory_order_acquire) == 0; }
  // Drops work that has not begun, including waits. Nothing may be enqueued afterwards.
  void cancel();

 private:
  void push(std::function<void()> work);
  void run();

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> queue_;
  // Whether run() has work. Written under the lock, but read without it while spinning.
  std::atomic<bool> has_work_{false};
  bool ending_ = false;
  // Work enqueued or running, not counting waits.
  std::atomic<int64_t> unfinished_{0};
  uint64_t calls_ = 0;  // enqueued so far; the caller's thread only
  Status failure_;      // stream thread only
  std::thread thread_;
};

}  // namespace moe
