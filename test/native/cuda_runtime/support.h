// What the tests of the cuda device's runtime share.
#pragma once

#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include <ptx/launch.cuh>

#include "check.h"
#include "fake_gpu.h"
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

}  // namespace moe::cuda::test
