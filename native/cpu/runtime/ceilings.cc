#include "cpu/runtime/ceilings.h"

#include <algorithm>

#include "core/threads.h"
#include "cpu/runtime/clock.h"
#include "cpu/runtime/memory.h"
#include "cpu/runtime/topology.h"

namespace moe::cpu {

namespace {

constexpr int kRepeats = 5;
// Eight times what the threads' caches hold, also where the system does not tell, and where parts of the processor have
// a last-level cache each. Zen 4 keeps enough of four times its cache to seem to read memory a sixth faster.
int64_t read_bytes_per_thread(int threads) {
  constexpr int64_t kUnknown = int64_t{128} << 20, kLeast = int64_t{64} << 20, kPage = 4096;
  const int64_t cache = last_level_cache_bytes();
  return std::max(kLeast, 8 * (cache > 0 ? cache : kUnknown) / threads) / kPage * kPage;
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

// The best rate of repeats that share the time; body(index, iterations) does `work` in each iteration.
double best_rate(int threads, double time, double work, int64_t iterations, const auto& body) {
  const auto run = [&](int index) { body(index, iterations); };
  const double repeat = time / kRepeats;
  double taken = seconds_of(threads, run);
  for (; taken < repeat / 10; taken = seconds_of(threads, run)) iterations *= 4;
  if (taken < repeat) iterations = static_cast<int64_t>(static_cast<double>(iterations) * repeat / taken);
  double best = 0;
  for (int i = 0; i < kRepeats; ++i) {
    best = std::max(best, work * static_cast<double>(iterations) * threads / seconds_of(threads, run));
  }
  return best;
}

double peak_rate(int threads, double time, const PeakLoop& loop) {
  if (loop.run == nullptr) return 0;
  return best_rate(threads, time, loop.flops_per_iteration, 1000, [&](int, int64_t count) { loop.run(count); });
}

}  // namespace

Status measure_ceilings(const Kernels& kernels, int threads, double time, Ceilings* ceilings) {
  ceilings->f32_flops = peak_rate(threads, time, kernels.f32_peak);
  ceilings->bf16_flops = peak_rate(threads, time, kernels.bf16_peak);
  ceilings->int8_ops = peak_rate(threads, time, kernels.int8_peak);
  return measure_read_rate(kernels, threads, time, &ceilings->read_bytes);
}

Status measure_read_rate(const Kernels& kernels, int threads, double time, double* bytes_per_second) {
  Buffer memory;
  const int64_t own_bytes = read_bytes_per_thread(threads);
  MOE_TRY(memory.reserve(static_cast<size_t>(own_bytes * threads), false));
  char* bytes = memory.data();
  run_on_all(threads, [&](int index) {
    char* own = bytes + index * own_bytes;
    std::fill(own, own + own_bytes, 1);
  });
  *bytes_per_second = 0;
  for (const auto read : kernels.read_memory) {
    const double share = time / static_cast<double>(kernels.read_memory.size());
    const double rate = best_rate(threads, share, static_cast<double>(own_bytes), 1, [&](int index, int64_t passes) {
      for (int64_t i = 0; i < passes; ++i) read(bytes + index * own_bytes, own_bytes);
    });
    *bytes_per_second = std::max(*bytes_per_second, rate);
  }
  return {};
}

}  // namespace moe::cpu
