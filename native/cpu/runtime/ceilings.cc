#include "cpu/runtime/ceilings.h"

#include <algorithm>

#include "cpu/isa/isa.h"
#include "cpu/runtime/clock.h"
#include "cpu/runtime/memory.h"
#include "cpu/runtime/team.h"

namespace moe::cpu {

namespace {

constexpr int kRepeats = 5;
constexpr int64_t kIterations = 4'000'000;
// Far more than the caches hold.
constexpr int64_t kReadBytesPerThread = int64_t{512} << 20;

double best_rate(const Team& team, double work, const auto& body) {
  double best = 0;
  for (int i = 0; i < kRepeats; ++i) {
    const double start = seconds();
    team.run([&](const Worker& worker) { body(worker.index); });
    best = std::max(best, work * team.threads / (seconds() - start));
  }
  return best;
}

}  // namespace

Status measure_ceilings(int threads, Ceilings* ceilings) {
  const Kernels* kernels = nullptr;
  MOE_TRY(select_kernels(&kernels));
  const Team team{ThreadPool::shared(), threads};
  const auto peak = [&](const PeakLoop& loop) {
    return best_rate(team, loop.flops_per_iteration * kIterations, [&](int) { loop.run(kIterations); });
  };
  ceilings->f32_flops = peak(kernels->f32_peak);
  ceilings->bf16_flops = kernels->bf16_peak.run == nullptr ? 0 : peak(kernels->bf16_peak);

  void* memory = nullptr;
  MOE_TRY(allocate(static_cast<size_t>(kReadBytesPerThread * threads), false, &memory));
  char* bytes = static_cast<char*>(memory);
  team.run([&](const Worker& worker) {
    char* own = bytes + worker.index * kReadBytesPerThread;
    std::fill(own, own + kReadBytesPerThread, 1);
  });
  ceilings->read_bytes = best_rate(team, kReadBytesPerThread, [&](int index) {
    kernels->read_stream(bytes + index * kReadBytesPerThread, kReadBytesPerThread);
  });
  release(memory);
  return {};
}

}  // namespace moe::cpu
