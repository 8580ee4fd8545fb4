#include "cpu/runtime/thread_pool.h"

#include "core/spin.h"
#include "core/thread_name.h"

namespace moe::cpu {

namespace {

// Returns once `value` is not `old`.
template <class T>
void wait_while(const std::atomic<T>& value, T old) {
  if (spin_until([&] { return value.load(std::memory_order_acquire) != old; })) return;
  while (value.load(std::memory_order_acquire) == old) value.wait(old, std::memory_order_acquire);
}

}  // namespace

void Barrier::wait() {
  const uint32_t phase = phase_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == count_) {
    arrived_.store(0, std::memory_order_relaxed);
    phase_.store(phase + 1, std::memory_order_release);
    phase_.notify_all();
  } else {
    wait_while(phase_, phase);
  }
}

std::shared_ptr<ThreadPool> ThreadPool::shared() {
  // Never destroyed: a static destructor could run while another thread still uses it.
  static std::mutex& mutex = *new std::mutex;
  static std::weak_ptr<ThreadPool>& pool = *new std::weak_ptr<ThreadPool>;
  std::lock_guard lock(mutex);
  std::shared_ptr<ThreadPool> existing = pool.lock();
  if (existing == nullptr) {
    existing.reset(new ThreadPool);
    pool = existing;
  }
  return existing;
}

ThreadPool::~ThreadPool() {
  ending_ = true;
  for (auto& member : members_) {
    member->ticket.fetch_add(1, std::memory_order_release);
    member->ticket.notify_one();
  }
  for (auto& member : members_) member->thread.join();
}

void ThreadPool::run(int threads, Function function, void* context) {
  std::lock_guard lock(region_);
  while (static_cast<int>(members_.size()) < threads - 1) {
    members_.push_back(std::make_unique<Member>());
    Member& member = *members_.back();
    const int index = static_cast<int>(members_.size());
    member.thread = std::thread([this, &member, index] { work(member, index); });
  }
  function_ = function;
  context_ = context;
  threads_ = threads;
  barrier_.reset(threads);
  unfinished_.store(threads - 1, std::memory_order_relaxed);
  for (int i = 0; i < threads - 1; ++i) {
    members_[i]->ticket.fetch_add(1, std::memory_order_release);
    members_[i]->ticket.notify_one();
  }
  function(context, Worker{0, threads, &barrier_});
  for (int left = unfinished_.load(std::memory_order_acquire); left != 0;
       left = unfinished_.load(std::memory_order_acquire)) {
    wait_while(unfinished_, left);
  }
}

void ThreadPool::work(Member& member, int index) {
  name_this_thread("moe-worker");
  for (uint32_t seen = 0;; ++seen) {
    wait_while(member.ticket, seen);
    if (ending_) return;
    function_(context_, Worker{index, threads_, &barrier_});
    if (unfinished_.fetch_sub(1, std::memory_order_acq_rel) == 1) unfinished_.notify_one();
  }
}

void ItemQueue::reset(int64_t total) {
  const int64_t threads = static_cast<int64_t>(ranges_.size());
  for (int64_t i = 0; i < threads; ++i) {
    ranges_[i].next.store(total * i / threads, std::memory_order_relaxed);
    ranges_[i].end = total * (i + 1) / threads;
  }
}

int64_t ItemQueue::next(int worker) {
  const int threads = static_cast<int>(ranges_.size());
  for (int i = 0; i < threads; ++i) {
    Range& range = ranges_[(worker + i) % threads];
    if (range.next.load(std::memory_order_relaxed) >= range.end) continue;
    const int64_t item = range.next.fetch_add(1, std::memory_order_relaxed);
    if (item < range.end) return item;
  }
  return -1;
}

}  // namespace moe::cpu
