#pragma once

#include <immintrin.h>
#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <functional>
#include <thread>
#include <vector>

/** A fixed number of threads, each pinned to a CPU; the caller's is one of them. Between jobs the others sleep. */
class Team {
 public:
  explicit Team(int threads) : threads_(threads) {
    cpu_set_t usable;
    sched_getaffinity(0, sizeof usable, &usable);
    std::vector<int> cpus;
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (CPU_ISSET(cpu, &usable)) cpus.push_back(cpu);
    }
    const auto pin = [cpus](int index) {
      cpu_set_t one;
      CPU_ZERO(&one);
      CPU_SET(cpus[static_cast<std::size_t>(index) % cpus.size()], &one);
      pthread_setaffinity_np(pthread_self(), sizeof one, &one);
    };
    for (int index = 1; index < threads; ++index) {
      others_.emplace_back([this, index, pin] {
        pin(index);
        for (int seen = 0;;) {
          started_.wait(seen);
          seen = started_.load();
          if (!job_) return;
          job_(index);
          barrier();
        }
      });
    }
    pin(0);
  }
  ~Team() {
    job_ = nullptr;
    start();
    for (std::thread& other : others_) other.join();
  }

  int threads() const { return threads_; }

  /** Calls job(thread index) on every thread and waits until all are done. */
  void run(std::function<void(int)> job) {
    job_ = std::move(job);
    start();
    job_(0);
    barrier();
  }

  /** Inside a job: waits until all threads are here. */
  void barrier() {
    const int phase = phase_.load();
    if (arrived_.fetch_add(1) + 1 == threads_) {
      arrived_.store(0);
      phase_.store(phase + 1);
      phase_.notify_all();
      return;
    }
    for (int spins = 0; spins < longest_spin && phase_.load() == phase; ++spins) _mm_pause();
    phase_.wait(phase);  // returns at once if the phase is over
  }

  /** Inside a job: the part of [0, count) that is this thread's. */
  template <class Use>
  void share(int thread, std::size_t count, Use use) const {
    const auto at = [&](int index) { return count * static_cast<std::size_t>(index) / threads_; };
    for (std::size_t item = at(thread); item < at(thread + 1); ++item) use(item);
  }

 private:
  void start() {
    started_.fetch_add(1);
    started_.notify_all();
  }

  /** Pauses, a millisecond or so: whoever is later than that shares its CPU with another program. */
  static constexpr int longest_spin = 20000;

  const int threads_;
  std::function<void(int)> job_;
  std::vector<std::thread> others_;
  alignas(64) std::atomic<int> started_{0};
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<int> phase_{0};
};
