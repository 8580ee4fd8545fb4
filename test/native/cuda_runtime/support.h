// What the tests of the cuda device's runtime share.
#pragma once

#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include <ptx/launch.cuh>

#include "check.h"
#include "fake_gpu.h"
#include "gpu/runtime/data_errors.h"
#include "gpu/runtime/runtime.h"

namespace moe::cuda::test {

// Adds to every number, as a kernel does.
inline void add(int* numbers, int count, int value) {
  fake::use(numbers, static_cast<size_t>(count) * sizeof(int));
  for (int i = 0; i < count; ++i) numbers[i] += value;
}

inline Status launch_add(void* numbers, int count, int value, Stream stream) {
  return launch("add", add, dim3(1), dim3(32), 0, stream, static_cast<int*>(numbers), count, value);
}

inline std::vector<int> counting(size_t count) {
  std::vector<int> numbers(count);
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

inline std::string text(const std::vector<std::string>& lines) {
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

inline void check_clean() {
  MOE_CHECK_EQUAL(text(fake::problems()), "");
  MOE_CHECK_EQUAL(fake::left(), "");
  // The thread's own, which is the caller's.
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  MOE_CHECK_EQUAL(cudaThreadExchangeStreamCaptureMode(&mode), cudaSuccess);
  MOE_CHECK_EQUAL(mode, cudaStreamCaptureModeGlobal);
}

inline std::unique_ptr<Runtime> opened(int index = 0, const DeviceOptions& options = {}) {
  std::unique_ptr<Runtime> runtime;
  MOE_CHECK_EQUAL(Runtime::open(index, options, &runtime).message, "");
  return runtime;
}

// Memory of `numbers`, written.
inline Status write_numbers(Runtime& runtime, const std::vector<int>& numbers, void** data) {
  const size_t bytes = numbers.size() * sizeof(int);
  MOE_TRY(runtime.allocate(bytes, data));
  return runtime.write(*data, numbers.data(), bytes);
}

// Everything once. Stops at the first failure.
inline Status use_all(int index) {
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
  int told = 0;
  MOE_TRY(runtime->settle([&] { ++told; }));
  DataErrors errors(*runtime);
  MOE_TRY(errors.open());
  Warnings warnings;
  MOE_TRY(errors.collect(warnings));
  std::vector<int> results(100);
  MOE_TRY(runtime->read(results.data(), data.at(0), 400));
  MOE_CHECK_EQUAL(told, 1);
  return {};
}

}  // namespace moe::cuda::test
