#include "cpu/runtime/ceilings.h"

#include <algorithm>

#include "core/threads.h"
#include "cpu/isa/isa.h"
#include "cpu/runtime/clock.h"
#include "cpu/runtime/memory.h"

namespace moe::cpu {

namespace {

constexpr int kRepeats = 5;
constexpr int64_t kIterations = 4'000'000;
// Far more than the caches hold.
constexpr int64_t kReadBytesPerThread = int64_t{512} << 20;

// body(index) on each of `threads` threads at once, which the pool's, taken for work as they come, need not be.
void run_on_all(int threads, const auto& body) {
  Threads others;
  for (int index = 1; index < threads; ++index) others.start([&body, index] { body(index); });
  body(0);
}

double best_rate(int threads, double work, const auto& body) {
  double best = 0;
  for (int i = 0; i < kRepeats; ++i) {
    const double start = seconds();
    run_on_all(threads, body);
    best = std::max(best, work * threads / (seconds() - start));
  }
  return best;
}

}  // namespace

Status measure_ceilings(int threads, Ceilings* ceilings) {
  const Kernels* kernels = nullptr;
  MOE_TRY(select_kernels(&kernels));
  const auto peak = [&](const PeakLoop& loop) {
    return best_rate(threads, loop.flops_per_iteration * kIterations, [&](int) { loop.run(kIterations); });
  };
  ceilings->f32_flops = peak(kernels->f32_peak);
  ceilings->bf16_flops = kernels->bf16_peak.run == nullptr ? 0 : peak(kernels->bf16_peak);

  Buffer memory;
  MOE_TRY(memory.reserve(static_cast<size_t>(kReadBytesPerThread * threads), false));
  char* bytes = memory.data();
  run_on_all(threads, [&](int index) {
    char* own = bytes + index * kReadBytesPerThread;
    std::fill(own, own + kReadBytesPerThread, 1);
  });
  ceilings->read_bytes = best_rate(threads, kReadBytesPerThread, [&](int index) {
    kernels->read_stream(bytes + index * kReadBytesPerThread, kReadBytesPerThread);
  });
  return {};
}

}  // namespace moe::cpu
