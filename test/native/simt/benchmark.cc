// Measures the simt runtime: prints switches between CUDA threads and matrix products (m16n8k16, by one warp) per
// second, on one operating system thread.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "ptx/launch.cuh"
#include "ptx/mma.cuh"

namespace moe::simt::test {

namespace {

constexpr unsigned kThreads = 128;
constexpr int kRounds = 10000;
constexpr int kRepeats = 7;

__global__ void switches(int rounds) {
  for (int round = 0; round < rounds; ++round) __syncwarp();
}

__global__ void products(int rounds, float* out) {
  float d[4] = {};
  const uint32_t a[4] = {}, b[2] = {};
  for (int round = 0; round < rounds; ++round) ptx::mma_m16n8k16_bf16(d, a, b);
  out[threadIdx.x] = d[0];
}

// The median time of a launch, in seconds.
template <class Launch>
double seconds(Launch&& launch) {
  std::vector<double> times;
  for (int repeat = 0; repeat < kRepeats; ++repeat) {
    const auto start = std::chrono::steady_clock::now();
    const Status status = launch();
    if (!status.ok()) {
      fprintf(stderr, "%s\n", status.message.c_str());
      std::exit(1);
    }
    times.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  std::nth_element(times.begin(), times.begin() + kRepeats / 2, times.end());
  return times[kRepeats / 2];
}

void report() {
  Gpu gpu(Options{});
  std::vector<float> out(kThreads);
  const double switching = seconds([&] { return launch("switches", switches, 1, kThreads, 0, &gpu, kRounds); });
  const double multiplying =
      seconds([&] { return launch("products", products, 1, kThreads, 0, &gpu, kRounds, out.data()); });
  printf("{\"switchesPerSecond\": %.4g, \"mmaPerSecond\": %.4g}\n", kRounds * double{kThreads} / switching,
         kRounds * double{kThreads / 32} / multiplying);
}

}  // namespace

}  // namespace moe::simt::test

int main() { moe::simt::test::report(); }
