#include "cpu/runtime/thread_pool.h"

#include <stdexcept>
#include <string>
#include <thread>

#include "check.h"
#include "cpu/runtime/team.h"

namespace {

using moe::cpu::ItemQueue;
using moe::cpu::Team;
using moe::cpu::ThreadPool;
using moe::cpu::Worker;

using ThreadPoolPointer = std::shared_ptr<ThreadPool>;

}  // namespace

MOE_TEST(a_queue_hands_out_every_item_once) {
  for (const int threads : {1, 2, 5}) {
    const ThreadPoolPointer pool = ThreadPool::shared();
    ItemQueue queue(threads);
    for (const int64_t total : {int64_t{0}, int64_t{1}, int64_t{7}, int64_t{1000}}) {
      std::vector<std::atomic<int>> taken(static_cast<size_t>(total));
      queue.reset(total);
      pool->share(threads, [&](const Worker& worker) {
        for (int64_t item; (item = queue.next(worker.index)) >= 0;) ++taken[item];
      });
      bool once = true;
      for (const auto& count : taken) once = once && count.load() == 1;
      MOE_CHECK(once);
    }
  }
}

MOE_TEST(teams_of_several_devices_share_the_pool_one_region_at_a_time) {
  std::atomic<int> inside{0};
  std::atomic<bool> alone{true}, complete{true};
  const auto device = [&](int threads) {
    const ThreadPoolPointer pool = ThreadPool::shared();
    ItemQueue queue(threads);
    for (int i = 0; i < 200; ++i) {
      std::atomic<int> items{0};
      queue.reset(40);
      pool->share(threads, [&](const Worker& worker) {
        if (worker.index == 0 && ++inside != 1) alone = false;
        while (queue.next(worker.index) >= 0) ++items;
        if (worker.index == 0) --inside;
      });
      if (items != 40) complete = false;
    }
  };
  std::thread a(device, 2), b(device, 5), c(device, 1);
  a.join();
  b.join();
  c.join();
  MOE_CHECK(alone.load());
  MOE_CHECK(complete.load());
}

MOE_TEST(ranges_are_covered_once) {
  const Team team{ThreadPool::shared(), 2};
  for (const int64_t count : {int64_t{0}, int64_t{1}, int64_t{16}, int64_t{17}, int64_t{1000}}) {
    std::vector<std::atomic<int>> covered(static_cast<size_t>(count));
    team.for_range(count, 16, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) ++covered[i];
    });
    bool once = true;
    for (const auto& times : covered) once = once && times.load() == 1;
    MOE_CHECK(once);
  }
}

MOE_TEST(shared_work_is_done_once_by_whoever_comes) {
  for (const int threads : {1, 2, 3, 9, 33}) {
    const ThreadPoolPointer pool = ThreadPool::shared();
    ItemQueue queue(threads);
    bool once = true;
    for (int64_t round = 0; round < 300; ++round) {
      const int64_t total = round % 70;
      // Ends with the region: a worker that came later would write to memory that is gone.
      std::vector<int> taken(static_cast<size_t>(total));
      std::vector<int> calls(static_cast<size_t>(threads));
      queue.reset(total);
      pool->share(threads, [&](const Worker& worker) {
        ++calls[worker.index];
        for (int64_t item; (item = queue.next(worker.index)) >= 0;) ++taken[item];
      });
      for (const int count : taken) once = once && count == 1;
      for (const int count : calls) once = once && count <= 1;
      once = once && calls[0] == 1;
    }
    MOE_CHECK(once);
  }
}

MOE_TEST(a_shared_region_ends_without_the_workers_that_come_late) {
  const ThreadPoolPointer pool = ThreadPool::shared();
  // Far more threads than CPUs, and no work: hardly any worker arrives before the caller is done.
  int64_t calls = 0;
  for (int i = 0; i < 300; ++i) {
    std::atomic<int> here{0};
    pool->share(64, [&](const Worker&) { ++here; });
    calls += here;
  }
  MOE_CHECK(calls >= 300 && calls < 300 * 64);
}

MOE_TEST(an_exception_on_any_thread_comes_out_once_all_have_left) {
  const ThreadPoolPointer pool = ThreadPool::shared();
  for (int thrower = 0; thrower < 3; ++thrower) {
    std::atomic<int> came{0}, inside{0};
    std::string caught;
    try {
      pool->share(3, [&](const Worker& worker) {
        ++inside;
        ++came;
        // Nobody leaves before all are here, so that the thrower is.
        while (came < 3) std::this_thread::yield();
        --inside;
        if (worker.index == thrower) throw std::runtime_error("worker " + std::to_string(worker.index));
      });
    } catch (const std::runtime_error& error) {
      caught = error.what();
      MOE_CHECK_EQUAL(inside.load(), 0);
    }
    MOE_CHECK_EQUAL(caught, "worker " + std::to_string(thrower));
    std::atomic<bool> ran{false};
    pool->share(3, [&](const Worker&) { ran = true; });
    MOE_CHECK(ran);
  }
}

MOE_TEST(threads_follow_from_work) {
  using moe::cpu::threads_for;
  MOE_CHECK_EQUAL(threads_for({0, 0}, 64), 1);
  MOE_CHECK_EQUAL(threads_for({100e3, 100e3}, 64), 1);
  MOE_CHECK_EQUAL(threads_for({200e3, 0}, 64), 2);
  MOE_CHECK_EQUAL(threads_for({0, 1e6}, 64), 6);
  MOE_CHECK_EQUAL(threads_for({1e9, 1e9}, 64), 64);
  MOE_CHECK_EQUAL(threads_for({1e9, 1e9}, 1), 1);
}
