// The runtime of the cuda device over CUDA's runtime without a GPU: memory, launches, graphs, streams of the caller's.
#include <thread>

#include "gpu/runtime/data_errors.h"
#include "support.h"

namespace moe::cuda {

using namespace test;

MOE_TEST(what_is_written_is_read_behind_the_work_in_between) {
  at_any_time([](fake::Timing timing) {
    fake::start({{}}, 13000, timing);
    {
      const auto runtime = opened();
      // More pieces than there are buffers to send them through.
      const std::vector<int> numbers = counting(size_t{13} << 20);
      std::vector<int> results(numbers.size());
      const size_t bytes = numbers.size() * sizeof(int);
      void* data = nullptr;
      {
        std::vector<int> given = numbers;
        MOE_CHECK(write_numbers(*runtime, given, &data).ok());
        std::fill(given.begin(), given.end(), -1);
      }
      MOE_CHECK(launch_add(data, 3, 5, runtime->stream()).ok());
      MOE_CHECK(runtime->read(results.data(), data, bytes).ok());
      std::vector<int> expected = numbers;
      for (int i = 0; i < 3; ++i) expected[static_cast<size_t>(i)] += 5;
      MOE_CHECK(results == expected);
      runtime->release(data);
    }
    check_clean();
  });
}

MOE_TEST(memory_is_filled_with_nan_patterns_if_that_is_asked_for) {
  fake::start({{}});
  {
    const auto runtime = opened(0, {.poison = true});
    void* data = nullptr;
    int value = 0;
    MOE_CHECK(runtime->allocate(sizeof value, &data).ok());
    MOE_CHECK(runtime->read(&value, data, sizeof value).ok());
    MOE_CHECK_EQUAL(value, -1);
    runtime->release(data);
    // Empty memory has an address too.
    MOE_CHECK(runtime->allocate(0, &data).ok());
    MOE_CHECK(data != nullptr);
    runtime->release(data);
  }
  check_clean();
}

MOE_TEST(memory_that_the_pool_keeps_is_given_back_before_there_is_none) {
  at_any_time([](fake::Timing timing) {
    fake::start({{.memory = size_t{64} << 20}}, 13000, timing);
    {
      const auto runtime = opened();
      void* data = nullptr;
      for (int i = 0; i < 4; ++i) {
        MOE_CHECK_EQUAL(runtime->allocate(size_t{40} << 20, &data).message, "");
        runtime->release(data);
      }
      const Status status = runtime->allocate(size_t{65} << 20, &data);
      MOE_CHECK(status.code == Code::out_of_memory);
      MOE_CHECK_EQUAL(
          status.message,
          "cannot allocate 68157440 bytes of GPU memory, of which 67108864 of 67108864 are free; dispose of "
          "tensors and layers that are no longer needed");
    }
    check_clean();
  });
}

MOE_TEST(memory_that_another_device_on_the_gpu_keeps_is_given_back_too) {
  at_any_time([](fake::Timing timing) {
    fake::start({{.memory = size_t{64} << 20}, {.memory = size_t{64} << 20}}, 13000, timing);
    {
      const auto first = opened(), second = opened();
      const auto other = opened(1);
      void *data = nullptr, *used = nullptr;
      MOE_CHECK(first->allocate(size_t{8} << 20, &used).ok());
      MOE_CHECK(first->allocate(size_t{40} << 20, &data).ok());
      // Nobody has waited for it yet.
      first->release(data);
      MOE_CHECK_EQUAL(second->allocate(size_t{50} << 20, &data).message, "");
      second->release(data);
      first->release(used);
    }
    check_clean();
  });
}

namespace {
// Multiplies two numbers. Each test has a factor of its own, so that no other has loaded its kernel.
template <int factor>
void multiply(int* numbers) {
  fake::use(numbers, 2 * sizeof(int));
  for (int i = 0; i < 2; ++i) numbers[i] *= factor;
}
}  // namespace

MOE_TEST(a_graph_runs_its_launches_again_and_prepares_kernels_before_it_records) {
  at_any_time([](fake::Timing timing) {
    fake::start({{}}, 13000, timing);
    {
      const auto runtime = opened();
      void* data = nullptr;
      MOE_CHECK(write_numbers(*runtime, {1, 2}, &data).ok());
      std::shared_ptr<const Graph> graph;
      int calls = 0;
      MOE_CHECK_EQUAL(runtime
                          ->record(
                              [&](Stream stream) -> Status {
                                ++calls;
                                // Another thread may allocate at any time.
                                std::thread([&] {
                                  void* other = nullptr;
                                  MOE_CHECK(runtime->allocate(8, &other).ok());
                                  runtime->release(other);
                                }).join();
                                return launch("twice", multiply<2>, dim3(1), dim3(1), 1024, stream,
                                              static_cast<int*>(data));
                              },
                              &graph)
                          .message,
                      "");
      MOE_CHECK_EQUAL(calls, 2);
      if (graph == nullptr) return;
      for (int i = 0; i < 3; ++i) MOE_CHECK(runtime->launch(*graph).ok());
      // Gone while its launches are on their way.
      graph.reset();
      std::vector<int> results(2);
      MOE_CHECK(runtime->read(results.data(), data, 8).ok());
      MOE_CHECK(results == std::vector<int>({8, 16}));
      runtime->release(data);
    }
    check_clean();
  });
}

MOE_TEST(kernels_and_graphs_take_memory_that_the_pool_keeps) {
  constexpr size_t kMiB = size_t{1} << 20;
  fake::start({{.memory = 64 * kMiB, .kernel_bytes = kMiB, .graph_bytes = kMiB}});
  {
    const auto runtime = opened();
    void* data = nullptr;
    MOE_CHECK(write_numbers(*runtime, {1, 2}, &data).ok());
    const auto use_all_memory = [&] {
      void* rest = nullptr;
      size_t bytes = 63 * kMiB;
      while (!runtime->allocate(bytes, &rest).ok()) bytes -= kMiB / 2;
      runtime->release(rest);
    };
    use_all_memory();
    const auto launch_thrice = [&](Stream stream) {
      return launch("thrice", multiply<3>, dim3(1), dim3(1), 0, stream, static_cast<int*>(data));
    };
    MOE_CHECK_EQUAL(launch_thrice(runtime->stream()).message, "");
    use_all_memory();
    std::shared_ptr<const Graph> graph;
    MOE_CHECK_EQUAL(runtime->record(launch_thrice, &graph).message, "");
    if (graph != nullptr) MOE_CHECK(runtime->launch(*graph).ok());
    std::vector<int> results(2);
    MOE_CHECK(runtime->read(results.data(), data, 8).ok());
    MOE_CHECK(results == std::vector<int>({9, 18}));
    runtime->release(data);
  }
  check_clean();
}

MOE_TEST(a_recording_that_fails_leaves_the_stream_of_use) {
  fake::start({{}});
  {
    const auto runtime = opened();
    std::shared_ptr<const Graph> graph;
    bool prepares = true;
    const auto fails_later = [&](Stream) -> Status {
      return std::exchange(prepares, false) ? Status{} : Status{Code::internal, "no"};
    };
    MOE_CHECK_EQUAL(runtime->record(fails_later, &graph).message, "no");
    MOE_CHECK(graph == nullptr);
    // What a capture does not allow is the caller's fault, and an error.
    prepares = true;
    const Status status = runtime->record(
        [&](Stream) -> Status {
          char none[1];
          return std::exchange(prepares, false) ? Status{} : runtime->pin(none, 0);
        },
        &graph);
    MOE_CHECK(status.code == Code::cuda_error);
    MOE_CHECK_EQUAL(runtime->record([&](Stream) { return Status{}; }, &graph).message, "");
  }
  check_clean();
}

MOE_TEST(kernels_are_prepared_on_each_gpu) {
  at_any_time([](fake::Timing timing) {
    fake::start({{}, {}}, 13000, timing);
    {
      const std::unique_ptr<Runtime> runtimes[] = {opened(0), opened(1)};
      for (const size_t bytes : {size_t{0}, size_t{100} * 1024, size_t{47} * 1024, size_t{200} * 1024}) {
        for (const auto& runtime : runtimes) {
          void* data = nullptr;
          MOE_CHECK(write_numbers(*runtime, {7}, &data).ok());
          MOE_CHECK_EQUAL(
              launch("add", add, dim3(1), dim3(32), bytes, runtime->stream(), static_cast<int*>(data), 1, 1).message,
              "");
          int result = 0;
          MOE_CHECK(runtime->read(&result, data, sizeof result).ok());
          MOE_CHECK_EQUAL(result, 8);
          runtime->release(data);
        }
      }
    }
    check_clean();
  });
}

namespace {
void idle() {}
void with_static_shared() {}
}  // namespace

MOE_TEST(static_shared_memory_counts_against_what_a_launch_gets_unasked) {
  fake::start({{}});
  {
    const auto runtime = opened();
    fake::set_static_shared((const void*)with_static_shared, 1024);
    for (const size_t bytes : {size_t{48} * 1024 - 1, size_t{226} * 1024}) {
      MOE_CHECK_EQUAL(launch("fixed", with_static_shared, dim3(1), dim3(1), bytes, runtime->stream()).message, "");
    }
    const Status status = launch("fixed", with_static_shared, dim3(1), dim3(1), 227 * 1024, runtime->stream());
    MOE_CHECK_EQUAL(status.message, "fixed: cudaErrorInvalidValue: what it means");
    MOE_CHECK(launch("empty", with_static_shared, dim3(0), dim3(1), 0, runtime->stream()).ok());
    MOE_CHECK(runtime->settle().ok());
  }
  check_clean();
}

MOE_TEST(launches_that_a_gpu_cannot_do_are_refused) {
  // Capabilities 8.0, 8.9 and 9.0 differ in the shared memory that a block may have.
  fake::start({{.major = 8}, {.major = 8, .minor = 9}, {}});
  for (const auto& [index, kibibytes] : {std::pair{0, size_t{163}}, {1, size_t{99}}, {2, size_t{227}}}) {
    const auto runtime = opened(index);
    MOE_CHECK_EQUAL(runtime->traits().shared_per_block, kibibytes * 1024);
    const auto message = [&](dim3 grid, dim3 block, size_t bytes) {
      return launch("idle", idle, grid, block, bytes, runtime->stream()).message;
    };
    MOE_CHECK_EQUAL(message(dim3(1), dim3(1024), kibibytes * 1024), "");
    MOE_CHECK_EQUAL(message(dim3(1), dim3(1), kibibytes * 1024 + 1), "idle: cudaErrorInvalidValue: what it means");
    for (const auto& [grid, block] : {std::pair{dim3(1), dim3(1025)},
                                      {dim3(1), dim3(1, 1, 65)},
                                      {dim3(1, 65536), dim3(1)},
                                      {dim3(0x80000000), dim3(1)}}) {
      MOE_CHECK_EQUAL(message(grid, block, 0), "idle: cudaErrorInvalidConfiguration: what it means");
    }
    MOE_CHECK(runtime->settle().ok());
  }
  check_clean();
}

MOE_TEST(a_stream_of_the_callers_is_not_used_once_it_is_released) {
  at_any_time([](fake::Timing timing) {
    fake::start({{}, {}}, 13000, timing);
    {
      MOE_CHECK_EQUAL(cudaSetDevice(1), cudaSuccess);
      cudaStream_t given = nullptr;
      MOE_CHECK_EQUAL(cudaStreamCreateWithFlags(&given, cudaStreamNonBlocking), cudaSuccess);
      std::unique_ptr<Runtime> wrong;
      const Status other = Runtime::open(0, {.stream = given}, &wrong);
      MOE_CHECK(other.code == Code::invalid_argument);
      MOE_CHECK(other.message.find("stream: expected a CUDA stream of cuda:0, got another") == 0);
      MOE_CHECK(Runtime::open(0, {.stream = cudaStreamPerThread}, &wrong).message.find("cudaStreamPerThread") !=
                std::string::npos);

      const auto runtime = opened(1, {.stream = given});
      void* data = nullptr;
      MOE_CHECK(write_numbers(*runtime, {1}, &data).ok());
      MOE_CHECK(launch_add(data, 1, 1, runtime->stream()).ok());
      runtime->release_stream();
      // Behind the work on the caller's.
      runtime->release(data);
      MOE_CHECK_EQUAL(cudaSetDevice(1), cudaSuccess);
      MOE_CHECK_EQUAL(cudaStreamDestroy(given), cudaSuccess);
      MOE_CHECK(runtime->settle().ok());
    }
    check_clean();
  });
}

MOE_TEST(owners_of_memory_are_told_once_by_whatever_comes_first_after_the_work) {
  using After = void (*)(std::unique_ptr<Runtime> & runtime, void* data);
  const After afters[] = {
      [](auto&, void*) { fake::finish(); },
      [](auto& runtime, void* data) {
        int number = 0;
        MOE_CHECK(runtime->read(&number, data, sizeof number).ok());
        MOE_CHECK_EQUAL(number, 2);
      },
      [](auto& runtime, void*) { MOE_CHECK(runtime->settle().ok()); },
      [](auto& runtime, void*) { runtime.reset(); },
  };
  for (const After after : afters) {
    fake::start({{}});
    fake::call_late();
    {
      auto runtime = opened();
      void* data = nullptr;
      MOE_CHECK(write_numbers(*runtime, {1}, &data).ok());
      MOE_CHECK(launch_add(data, 1, 1, runtime->stream()).ok());
      int told = 0, later = 0;
      MOE_CHECK(runtime->settle([&] { ++told; }).ok());
      MOE_CHECK_EQUAL(told, 0);
      after(runtime, data);
      MOE_CHECK_EQUAL(told, 1);
      if (runtime == nullptr) continue;
      runtime->release(data);
      MOE_CHECK(runtime->settle([&] { ++later; }).ok());
      fake::finish();
      MOE_CHECK_EQUAL(told, 1);
      MOE_CHECK_EQUAL(later, 1);
    }
    check_clean();
  }
}

MOE_TEST(where_a_stream_cannot_call_the_host_owners_of_memory_are_told_after_a_wait) {
  for (const char* call : {"cudaStreamCreateWithFlags", "cudaEventCreateWithFlags", "cudaEventRecord",
                           "cudaStreamWaitEvent", "cudaLaunchHostFunc"}) {
    fake::start({{}});
    {
      const auto runtime = opened();
      fake::fail(call, cudaErrorUnknown);
      int told = 0;
      MOE_CHECK(runtime->settle([&] { ++told; }).ok());
      MOE_CHECK_EQUAL(told, 1);
      fake::succeed();
    }
    check_clean();
  }
}

MOE_TEST(a_stream_of_the_callers_is_not_used_while_it_is_captured) {
  fake::start({{}});
  {
    cudaStream_t given = nullptr;
    MOE_CHECK_EQUAL(cudaStreamCreateWithFlags(&given, cudaStreamNonBlocking), cudaSuccess);
    auto runtime = opened(0, {.stream = given});
    void *data = nullptr, *other = nullptr, *none = nullptr;
    MOE_CHECK(write_numbers(*runtime, {1, 2}, &data).ok());
    MOE_CHECK(write_numbers(*runtime, {3}, &other).ok());

    MOE_CHECK_EQUAL(cudaStreamBeginCapture(given, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    int numbers[2] = {};
    std::unique_ptr<Runtime> second;
    for (const Status& status :
         {runtime->use(), runtime->allocate(4, &none), runtime->fill(data, 0, 4), runtime->write(data, numbers, 4),
          runtime->read(numbers, data, 4), Runtime::open(0, {.stream = given}, &second)}) {
      MOE_CHECK(status.code == Code::unsupported_operation);
      MOE_CHECK_EQUAL(status.message.find("stream: expected one that nobody captures"), 0u);
    }
    // As the collector may at any time.
    runtime->release(other);
    cudaGraph_t graph = nullptr;
    MOE_CHECK_EQUAL(cudaStreamEndCapture(given, &graph), cudaSuccess);
    MOE_CHECK_EQUAL(cudaGraphDestroy(graph), cudaSuccess);

    MOE_CHECK(runtime->read(numbers, data, 8).ok());
    MOE_CHECK(numbers[0] == 1 && numbers[1] == 2);
    MOE_CHECK(runtime->allocate(4, &none).ok());
    // Those of `data` and `none`.
    MOE_CHECK(fake::left().ends_with(" 2 blocks"));
    runtime->release(none);
    runtime->release(data);
    runtime.reset();
    MOE_CHECK_EQUAL(cudaStreamDestroy(given), cudaSuccess);
  }
  check_clean();
}

MOE_TEST(places_for_errors_are_read_behind_the_launches_that_write_them) {
  at_any_time([](fake::Timing timing) {
    fake::start({{}}, 13000, timing);
    {
      const auto runtime = opened();
      DataErrors errors(*runtime);
      MOE_CHECK(errors.open().ok());
      Warnings warnings;
      const auto report = +[](gpu::IdError* error) {
        fake::use(error, sizeof *error);
        error->first = uint64_t{2} << 32 | 9;
      };
      // More than one table of places.
      for (int launches = 0; launches < 2000; ++launches) {
        gpu::IdError* error =
            errors.next({.parameter = "sort: ids", .what = "an expert", .limit = launches + 1, .columns = 0});
        if (launches == 1500) MOE_CHECK(launch("report", report, dim3(1), dim3(1), 0, runtime->stream(), error).ok());
      }
      MOE_CHECK_EQUAL(errors.collect(warnings).message, "sort: ids[2]: expected -1 or an expert from 0 to 1500, got 9");
      MOE_CHECK(errors.collect(warnings).ok());
    }
    check_clean();
  });
}

}  // namespace moe::cuda
