// The runtime of the cuda device over CUDA's runtime without a GPU.
#include "gpu/runtime/runtime.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <cstdio>
#include <fstream>
#include <numeric>
#include <thread>

#include <ptx/launch.cuh>

#include "check.h"
#include "core/pages.h"
#include "fake_gpu.h"
#include "gpu/runtime/data_errors.h"

namespace moe::cuda {
namespace {

// Adds to every number, as a kernel does.
void add(int* numbers, int count, int value) {
  fake::use(numbers, static_cast<size_t>(count) * sizeof(int));
  for (int i = 0; i < count; ++i) numbers[i] += value;
}

Status launch_add(void* numbers, int count, int value, Stream stream) {
  return launch("add", add, dim3(1), dim3(32), 0, stream, static_cast<int*>(numbers), count, value);
}

std::vector<int> counting(size_t count) {
  std::vector<int> numbers(count);
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

std::string text(const std::vector<std::string>& lines) {
  std::string all;
  for (const std::string& line : lines) all += line + "; ";
  return all;
}

// Calls test(timing) for all of them.
template <class Test>
void at_any_time(Test&& test) {
  using enum fake::Timing;
  for (const fake::Timing timing : {none_early, first_early, second_early, third_early}) test(timing);
}

void check_clean() {
  MOE_CHECK_EQUAL(text(fake::problems()), "");
  MOE_CHECK_EQUAL(fake::left(), "");
}

std::unique_ptr<Runtime> opened(int index = 0, const DeviceOptions& options = {}) {
  std::unique_ptr<Runtime> runtime;
  MOE_CHECK_EQUAL(Runtime::open(index, options, &runtime).message, "");
  return runtime;
}

// Memory of `numbers`, written.
Status write_numbers(Runtime& runtime, const std::vector<int>& numbers, void** data) {
  const size_t bytes = numbers.size() * sizeof(int);
  MOE_TRY(runtime.allocate(bytes, data));
  return runtime.write(*data, numbers.data(), bytes);
}

}  // namespace

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

namespace {
// Of a test's own, so that no other has loaded it.
void twice(int* numbers) {
  fake::use(numbers, 2 * sizeof(int));
  for (int i = 0; i < 2; ++i) numbers[i] *= 2;
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
                                return launch("twice", twice, dim3(1), dim3(1), 1024, stream, static_cast<int*>(data));
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
    runtime->settle();
  }
  check_clean();
}

namespace {
void copy_numbers(const int* from, int* to, int count) {
  fake::use(from, static_cast<size_t>(count) * sizeof(int));
  for (int i = 0; i < count; ++i) to[i] = from[i];
}
}  // namespace

MOE_TEST(uploads_wait_for_work_and_work_waits_for_uploads) {
  at_any_time([](fake::Timing timing) {
    fake::start({{}}, 13000, timing);
    {
      const auto runtime = opened();
      void* slot = nullptr;
      // Its allocation is work that copies must wait for.
      MOE_CHECK(write_numbers(*runtime, {1, 1}, &slot).ok());
      std::unique_ptr<Uploads> uploads;
      MOE_CHECK(Uploads::create(*runtime, &uploads).ok());
      PinnedMemory host(*runtime);
      MOE_CHECK(host.reserve(16).ok());
      MOE_CHECK(host.pin().ok());
      MOE_CHECK(host.pin().ok());
      int* numbers = reinterpret_cast<int*>(host.at(0));
      numbers[0] = 5, numbers[1] = 6;
      numbers[2] = 50, numbers[3] = 60;

      std::vector<int> results(2);
      MOE_CHECK(uploads->after_work().ok());
      MOE_CHECK(uploads->copy(slot, numbers, 8).ok());
      MOE_CHECK(uploads->mark(3).ok());
      MOE_CHECK(uploads->before_work(3).ok());
      MOE_CHECK(launch_add(slot, 2, 1, runtime->stream()).ok());
      void* seen = nullptr;
      MOE_CHECK(runtime->allocate(8, &seen).ok());
      MOE_CHECK(launch("copy", copy_numbers, dim3(1), dim3(1), 0, runtime->stream(), static_cast<const int*>(slot),
                       static_cast<int*>(seen), 2)
                    .ok());
      // The next copy overwrites what that work reads, and takes the mark for itself.
      MOE_CHECK(uploads->after_work().ok());
      MOE_CHECK(uploads->copy(slot, numbers + 2, 8).ok());
      MOE_CHECK(uploads->mark(3).ok());
      MOE_CHECK(runtime->read(results.data(), seen, 8).ok());
      MOE_CHECK(results == std::vector<int>({6, 7}));
      MOE_CHECK(uploads->before_work(3).ok());
      MOE_CHECK(runtime->read(results.data(), slot, 8).ok());
      MOE_CHECK(results == std::vector<int>({50, 60}));
      MOE_CHECK(uploads->copy(slot, numbers, 8).ok());
      uploads->wait();
      MOE_CHECK_EQUAL(*static_cast<int*>(slot), 5);
      uploads.reset();
      runtime->release(slot);
      runtime->release(seen);
    }
    check_clean();
  });
}

namespace {

// What Linux says of a page of the process: "dc" among it if a child does not get it.
std::string flags_of(const void* data) {
  const auto address = reinterpret_cast<uintptr_t>(data);
  std::ifstream maps("/proc/self/smaps");
  bool inside = false;
  for (std::string line; std::getline(maps, line);) {
    unsigned long begin = 0, end = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx ", &begin, &end) == 2) inside = begin <= address && address < end;
    if (inside && line.starts_with("VmFlags:")) return line + " ";
  }
  return "";
}

// Not where there is no Linux, or only one that is emulated.
bool tells_flags() {
#if defined(__linux__)
  const size_t bytes = page_size();
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  madvise(data, bytes, MADV_DONTFORK);
  const std::string flags = flags_of(data);
  munmap(data, bytes);
  return flags.find(" dc ") != std::string::npos;
#else
  return false;
#endif
}

}  // namespace

MOE_TEST(a_child_process_gets_none_of_the_pages_that_a_gpu_reads) {
  fake::start({{}});
  {
    const auto runtime = opened();
    PinnedMemory host(*runtime);
    MOE_CHECK(host.reserve(100).ok());
    if (!tells_flags()) return;
    MOE_CHECK(flags_of(host.at(0)).find(" dc ") == std::string::npos);
    fake::fail("cudaHostRegister", cudaErrorMemoryAllocation);
    MOE_CHECK(host.pin().code == Code::out_of_memory);
    MOE_CHECK(flags_of(host.at(0)).find(" dc ") == std::string::npos);
    fake::succeed();
    MOE_CHECK(host.pin().ok());
    MOE_CHECK(flags_of(host.at(0)).find(" dc ") != std::string::npos);
  }
  check_clean();
}

MOE_TEST(times_are_those_between_marks) {
  fake::start({{}});
  {
    const auto runtime = opened();
    std::unique_ptr<StageClock> clock;
    MOE_CHECK(StageClock::create(*runtime, &clock).ok());
    MOE_CHECK_EQUAL(clock->seconds(0, 1), 0.0);
    MOE_CHECK(clock->mark(0).ok());
    MOE_CHECK(launch("nothing", with_static_shared, dim3(1), dim3(1), 0, runtime->stream()).ok());
    MOE_CHECK(clock->mark(1).ok());
    MOE_CHECK_EQUAL(static_cast<float>(clock->seconds(0, 1)), 1e-3f);
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
      runtime->settle();
    }
    check_clean();
  });
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

namespace {

// Everything once. Stops at the first failure.
Status use_all(int index) {
  std::unique_ptr<Runtime> runtime;
  MOE_TRY(Runtime::open(index, {}, &runtime));
  Scratch data(*runtime), big(*runtime);
  const std::vector<int> numbers = counting(100);
  MOE_TRY(data.reserve(400));
  MOE_TRY(runtime->write(data.at(0), numbers.data(), 400));
  PinnedMemory host(*runtime);
  MOE_TRY(host.reserve(400));
  MOE_TRY(host.pin());
  std::unique_ptr<Uploads> uploads;
  MOE_TRY(Uploads::create(*runtime, &uploads));
  MOE_TRY(uploads->after_work());
  MOE_TRY(uploads->copy(data.at(0), host.at(0), 400));
  MOE_TRY(uploads->mark(0));
  MOE_TRY(uploads->before_work(0));
  std::unique_ptr<StageClock> clock;
  MOE_TRY(StageClock::create(*runtime, &clock));
  MOE_TRY(clock->mark(0));
  std::shared_ptr<const Graph> graph;
  MOE_TRY(runtime->record([&](Stream stream) { return launch_add(data.at(0), 100, 1, stream); }, &graph));
  MOE_TRY(runtime->launch(*graph));
  MOE_TRY(
      launch("add", add, dim3(1), dim3(32), 60 * 1024, runtime->stream(), reinterpret_cast<int*>(data.at(0)), 1, 1));
  DataErrors errors(*runtime);
  MOE_TRY(errors.open());
  Warnings warnings;
  MOE_TRY(errors.collect(warnings));
  std::vector<int> results(100);
  return runtime->read(results.data(), data.at(0), 400);
}

}  // namespace

MOE_TEST(whatever_call_fails_nothing_is_left_and_the_next_use_works) {
  fake::start({{}});
  MOE_CHECK_EQUAL(use_all(0).message, "");
  check_clean();
  for (const cudaError_t error : {cudaErrorMemoryAllocation, cudaErrorUnknown}) {
    for (int index = 0;; ++index) {
      fake::start({{}});
      fake::fail_once(index, error);
      const Status status = use_all(0);
      if (!fake::failed_once()) break;
      check_clean();
      fake::succeed();
      MOE_CHECK_EQUAL(use_all(0).message, "");
    }
  }
}

MOE_TEST(a_fault_ends_all_calls_and_says_so) {
  fake::start({{}});
  const auto runtime = opened();
  void* data = nullptr;
  MOE_CHECK(write_numbers(*runtime, {1, 2, 3}, &data).ok());
  for (const auto& [error, words] : {std::pair{cudaErrorMpsClientTerminated, "MPS has ended"},
                                     std::pair{static_cast<cudaError_t>(226), "memory or NVLink failed"}}) {
    fake::fail("cudaMemsetAsync", error);
    MOE_CHECK(runtime->fill(data, 0, 4).message.find(words) != std::string::npos);
  }
  fake::fail("", cudaErrorIllegalAddress);
  int value = 0;
  for (const Status& status : {runtime->read(&value, data, 4), runtime->write(data, &value, 4),
                               launch_add(data, 1, 1, runtime->stream()), runtime->allocate(8, &data)}) {
    MOE_CHECK(status.code == Code::cuda_error);
    MOE_CHECK(status.message.find("this process cannot use the GPU any more") != std::string::npos);
  }
  std::unique_ptr<Runtime> again;
  MOE_CHECK(Runtime::open(0, {}, &again).code == Code::device_unavailable);
  runtime->settle();
  runtime->release_stream();
}

}  // namespace moe::cuda
