#include "core/stream.h"

#include <unistd.h>

#include <chrono>
#include <map>
#include <utility>

#include "core/spin.h"
#include "core/thread_setup.h"

namespace moe {

namespace {

thread_local uint64_t running_call = 0;

// Sent once. Notifies under the lock: who waits may end it as soon as the lock is free.
class Signal {
 public:
  void send() {
    std::lock_guard lock(mutex_);
    sent_ = true;
    changed_.notify_one();
  }
  void wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return sent_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool sent_ = false;
};

// The streams that there are, each with the process that made it: a child process has no threads of its parent's.
struct Streams {
  std::mutex mutex;
  std::map<Stream*, pid_t> made_by;

  static Streams& of_process() {
    // Never destroyed: they are halted while the process exits.
    static Streams& all = *new Streams;
    return all;
  }
};

}  // namespace

Stream::Registration::Registration(Stream& stream) : stream_(stream) {
  Streams& all = Streams::of_process();
  const std::lock_guard lock(all.mutex);
  all.made_by.emplace(&stream, getpid());
}

Stream::Registration::~Registration() {
  Streams& all = Streams::of_process();
  const std::lock_guard lock(all.mutex);
  all.made_by.erase(&stream_);
}

void Stream::halt_all() noexcept {
  Streams& all = Streams::of_process();
  const std::lock_guard lock(all.mutex);
  for (const auto& [stream, process] : all.made_by) {
    if (process == getpid()) stream->halt();
  }
}

uint64_t current_call() { return running_call; }

Stream::Stream() : thread_([this] { run_items(); }) {}

Stream::~Stream() {
  {
    std::lock_guard lock(mutex_);
    ending_ = true;
    has_work_.store(true, std::memory_order_release);
  }
  wake_.notify_one();
  thread_.join();
}

uint64_t Stream::push(Item item) {
  std::list<Item> made;
  made.push_back(std::move(item));
  made.back().call = calls_ + 1;
  {
    std::lock_guard lock(mutex_);
    unfinished_.fetch_add(1, std::memory_order_relaxed);
    ending_ = ending_ || made.back().last;
    queue_.splice(queue_.end(), made);
    has_work_.store(true, std::memory_order_release);
  }
  wake_.notify_one();
  return ++calls_;
}

uint64_t Stream::enqueue(std::function<Status()> work, Uses uses) {
  return push({std::move(work), std::move(uses), nullptr});
}

void Stream::enqueue(std::function<Status()> work, Uses uses, Done done, Told told) {
  push({std::move(work), std::move(uses), std::move(done), told});
}

Status Stream::run(std::function<Status()> work, Uses uses) {
  Signal done;
  Status result;
  enqueue(std::move(work), std::move(uses), [&](Status status) {
    result = std::move(status);
    done.send();
  });
  done.wait();
  return result;
}

void Stream::drain() {
  Signal reached;
  enqueue([&] {
    reached.send();
    return Status();
  });
  reached.wait();
}

void Stream::end(std::function<Status()> work, Done done) {
  Item item{std::move(work), {}, std::move(done)};
  item.last = true;
  push(std::move(item));
}

void Stream::cancel(const Status& reason) noexcept {
  std::lock_guard lock(mutex_);
  for (Item& item : queue_) {
    if (item.last || item.dropped) continue;
    item.dropped = true;
    if (item.done) item.done(copy_of(reason));
  }
}

void Stream::halt() noexcept {
  // Work that ends the process would wait for itself.
  if (thread_.get_id() == std::this_thread::get_id()) return;
  std::unique_lock lock(mutex_);
  halted_ = true;
  between_.wait(lock, [this] { return !running_; });
}

void Stream::run_items() noexcept {
  set_up_this_thread("moe-stream");
  for (;;) {
    spin_until([this] { return has_work_.load(std::memory_order_acquire); });
    std::list<Item> next;
    {
      std::unique_lock lock(mutex_);
      running_ = false;
      if (halted_) between_.notify_all();
      wake_.wait(lock, [this] { return ending_ || (!halted_ && !queue_.empty()); });
      if (halted_ || queue_.empty()) return;
      running_ = true;
      next.splice(next.end(), queue_, queue_.begin());
      has_work_.store(ending_ || !queue_.empty(), std::memory_order_release);
    }
    run_item(next.front());
  }
}

void Stream::run_item(Item& item) noexcept {
  if (item.dropped) {
    unfinished_.fetch_sub(1, std::memory_order_release);
    return;
  }
  running_call = item.call;
  const auto begin = std::chrono::steady_clock::now();
  Status status = item.uses.run(item.work, item.call);
  const std::chrono::nanoseconds taken = std::chrono::steady_clock::now() - begin;
  busy_nanoseconds_.store(busy_nanoseconds_.load(std::memory_order_relaxed) + taken.count(), std::memory_order_release);
  Status told = keep(std::move(status), item);
  // Release what the work kept alive before anybody learns that it is done.
  item.work = nullptr;
  item.uses = {};
  unfinished_.fetch_sub(1, std::memory_order_release);
  if (item.done) item.done(std::move(told));
}

Status Stream::keep(Status status, const Item& item) noexcept {
  if (item.told == Told::own) {
    // No failure is told twice.
    if (!status.ok() && status.call == failure_.call) failure_ = Status();
    return status;
  }
  // Whoever aborted work knows it, and who reads its results is told.
  const bool kept = status.code != Code::aborted || item.done;
  if (failure_.ok() && kept) failure_ = std::move(status);
  return item.done ? std::exchange(failure_, Status()) : Status();
}

}  // namespace moe
