#include "core/stream.h"

#include <exception>
#include <new>
#include <utility>

#include "core/spin.h"
#include "core/thread_name.h"

namespace moe {

namespace {

thread_local uint64_t running_call = 0;

// Work should not throw, but memory can run out anywhere.
Status guarded(const std::function<Status()>& work) {
  try {
    return work();
  } catch (const std::bad_alloc&) {
    return {Code::out_of_memory,
            "the device ran out of host memory while running an operator; free tensors or use fewer tokens"};
  } catch (const std::exception& error) {
    return {Code::internal, std::string("an operator failed: ") + error.what()};
  }
}

}  // namespace

uint64_t current_call() { return running_call; }

Stream::Stream() : thread_([this] { run(); }) {}

Stream::~Stream() {
  {
    std::lock_guard lock(mutex_);
    ending_ = true;
    has_work_.store(true, std::memory_order_release);
  }
  wake_.notify_one();
  thread_.join();
}

void Stream::push(std::function<void()> work) {
  {
    std::lock_guard lock(mutex_);
    queue_.push_back(std::move(work));
    has_work_.store(true, std::memory_order_release);
  }
  wake_.notify_one();
}

uint64_t Stream::enqueue(std::function<Status()> work) {
  const uint64_t call = ++calls_;
  unfinished_.fetch_add(1, std::memory_order_relaxed);
  push([this, call, work = std::move(work)] {
    running_call = call;
    Status status = guarded(work);
    if (failure_.ok() && !status.ok()) {
      failure_ = std::move(status);
      if (failure_.call == 0) failure_.call = call;
    }
    unfinished_.fetch_sub(1, std::memory_order_release);
  });
  return call;
}

void Stream::enqueue_wait(std::function<void(Status)> done) {
  push([this, done = std::move(done)] { done(std::exchange(failure_, Status())); });
}

Status Stream::wait() {
  std::mutex mutex;
  std::condition_variable finished;
  bool done = false;
  Status result;
  enqueue_wait([&](Status status) {
    // Notify under the lock: the waiter owns `finished` and may destroy it as soon as the lock is free.
    std::lock_guard lock(mutex);
    result = std::move(status);
    done = true;
    finished.notify_one();
  });
  std::unique_lock lock(mutex);
  finished.wait(lock, [&] { return done; });
  return result;
}

void Stream::cancel() {
  std::deque<std::function<void()>> dropped;  // declared before the lock, so destroyed after it: work may own tensors
  std::lock_guard lock(mutex_);
  dropped.swap(queue_);
}

void Stream::run() {
  name_this_thread("moe-stream");
  for (;;) {
    spin_until([this] { return has_work_.load(std::memory_order_acquire); });
    std::function<void()> work;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return ending_ || !queue_.empty(); });
      if (queue_.empty()) return;
      work = std::move(queue_.front());
      queue_.pop_front();
      has_work_.store(ending_ || !queue_.empty(), std::memory_order_release);
    }
    work();
  }
}

}  // namespace moe
