// A device's in-order stream: one thread that runs enqueued work sequentially.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <list>
#include <mutex>
#include <thread>

#include "core/content.h"
#include "core/status.h"

namespace moe {

// Which failures a wait is told, and takes from the next wait.
enum class Told {
  first,  // the first since the last wait, whatever it is of
  own,    // that of its own work, such as of what it reads
};

// The number of the call whose work this thread is running; 0 outside stream threads.
uint64_t current_call();

class Stream {
 public:
  // Runs on the stream's thread after the work, with the failure that the wait is told. Must not throw.
  using Done = std::function<void(Status)>;

  // Throws if the system does not start the thread.
  Stream();
  // Finishes the enqueued work, unless cancelled, and ends the thread.
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  // The first failure since the last wait is kept for the next one, unless it is ABORTED. Returns the call's number,
  // counted from 1. If this throws, nothing is enqueued.
  uint64_t enqueue(std::function<Status()> work, Uses uses = {});
  // Also enqueues a wait, which calls `done`. Enqueues both or, if it throws, neither.
  void enqueue(std::function<Status()> work, Uses uses, Done done, Told told = Told::first);
  // Runs `work` after all earlier work and blocks until it is done; returns the kept failure and clears it.
  Status run(std::function<Status()> work, Uses uses = {});
  // Blocks until all work enqueued so far is done and what it kept alive is released; a kept failure stays.
  void drain();
  // Whether all work enqueued so far is done; does not wait.
  bool idle() const { return unfinished_.load(std::memory_order_acquire) == 0; }
  // The time that its thread has spent on work so far; any thread may ask.
  double busy_seconds() const { return static_cast<double>(busy_nanoseconds_.load(std::memory_order_acquire)) * 1e-9; }
  // As enqueue(), for the last work: cancel() does not drop it, and the thread ends after it.
  void end(std::function<Status()> work, Done done);
  // Drops work that has not begun, and tells whoever waits for it `reason`. The thread releases what it kept alive.
  void cancel(const Status& reason) noexcept;
  // As the process ends, before what work uses is gone: returns when the threads of all streams are between two pieces
  // of work. They begin no other.
  static void halt_all() noexcept;

 private:
  // Of the streams that there are.
  class Registration {
   public:
    explicit Registration(Stream& stream);
    ~Registration();
    Registration(const Registration&) = delete;
    Registration& operator=(const Registration&) = delete;

   private:
    Stream& stream_;
  };

  struct Item {
    std::function<Status()> work;
    Uses uses;
    Done done;  // empty if nobody waits
    Told told = Told::first;
    uint64_t call = 0;
    bool last = false;
    bool dropped = false;
  };

  uint64_t push(Item item);
  void halt() noexcept;
  void run_items() noexcept;
  void run_item(Item& item) noexcept;
  // Keeps a failure for the next wait, and returns what the wait for this work is told, if there is one.
  Status keep(Status status, const Item& item) noexcept;

  std::mutex mutex_;
  std::condition_variable wake_;
  // A list, because its items can be allocated before they are enqueued and then moved and dropped without allocating.
  std::list<Item> queue_;
  // Whether run_items() has work. Written under the lock, but read without it while spinning.
  std::atomic<bool> has_work_{false};
  bool ending_ = false;
  // See halt_all(). `running_`: from taking a piece of work until looking for the next.
  bool halted_ = false, running_ = false;
  std::condition_variable between_;
  // Work enqueued or running.
  std::atomic<int64_t> unfinished_{0};
  // Written by the stream thread only.
  std::atomic<int64_t> busy_nanoseconds_{0};
  uint64_t calls_ = 0;  // enqueued so far; the caller's thread only
  Status failure_;      // stream thread only
  Registration registration_{*this};
  std::thread thread_;
};

}  // namespace moe
