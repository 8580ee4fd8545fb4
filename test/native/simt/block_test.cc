// Barriers, the threads' positions in block and grid, atomics, and the limits of a launch.
#include <algorithm>
#include <array>
#include <numeric>
#include <vector>

#include "ptx/barrier.cuh"
#include "run.h"
#include "simt/shared_memory.h"

namespace moe::simt::test {

namespace {

struct Place {
  uint3 thread, block;
  dim3 block_shape, grid_shape;
  int visits;
};

__global__ void place_kernel(Place* out) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  Place& place = out[block * blockDim.x * blockDim.y * blockDim.z + thread];
  __syncthreads();
  place = {threadIdx, blockIdx, blockDim, gridDim, place.visits + 1};
}

MOE_TEST(every_thread_of_every_block_runs_once_and_knows_its_place) {
  const dim3 grid(3, 2, 4), block(5, 3, 7);
  for (const int threads : {1, 3}) {
    std::vector<Place> out(24 * 105);
    run(place_kernel, grid, block, 0, with(5, AsyncMode::late, threads), out.data());
    for (unsigned i = 0; i < out.size(); ++i) {
      const Place& place = out[i];
      const unsigned b = i / 105, t = i % 105;
      MOE_CHECK_EQUAL(place.visits, 1);
      MOE_CHECK(place.thread.x == t % 5 && place.thread.y == t / 5 % 3 && place.thread.z == t / 15);
      MOE_CHECK(place.block.x == b % 3 && place.block.y == b / 3 % 2 && place.block.z == b / 6);
      MOE_CHECK(place.block_shape.x == 5 && place.block_shape.y == 3 && place.block_shape.z == 7);
      MOE_CHECK(place.grid_shape.x == 3 && place.grid_shape.y == 2 && place.grid_shape.z == 4);
    }
  }
}

// A tree reduction over the block's threads.
__global__ void tree_sum_kernel(const int* values, int* sum) {
  int* partial = ptx::dynamic_shared<int>();
  partial[threadIdx.x] = values[threadIdx.x];
  for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) partial[threadIdx.x] += partial[threadIdx.x + half];
  }
  if (threadIdx.x == 0) *sum = partial[0];
}

MOE_TEST(syncthreads_orders_shared_memory) {
  std::vector<int> values(1024);
  std::iota(values.begin(), values.end(), 7);
  for (const unsigned threads : {1u, 32u, 64u, 1024u}) {
    for (uint64_t seed = 0; seed < kSeeds; ++seed) {
      int sum = 0;
      run(tree_sum_kernel, 1, threads, threads * sizeof(int), with(seed), values.data(), &sum);
      MOE_CHECK_EQUAL(sum, std::accumulate(values.begin(), values.begin() + threads, 0));
    }
  }
}

__global__ void count_kernel(int* out, int modulus) {
  const int predicate = static_cast<int>(threadIdx.x) % modulus == 0 ? 5 : 0;
  for (int round = 0; round < 3; ++round) {
    int* results = out + 3 * (round * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x));
    results[0] = __syncthreads_count(predicate);
    results[1] = __syncthreads_and(round == 1 ? 1 : predicate);
    results[2] = __syncthreads_or(round == 2 ? 0 : predicate);
  }
}

MOE_TEST(syncthreads_reductions_count_nonzero_predicates) {
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    for (const int modulus : {1, 2, 100}) {
      std::vector<int> out(3 * 3 * 100);
      run(count_kernel, 1, 100, 0, with(seed), out.data(), modulus);
      for (int i = 0; i < 300; ++i) {
        const int round = i / 100;
        MOE_CHECK_EQUAL(out[static_cast<size_t>(3 * i)], 100 / modulus);
        MOE_CHECK_EQUAL(out[static_cast<size_t>(3 * i + 1)], round == 1 || modulus == 1);
        MOE_CHECK_EQUAL(out[static_cast<size_t>(3 * i + 2)], round != 2);
      }
    }
  }
}

// Warp 0 fills a buffer of two stages; warps 1 and 2 sum what it wrote. Barrier 1 + s means that stage s is full, 3 + s
// that it is empty.
__global__ void pipeline_kernel(int* sums, int rounds) {
  struct Storage {
    int stage[2][32];
  };
  Storage& shared = ptx::shared<Storage>();
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int sum = 0;
  for (int round = 0; round < rounds; ++round) {
    const int s = round % 2;
    if (warp == 0) {
      if (round >= 2) ptx::named_barrier_sync(3 + s, 96);
      shared.stage[s][lane] = round * 1000 + static_cast<int>(lane);
      ptx::named_barrier_arrive(1 + s, 96);
    } else {
      ptx::named_barrier_sync(1 + s, 96);
      sum += shared.stage[s][31 - lane];
      if (round + 2 < rounds) ptx::named_barrier_arrive(3 + s, 96);
    }
  }
  if (warp != 0) sums[threadIdx.x - 32] = sum;
}

MOE_TEST(named_barriers_hand_stages_from_warp_to_warp) {
  constexpr int kRounds = 9;
  for (uint64_t seed = 0; seed < 4 * kSeeds; ++seed) {
    std::array<int, 64> sums;
    run(pipeline_kernel, 1, 96, 0, with(seed), sums.data(), kRounds);
    for (int i = 0; i < 64; ++i) {
      MOE_CHECK_EQUAL(sums[static_cast<size_t>(i)], 1000 * kRounds * (kRounds - 1) / 2 + kRounds * (31 - i % 32));
    }
  }
}

struct Atomics {
  int add, max, min, subtracted;
  unsigned bits_or, bits_and;
  unsigned long long wide;
  float real;
  int exchanged, swapped;
};

__global__ void atomic_kernel(Atomics* out, int* old_values) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  old_values[i] = atomicAdd(&out->add, 1);
  atomicSub(&out->subtracted, 2);
  atomicMax(&out->max, i);
  atomicMin(&out->min, -i);
  atomicOr(&out->bits_or, 1u << (i % 32));
  atomicAnd(&out->bits_and, ~(1u << (i % 32)));
  atomicAdd(&out->wide, 1ull << 32);
  atomicAdd(&out->real, 0.5f);
  if (atomicCAS(&out->swapped, 0, i + 1) == 0) atomicExch(&out->exchanged, i + 1);
}

MOE_TEST(atomics_lose_nothing_between_threads_and_blocks) {
  for (const int threads : {1, 2, 4}) {
    Atomics out{0, -1, 1, 0, 0, ~0u, 0, 0, 0, 0};
    std::vector<int> old_values(64 * 64);
    run(atomic_kernel, 64, 64, 0, with(9, AsyncMode::late, threads), &out, old_values.data());
    MOE_CHECK_EQUAL(out.add, 4096);
    MOE_CHECK_EQUAL(out.subtracted, -8192);
    MOE_CHECK_EQUAL(out.max, 4095);
    MOE_CHECK_EQUAL(out.min, -4095);
    MOE_CHECK_EQUAL(out.bits_or, ~0u);
    MOE_CHECK_EQUAL(out.bits_and, 0u);
    MOE_CHECK_EQUAL(out.wide, 4096ull << 32);
    MOE_CHECK_EQUAL(out.real, 2048.0f);
    MOE_CHECK(out.swapped > 0);
    MOE_CHECK_EQUAL(out.exchanged, out.swapped);
    std::sort(old_values.begin(), old_values.end());
    for (int i = 0; i < 4096; ++i) MOE_CHECK_EQUAL(old_values[static_cast<size_t>(i)], i);
  }
}

__global__ void order_kernel(int* order, int* next) { order[atomicAdd(next, 1)] = static_cast<int>(threadIdx.x); }
__global__ void block_order_kernel(int* order, int* next) { order[atomicAdd(next, 1)] = static_cast<int>(blockIdx.x); }

MOE_TEST(the_seed_decides_the_order_of_threads_and_blocks) {
  const auto threads = [](uint64_t seed) {
    std::vector<int> order(128);
    int next = 0;
    run(order_kernel, 1, 128, 0, with(seed), order.data(), &next);
    return order;
  };
  const auto blocks = [](uint64_t seed) {
    std::vector<int> order(97);
    int next = 0;
    run(block_order_kernel, 97, 1, 0, with(seed), order.data(), &next);
    return order;
  };
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    MOE_CHECK(threads(seed) == threads(seed));
    MOE_CHECK(threads(seed) != threads(seed + 1));
    MOE_CHECK(blocks(seed) == blocks(seed));
    MOE_CHECK(blocks(seed) != blocks(seed + 1));
    std::vector<int> order = blocks(seed);
    std::sort(order.begin(), order.end());
    for (int i = 0; i < 97; ++i) MOE_CHECK_EQUAL(order[static_cast<size_t>(i)], i);
  }
}

__global__ void add_kernel(int number, int* sum) { *sum += number; }

MOE_TEST(a_recording_runs_when_it_is_launched_with_the_arguments_of_its_launches) {
  Gpu gpu(with(1));
  Recording recording;
  int sum = 0;
  int number = 3;
  MOE_CHECK(launch("add", add_kernel, 1, 1, 0, {&gpu, nullptr, true}, number, &sum).ok());
  MOE_CHECK(launch("add", add_kernel, 1, 1, 0, {&gpu, &recording}, number, &sum).ok());
  number = 5;
  MOE_CHECK(launch("add", add_kernel, 2, 1, 0, {&gpu, &recording}, number, &sum).ok());
  MOE_CHECK(launch("nothing", add_kernel, 0, 1, 0, {&gpu, &recording}, number, &sum).ok());
  MOE_CHECK_EQUAL(recording.size(), size_t{2});
  MOE_CHECK_EQUAL(sum, 0);
  number = 7;
  for (int round = 1; round <= 2; ++round) {
    for (const RecordedLaunch& recorded : recording) MOE_CHECK(gpu.launch(recorded.launch).ok());
    MOE_CHECK_EQUAL(sum, round * 13);
  }
}

__global__ void nothing_kernel() {}

MOE_TEST(launches_beyond_the_hardware_are_refused) {
  Gpu gpu(with(1));
  const auto message = [&](dim3 grid, dim3 block, size_t shared) {
    return launch("nothing", nothing_kernel, grid, block, shared, &gpu);
  };
  MOE_CHECK(message({2147483647, 0, 1}, 1, 0).ok());
  MOE_CHECK(says(message({1, 65536, 1}, 1, 0), {"nothing", "grid", "(1, 65536, 1)"}));
  MOE_CHECK(says(message(1, {1025, 1, 1}, 0), {"1 to 1024 threads", "(1025, 1, 1)"}));
  MOE_CHECK(says(message(1, {32, 33, 1}, 0), {"1 to 1024 threads"}));
  MOE_CHECK(says(message(1, {1, 1, 65}, 0), {"1 to 1024 threads"}));
  MOE_CHECK(says(message(1, {0, 1, 1}, 0), {"1 to 1024 threads"}));
  MOE_CHECK(says(message(1, 1, machine::kMaxSharedBytes + 1), {"shared memory", "232449"}));
  MOE_CHECK(message(1, 1, machine::kMaxSharedBytes).ok());
}

__global__ void argument_kernel(const std::array<int, 9> numbers, double real, int* out) {
  if (threadIdx.x == 5) *out = numbers[8] + static_cast<int>(real);
}

MOE_TEST(arguments_are_passed_by_value) {
  int out = 0;
  std::array<int, 9> numbers{};
  numbers[8] = 40;
  run(argument_kernel, 1, 8, 0, with(1), numbers, 2.5, &out);
  MOE_CHECK_EQUAL(out, 42);
}

}  // namespace

}  // namespace moe::simt::test
