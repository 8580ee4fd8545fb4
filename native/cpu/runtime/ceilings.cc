#include "cpu/runtime/ceilings.h"

#include <algorithm>

#include "core/threads.h"
#include "cpu/isa/isa.h"
#include "cpu/runtime/clock.h"
#include "cpu/runtime/memory.h"
#include "cpu/runtime/topology.h"

namespace moe::cpu {

namespace {

constexpr int kRepeats = 5;
// Of a repeat: long beside the start of threads, and for clocks and power to settle.
constexpr double kRepeatSeconds = 0.06;
// That a thread reads in a repeat, for the same reason.
constexpr int64_t kReadBytes = int64_t{512} << 20;
// Four times what the threads' caches hold, also where the system does not tell, and where parts of the processor have
// a last-level cache each.
int64_t read_bytes_per_thread(int threads) {
  constexpr int64_t kUnknown = int64_t{128} << 20, kLeast = int64_t{64} << 20, kPage = 4096;
  const int64_t cache = last_level_cache_bytes();
  return std::max(kLeast, 4 * (cache > 0 ? cache : kUnknown) / threads) / kPage * kPage;
}

// body(index) on each of `threads` threads at once, which the pool's, taken for work as they come, need not be.
void run_on_all(int threads, const auto& body) {
  Threads others;
  for (int index = 1; index < threads; ++index) others.start([&body, index] { body(index); });
  body(0);
}

double seconds_of(int threads, const auto& body) {
  const double start = seconds();
  run_on_all(threads, body);
  return seconds() - start;
}

double best_rate(int threads, double work, const auto& body) {
  double best = 0;
  for (int i = 0; i < kRepeats; ++i) best = std::max(best, work * threads / seconds_of(threads, body));
  return best;
}

double peak_rate(int threads, const PeakLoop& loop) {
  if (loop.run == nullptr) return 0;
  int64_t iterations = 1000;
  const auto body = [&](int) { loop.run(iterations); };
  double taken = seconds_of(threads, body);
  for (; taken < kRepeatSeconds / 10; taken = seconds_of(threads, body)) iterations *= 4;
  if (taken < kRepeatSeconds) iterations = static_cast<int64_t>(iterations * kRepeatSeconds / taken);
  return best_rate(threads, loop.flops_per_iteration * iterations, body);
}

}  // namespace

Status measure_ceilings(int threads, Ceilings* ceilings) {
  const Kernels* kernels = nullptr;
  MOE_TRY(select_kernels(&kernels));
  ceilings->f32_flops = peak_rate(threads, kernels->f32_peak);
  ceilings->bf16_flops = peak_rate(threads, kernels->bf16_peak);
  ceilings->int8_ops = peak_rate(threads, kernels->int8_peak);

  Buffer memory;
  const int64_t own_bytes = read_bytes_per_thread(threads);
  MOE_TRY(memory.reserve(static_cast<size_t>(own_bytes * threads), false));
  char* bytes = memory.data();
  run_on_all(threads, [&](int index) {
    char* own = bytes + index * own_bytes;
    std::fill(own, own + own_bytes, 1);
  });
  const int64_t passes = std::max<int64_t>(1, kReadBytes / own_bytes);
  ceilings->read_bytes = best_rate(threads, static_cast<double>(passes * own_bytes), [&](int index) {
    for (int64_t i = 0; i < passes; ++i) kernels->read_streams(bytes + index * own_bytes, own_bytes);
  });
  return {};
}

}  // namespace moe::cpu
