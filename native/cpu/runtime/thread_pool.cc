#include "cpu/runtime/thread_pool.h"

#include <utility>

#include "core/spin.h"
#include "core/thread_setup.h"

namespace moe::cpu {

namespace {

// Returns once `value` is not `old`.
template <class T>
void wait_while(const std::atomic<T>& value, T old) {
  if (spin_until([&] { return value.load(std::memory_order_acquire) != old; })) return;
  while (value.load(std::memory_order_acquire) == old) value.wait(old, std::memory_order_acquire);
}

}  // namespace

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
  ending_.store(true, std::memory_order_relaxed);
  for (auto& member : members_) {
    member->called.fetch_add(1, std::memory_order_release);
    member->called.notify_one();
  }
  for (auto& member : members_) member->thread.join();
}

void ThreadPool::start(int threads) {
  if (started_.load(std::memory_order_acquire) >= threads - 1) return;
  std::lock_guard lock(start_mutex_);
  while (static_cast<int>(members_.size()) < threads - 1) {
    auto member = std::make_unique<Member>();
    const int index = static_cast<int>(members_.size()) + 1;
    member->thread = std::thread([this, &member = *member, index] { work(member, index); });
    // Only a thread that runs may be a member, because regions call all of them.
    members_.push_back(std::move(member));
    started_.store(index, std::memory_order_release);
  }
}

void ThreadPool::take_part(const Worker& worker) noexcept {
  try {
    function_(context_, worker);
  } catch (...) {
    std::lock_guard lock(thrown_mutex_);
    if (thrown_ == nullptr) thrown_ = std::current_exception();
  }
}

void ThreadPool::run(int threads, Function function, void* context) {
  start(threads);
  std::lock_guard lock(region_mutex_);
  if (threads == 1) return function(context, Worker{0});
  function_ = function;
  context_ = context;
  threads_ = threads;
  const uint32_t region = Gate::region(gate_.load(std::memory_order_relaxed)) + 1;
  gate_.store(Gate::open(region), std::memory_order_release);
  for (int i = 0; i < threads - 1; ++i) {
    members_[i]->called.store(region, std::memory_order_release);
    members_[i]->called.notify_one();
  }
  take_part(Worker{0});
  close();
  if (thrown_ != nullptr) std::rethrow_exception(std::exchange(thrown_, nullptr));
}

// Lets no more workers in, and waits for those inside.
void ThreadPool::close() {
  for (uint64_t gate = gate_.fetch_or(Gate::kClosed, std::memory_order_acq_rel) | Gate::kClosed;
       (gate & Gate::kInside) != 0; gate = gate_.load(std::memory_order_acquire)) {
    wait_while(gate_, gate);
  }
}

uint32_t ThreadPool::enter(uint32_t last) {
  uint64_t gate = gate_.load(std::memory_order_relaxed);
  do {
    if ((gate & Gate::kClosed) != 0 || Gate::region(gate) == last) return last;
  } while (!gate_.compare_exchange_weak(gate, gate + Gate::kOneInside, std::memory_order_acquire,
                                        std::memory_order_relaxed));
  return Gate::region(gate);
}

void ThreadPool::leave() {
  const uint64_t before = gate_.fetch_sub(Gate::kOneInside, std::memory_order_release);
  if ((before & Gate::kClosed) != 0) gate_.notify_one();
}

void ThreadPool::work(Member& member, int index) {
  set_up_this_thread("moe-worker");
  uint32_t entered = 0;
  for (uint32_t called = 0;;) {
    wait_while(member.called, called);
    called = member.called.load(std::memory_order_acquire);
    if (ending_.load(std::memory_order_relaxed)) return;
    // The worker may be late and meet a later region than it was called to, or one for fewer threads.
    const uint32_t region = enter(entered);
    if (region == entered) continue;
    entered = region;
    if (index < threads_) take_part(Worker{index});
    leave();
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
    const int other = worker + i;
    Range& range = ranges_[other < threads ? other : other - threads];
    if (range.next.load(std::memory_order_relaxed) >= range.end) continue;
    const int64_t item = range.next.fetch_add(1, std::memory_order_relaxed);
    if (item < range.end) return item;
  }
  return -1;
}

}  // namespace moe::cpu
