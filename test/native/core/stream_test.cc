#include "core/stream.h"

#include <atomic>
#include <chrono>
#include <memory>
#include <new>
#include <thread>
#include <vector>

#include "check.h"
#include "wait.h"

namespace {

using moe::Code;
using moe::Status;
using moe::Stream;
using moe::test::wait;

}  // namespace

MOE_TEST(a_stream_runs_work_in_order) {
  std::vector<int> order;
  Stream stream;
  for (int i = 0; i < 1000; ++i) {
    stream.enqueue([&order, i] {
      order.push_back(i);
      return Status();
    });
  }
  MOE_CHECK(wait(stream).ok());
  MOE_CHECK_EQUAL(order.size(), 1000u);
  bool ascending = true;
  for (int i = 0; i < static_cast<int>(order.size()); ++i) ascending = ascending && order[i] == i;
  MOE_CHECK(ascending);
}

MOE_TEST(a_stream_counts_the_time_of_its_work_and_not_that_of_waiting_for_some) {
  using std::chrono::milliseconds;
  // Rounded up, as sums of what a stream counts in whole nanoseconds may be.
  const auto seconds_since = [](std::chrono::steady_clock::time_point begin) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() + 1e-9;
  };
  Stream stream;
  MOE_CHECK_EQUAL(stream.busy_seconds(), 0.0);
  std::this_thread::sleep_for(milliseconds(100));
  // Sleeps may take longer than they were asked to, but not longer than all until the wait is over.
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < 2; ++i) {
    stream.enqueue([] {
      std::this_thread::sleep_for(milliseconds(10));
      return Status();
    });
  }
  MOE_CHECK(wait(stream).ok());
  const double busy = stream.busy_seconds();
  MOE_CHECK(busy >= 0.02 && busy <= seconds_since(begin));
  const auto idle = std::chrono::steady_clock::now();
  MOE_CHECK(wait(stream).ok());
  MOE_CHECK(stream.busy_seconds() - busy <= seconds_since(idle));
}

MOE_TEST(a_stream_hands_the_first_failure_to_one_wait) {
  Stream stream;
  stream.enqueue([] { return Status(Code::id_out_of_range, "first"); });
  stream.enqueue([] { return Status(Code::internal, "second"); });
  const Status status = wait(stream);
  MOE_CHECK(status.code == Code::id_out_of_range);
  MOE_CHECK_EQUAL(status.message, "first");
  MOE_CHECK(wait(stream).ok());
}

MOE_TEST(a_wait_for_content_is_told_of_it_alone) {
  struct Memory : moe::Content {};
  const auto memory = std::make_shared<Memory>();
  std::atomic<int> told{0};
  Code codes[3] = {};
  const auto wait_for_memory = [&](Stream& stream, Code* code) {
    moe::Uses uses;
    uses.reads(memory, moe::kWhole);
    stream.enqueue([] { return Status(); }, std::move(uses),
                   [&told, code](Status status) {
                     *code = status.code;
                     ++told;
                   },
                   moe::Told::own);
  };
  const auto write_memory = [&](Stream& stream) {
    moe::Uses uses;
    uses.writes(memory, moe::kWhole);
    stream.enqueue([] { return Status(Code::out_of_memory, "of the content"); }, std::move(uses));
  };
  Stream stream;
  stream.enqueue([] { return Status(Code::id_out_of_range, "of other work"); });
  wait_for_memory(stream, &codes[0]);
  MOE_CHECK_EQUAL(wait(stream).message, "of other work");
  write_memory(stream);
  wait_for_memory(stream, &codes[1]);
  MOE_CHECK(wait(stream).ok());
  stream.enqueue([] { return Status(Code::id_out_of_range, "of other work again"); });
  wait_for_memory(stream, &codes[2]);
  MOE_CHECK_EQUAL(wait(stream).message, "of other work again");
  MOE_CHECK_EQUAL(told.load(), 3);
  MOE_CHECK(codes[0] == Code::ok);
  MOE_CHECK(codes[1] == Code::out_of_memory);
  MOE_CHECK(codes[2] == Code::out_of_memory);
}

MOE_TEST(a_stream_survives_work_that_throws) {
  Stream stream;
  stream.enqueue([]() -> Status { throw std::bad_alloc(); });
  MOE_CHECK(wait(stream).code == Code::out_of_memory);
  MOE_CHECK(wait(stream).ok());
}

MOE_TEST(a_stream_finishes_its_work_before_it_ends) {
  std::atomic<int> done{0};
  {
    Stream stream;
    for (int i = 0; i < 100; ++i) {
      stream.enqueue([&done] {
        ++done;
        return Status();
      });
    }
  }
  MOE_CHECK_EQUAL(done.load(), 100);
}

namespace {

// Work that runs until it is told to end.
struct LongWork {
  std::atomic<bool> begun{false}, go_on{false};

  Status operator()() {
    begun = true;
    begun.notify_one();
    go_on.wait(false);
    return {};
  }
  void end() {
    go_on = true;
    go_on.notify_one();
  }
};

}  // namespace

MOE_TEST(a_cancelled_stream_drops_what_has_not_begun) {
  LongWork running;
  std::atomic<int> done{0}, told{0};
  {
    Stream stream;
    stream.enqueue([&] { return running(); });
    for (int i = 0; i < 10; ++i) {
      stream.enqueue(
          [&done] {
            ++done;
            return Status();
          },
          {},
          [&told](const Status& status) {
            if (status.code == Code::disposed && status.message == "closed") ++told;
          });
    }
    running.begun.wait(false);
    stream.cancel({Code::disposed, "closed"});
    // At once, while the first work is running.
    MOE_CHECK_EQUAL(told.load(), 10);
    running.end();
  }
  MOE_CHECK_EQUAL(done.load(), 0);
  MOE_CHECK_EQUAL(told.load(), 10);
}

MOE_TEST(a_cancelled_stream_releases_what_was_dropped_after_the_running_work) {
  LongWork running;
  std::weak_ptr<int> held;
  {
    Stream stream;
    stream.enqueue([&] { return running(); });
    auto memory = std::make_shared<int>(0);
    held = memory;
    stream.enqueue([memory = std::move(memory)] { return Status(); });
    running.begun.wait(false);
    stream.cancel({Code::disposed, "closed"});
    MOE_CHECK(!held.expired());
    running.end();
  }
  MOE_CHECK(held.expired());
}

MOE_TEST(the_end_of_a_stream_is_not_dropped) {
  LongWork running;
  std::atomic<bool> ended{false};
  Stream stream;
  stream.enqueue([&] { return running(); });
  stream.end([] { return Status(); },
             [&ended](const Status& status) {
               ended = status.ok();
               ended.notify_one();
             });
  running.begun.wait(false);
  stream.cancel({Code::disposed, "closed"});
  MOE_CHECK(!ended.load());
  running.end();
  ended.wait(false);
  MOE_CHECK(ended.load());
}

MOE_TEST(streams_that_are_halted_end_the_work_that_they_do_and_begin_no_other) {
  std::atomic<bool> begun = false, halting = false, ended = false, began_another = false;
  auto stream = std::make_unique<Stream>();
  stream->enqueue([&] {
    begun = true;
    while (!halting) std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    ended = true;
    return Status();
  });
  stream->enqueue([&] {
    began_another = true;
    return Status();
  });
  // Without work.
  const Stream idle;
  while (!begun) std::this_thread::yield();
  halting = true;
  Stream::halt_all();
  MOE_CHECK(ended);
  // Its end does not wait for what it no longer does.
  stream.reset();
  MOE_CHECK(!began_another);
  Stream later;
  MOE_CHECK(wait(later).ok());
}
