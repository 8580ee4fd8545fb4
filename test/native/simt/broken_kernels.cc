#include "broken_kernels.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <vector>

#include "core/dtype.h"
#include "ptx/barrier.cuh"
#include "ptx/cp_async.cuh"
#include "ptx/launch.cuh"
#include "ptx/ld_st.cuh"
#include "ptx/ldmatrix.cuh"
#include "ptx/mma.cuh"

namespace moe::simt::test {

namespace {

constexpr unsigned kAll = 0xffffffffu;

template <class... Parameters>
Status run(const char* name, void (*kernel)(Parameters...), dim3 block, size_t shared, const Options& options,
           std::type_identity_t<Parameters>... arguments) {
  Gpu gpu(options);
  return launch(name, kernel, 1, block, shared, &gpu, arguments...);
}

// Without a barrier in the loop, a thread adds what its neighbour has not written yet.
__global__ void missing_syncthreads(int* out) {
  int* partial = ptx::dynamic_shared<int>();
  partial[threadIdx.x] = 1;
  for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) partial[threadIdx.x] += partial[threadIdx.x + half];
  }
  __syncthreads();
  out[threadIdx.x] = partial[0];
}

// Without a barrier after the read, the next round's write comes before a slow thread has read.
__global__ void missing_second_syncthreads(int* out) {
  int* shared = ptx::dynamic_shared<int>();
  int sum = 0;
  for (int round = 1; round <= 4; ++round) {
    shared[threadIdx.x] = round;
    __syncthreads();
    sum += shared[blockDim.x - 1 - threadIdx.x];
  }
  out[threadIdx.x] = sum;
}

// The lanes of a warp do not run in lockstep.
__global__ void missing_syncwarp(int* out) {
  int* shared = ptx::dynamic_shared<int>();
  shared[threadIdx.x] = 3;
  out[threadIdx.x] = shared[31 - threadIdx.x];
}

template <bool kWait, bool kBarrier>
__global__ void copy(const int* in, int* out) {
  int* shared = ptx::dynamic_shared<int>();
  ptx::cp_async_16(shared + 4 * threadIdx.x, in + 4 * threadIdx.x);
  ptx::cp_async_commit();
  if (kWait) ptx::cp_async_wait<0>();
  if (kBarrier) __syncthreads();
  for (unsigned i = 0; i < 4; ++i) out[4 * threadIdx.x + i] = shared[4 * (blockDim.x - 1 - threadIdx.x) + i];
}

// Waits for the group before the one that it reads.
__global__ void wait_for_wrong_group(const int* in, int* out) {
  int* shared = ptx::dynamic_shared<int>();
  for (int group = 0; group < 2; ++group) {
    ptx::cp_async_4_zfill(shared + 32 * group + threadIdx.x, in + 32 * group + threadIdx.x, 4);
    ptx::cp_async_commit();
  }
  ptx::cp_async_wait<1>();
  for (int group = 0; group < 2; ++group) out[32 * group + threadIdx.x] = shared[32 * group + threadIdx.x];
}

// Copies to where it still reads.
__global__ void copy_over_what_is_read(const int* in, int* out) {
  int* shared = ptx::dynamic_shared<int>();
  ptx::cp_async_4_zfill(shared + threadIdx.x, in + threadIdx.x, 4);
  ptx::cp_async_commit();
  ptx::cp_async_wait<0>();
  ptx::cp_async_4_zfill(shared + threadIdx.x, in + 32 + threadIdx.x, 4);
  ptx::cp_async_commit();
  out[threadIdx.x] = shared[threadIdx.x];
  ptx::cp_async_wait<0>();
  out[32 + threadIdx.x] = shared[threadIdx.x];
}

__global__ void source_changes(int* in, int* out) {
  int* shared = ptx::dynamic_shared<int>();
  ptx::cp_async_4_zfill(shared + threadIdx.x, in + threadIdx.x, 4);
  ptx::cp_async_commit();
  in[threadIdx.x] = -1;
  ptx::cp_async_wait<0>();
  out[threadIdx.x] = shared[threadIdx.x];
}

__global__ void store_past_dynamic(int* out) {
  int* shared = ptx::dynamic_shared<int>();
  shared[threadIdx.x + 1] = 5;
  __syncthreads();
  out[threadIdx.x] = shared[threadIdx.x + 1];
}

__global__ void store_past_static(int* out) {
  struct Storage {
    int numbers[32];
  };
  int* shared = ptx::shared<Storage>().numbers;
  shared[threadIdx.x + 1] = 5;
  __syncthreads();
  out[threadIdx.x] = shared[threadIdx.x + 1];
}

__global__ void vector_store_past_dynamic(int* out) {
  ptx::st_shared_32(ptx::dynamic_shared<int>() + threadIdx.x + 1, 5);
  out[threadIdx.x] = 5;
}

__global__ void copy_past_static(const int* in, int* out) {
  struct Storage {
    alignas(16) int numbers[32];
  };
  int* shared = ptx::shared<Storage>().numbers;
  ptx::cp_async_16(shared + 4 * threadIdx.x, in + 4 * threadIdx.x);
  out[threadIdx.x] = shared[4 * threadIdx.x];
}

__global__ void misaligned_global_load(const int* in, int* out) {
  out[threadIdx.x] = static_cast<int>(ptx::ld_global_128(in + 4 * threadIdx.x + 1).x);
}

__global__ void misaligned_ldmatrix_row(uint32_t* out) {
  uint32_t registers[4];
  ptx::ldmatrix_x4(registers, ptx::dynamic_shared<char>() + 24 * threadIdx.x);
  out[threadIdx.x] = registers[0];
}

__global__ void misaligned_atomic(unsigned* out) {
  atomicAdd(reinterpret_cast<unsigned*>(reinterpret_cast<char*>(out) + 2), 1u);
}

// Of a variable of its own, which is in registers or local memory on hardware.
__global__ void copy_of_a_variable(int* out) {
  alignas(16) int own[4] = {7, 7, 7, 7};
  int* shared = ptx::dynamic_shared<int>();
  ptx::cp_async_16(shared + 4 * threadIdx.x, own);
  ptx::cp_async_commit();
  ptx::cp_async_wait<0>();
  out[threadIdx.x] = shared[4 * threadIdx.x];
}

struct Parameter {
  alignas(16) int numbers[4];
};
__global__ void load_of_a_parameter(const Parameter parameter, int* out) {
  out[threadIdx.x] = static_cast<int>(ptx::ld_global_32(parameter.numbers));
}

__global__ void atomic_on_a_variable(int* out) {
  int own = 6;
  atomicAdd(&own, 1);
  out[threadIdx.x] = own;
}

__global__ void shared_load_of_global(const int* in, int* out) {
  out[threadIdx.x] = static_cast<int>(ptx::ld_shared_32(in + threadIdx.x));
}

__global__ void divergent_syncthreads() {
  if (threadIdx.x < 40) __syncthreads();
}

__global__ void two_barriers_in_a_warp() {
  if (threadIdx.x % 2 == 0) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

__global__ void wrong_barrier_count() {
  if (threadIdx.x < 64) ptx::named_barrier_sync(1, 96);
  __syncthreads();
}

__global__ void barrier_counts_differ() { ptx::named_barrier_sync(2, threadIdx.x < 32 ? 64 : 96); }

__global__ void lane_missing_from_shuffle(int* out) {
  if (threadIdx.x != 7) out[threadIdx.x] = __shfl_sync(kAll, 1, 0);
}

__global__ void lane_goes_elsewhere(int* out) {
  if (threadIdx.x == 7) {
    __syncthreads();
  } else {
    out[threadIdx.x] = __ballot_sync(kAll, 1) != 0;
    __syncthreads();
  }
}

__global__ void lane_not_in_its_mask(int* out) { out[threadIdx.x] = __any_sync(0x0000ffffu, 1); }

__global__ void masks_differ(int* out) {
  out[threadIdx.x] = __shfl_xor_sync(threadIdx.x < 16 ? kAll : 0xffff0001u, 1, 1);
}

__global__ void different_collectives(int* out) {
  out[threadIdx.x] = threadIdx.x < 16 ? __any_sync(kAll, 1) : __all_sync(kAll, 1);
}

__global__ void shuffle_from_outside_the_mask(int* out) {
  if (threadIdx.x < 16) out[threadIdx.x] = __shfl_sync(0x0000ffffu, 1, 20);
}

__global__ void matrix_product_in_half_a_warp(float* out) {
  float d[4] = {};
  const uint32_t a[4] = {}, b[2] = {};
  if (threadIdx.x < 16) ptx::mma_m16n8k16_bf16(d, a, b);
  out[threadIdx.x] = d[0];
}

__global__ void read_of_unwritten_shared(float* out) {
  float* shared = ptx::dynamic_shared<float>();
  if (threadIdx.x != 9) shared[threadIdx.x] = 1;
  __syncthreads();
  float sum = 0;
  for (unsigned i = 0; i < blockDim.x; ++i) sum += shared[i];
  out[threadIdx.x] = sum;
}

// Swaps the two middle 8x8 matrices of A.
template <bool kSwapped>
__global__ void multiply_by_identity(const uint16_t* a, float* out) {
  uint16_t* shared = ptx::dynamic_shared<uint16_t>();
  const unsigned lane = threadIdx.x;
  for (unsigned i = lane; i < 256; i += 32) shared[i] = a[i];
  __syncwarp();
  const unsigned first = lane / 8 % 2 * 8, second = lane / 16 * 8;
  const unsigned row = lane % 8 + (kSwapped ? second : first), column = kSwapped ? first : second;
  uint32_t fragment[4];
  ptx::ldmatrix_x4(fragment, shared + 16 * row + column);
  float d[4] = {};
  // B is the identity's first eight columns.
  const unsigned k = 2 * (lane % 4), n = lane / 4;
  const uint32_t one = bf16(1.0f).bits;
  const uint32_t b[2] = {k == n ? one : k + 1 == n ? one << 16 : 0, 0};
  ptx::mma_m16n8k16_bf16(d, fragment, b);
  for (unsigned i = 0; i < 4; ++i) out[(lane / 4 + i / 2 * 8) * 8 + 2 * (lane % 4) + i % 2] = d[i];
}

// A sum over blocks without an atomic.
__global__ void race_between_blocks(int* sum) { *sum += 1; }

__global__ void too_much_static_shared(char* out) {
  struct Storage {
    char bytes[200 << 10];
  };
  out[threadIdx.x] = ptx::shared<Storage>().bytes[0];
}

// Each part of shared memory is small; together they exceed what a launch gets without asking.
__global__ void static_beside_dynamic(char* out) {
  struct Storage {
    char bytes[32];
  };
  Storage& storage = ptx::shared<Storage>();
  storage.bytes[threadIdx.x] = 7;
  ptx::dynamic_shared<char>()[threadIdx.x] = 7;
  out[threadIdx.x] = storage.bytes[threadIdx.x];
}

// Waits for a number that no thread of its own block writes.
__global__ void wait_for_another_block(int* out) {
  while (atomicAdd(out + 1, 0) == 0) {
  }
}

// Waits for a number that another thread of its block does write.
__global__ void wait_for_a_thread(int* out) {
  if (threadIdx.x == 40) atomicExch(out, 7);
  int seen = 0;
  while (seen != 7) seen = atomicCAS(out, -1, -1);
  __syncthreads();
  out[threadIdx.x] = seen;
}

// Each thread writes the expected number, or should.
template <class T>
Outcome of_threads(void (*kernel)(T*), const char* name, unsigned threads, size_t shared, const Options& options,
                   int expected) {
  std::vector<T> out(threads);
  Status status = run(name, kernel, threads, shared, options, out.data());
  const bool correct =
      std::all_of(out.begin(), out.end(), [&](T number) { return number == static_cast<T>(expected); });
  return {std::move(status), correct};
}

template <auto kKernel, unsigned kThreads, size_t kShared, int kExpected>
Outcome of_threads(const char* name, const Options& options) {
  return of_threads(kKernel, name, kThreads, kShared, options, kExpected);
}

// A block that computes nothing.
template <auto kKernel, unsigned kThreads>
Outcome of_block(const char* name, const Options& options) {
  return {run(name, kKernel, kThreads, 0, options), true};
}

Outcome of_parameter(const char* name, const Options& options) {
  std::array<int, 32> out{};
  Status status = run(name, load_of_a_parameter, 32, 0, options, Parameter{{7, 7, 7, 7}}, out.data());
  return {std::move(status), std::all_of(out.begin(), out.end(), [](int number) { return number == 7; })};
}

// Each thread copies kEach numbers, from its own place or from the opposite thread's.
template <auto kKernel, unsigned kThreads, unsigned kEach, bool kOpposite>
Outcome of_copy(const char* name, const Options& options) {
  alignas(16) std::array<int, kThreads * kEach> in;
  std::array<int, kThreads * kEach> out{}, expected;
  std::iota(in.begin(), in.end(), 100);
  for (unsigned i = 0; i < in.size(); ++i) {
    expected[i] = in[kOpposite ? (kThreads - 1 - i / kEach) * kEach + i % kEach : i];
  }
  Status status = run(name, kKernel, kThreads, sizeof in, options, in.data(), out.data());
  return {std::move(status), out == expected};
}

// Two concurrent blocks of one thread each: ThreadSanitizer loses reports when many threads come and go.
Outcome of_two_blocks(const char* name, const Options& options) {
  Gpu gpu({options.seed, options.async, 2});
  int sum = 0;
  Status status = launch(name, race_between_blocks, 64, 1, 0, &gpu, &sum);
  return {std::move(status), sum == 64};
}

template <bool kSwapped>
Outcome of_product(const char* name, const Options& options) {
  std::array<uint16_t, 256> a;
  for (size_t i = 0; i < a.size(); ++i) a[i] = bf16(static_cast<float>(i)).bits;
  std::array<float, 128> out{}, expected;
  for (size_t i = 0; i < out.size(); ++i) expected[i] = static_cast<float>(i / 8 * 16 + i % 8);
  Status status = run(name, multiply_by_identity<kSwapped>, 32, 512, options, a.data(), out.data());
  return {std::move(status), out == expected};
}

constexpr BrokenKernel kKernels[] = {
    {"missing_syncthreads", of_threads<missing_syncthreads, 64, 256, 64>},
    {"missing_second_syncthreads", of_threads<missing_second_syncthreads, 64, 256, 1 + 2 + 3 + 4>},
    {"missing_syncwarp", of_threads<missing_syncwarp, 32, 128, 3>},
    {"missing_cp_async_wait", of_copy<copy<false, true>, 64, 4, true>},
    {"missing_barrier_after_wait", of_copy<copy<true, false>, 64, 4, true>},
    {"right_wait_and_barrier", of_copy<copy<true, true>, 64, 4, true>},
    {"wait_for_wrong_group", of_copy<wait_for_wrong_group, 32, 2, false>},
    {"copy_over_what_is_read", of_copy<copy_over_what_is_read, 32, 2, false>},
    {"source_changes", of_copy<source_changes, 32, 1, false>},
    {"store_past_dynamic", of_threads<store_past_dynamic, 32, 128, 5>},
    {"store_past_static", of_threads<store_past_static, 32, 0, 5>},
    {"vector_store_past_dynamic", of_threads<vector_store_past_dynamic, 32, 128, 5>},
    {"copy_past_static", of_copy<copy_past_static, 64, 4, false>},
    {"misaligned_global_load", of_copy<misaligned_global_load, 32, 4, false>},
    {"misaligned_ldmatrix_row", of_threads<misaligned_ldmatrix_row, 32, 1024, 0>},
    {"misaligned_atomic", of_threads<misaligned_atomic, 32, 0, 0>},
    {"copy_of_a_variable", of_threads<copy_of_a_variable, 32, 512, 7>},
    {"load_of_a_parameter", of_parameter},
    {"atomic_on_a_variable", of_threads<atomic_on_a_variable, 32, 0, 7>},
    {"shared_load_of_global", of_copy<shared_load_of_global, 32, 1, false>},
    {"divergent_syncthreads", of_block<divergent_syncthreads, 64>},
    {"two_barriers_in_a_warp", of_block<two_barriers_in_a_warp, 32>},
    {"wrong_barrier_count", of_block<wrong_barrier_count, 128>},
    {"barrier_counts_differ", of_block<barrier_counts_differ, 96>},
    {"lane_missing_from_shuffle", of_threads<lane_missing_from_shuffle, 32, 0, 1>},
    {"lane_goes_elsewhere", of_threads<lane_goes_elsewhere, 32, 0, 1>},
    {"lane_not_in_its_mask", of_threads<lane_not_in_its_mask, 32, 0, 1>},
    {"masks_differ", of_threads<masks_differ, 32, 0, 1>},
    {"different_collectives", of_threads<different_collectives, 32, 0, 1>},
    {"shuffle_from_outside_the_mask", of_threads<shuffle_from_outside_the_mask, 32, 0, 1>},
    {"matrix_product_in_half_a_warp", of_threads<matrix_product_in_half_a_warp, 32, 0, 0>},
    {"read_of_unwritten_shared", of_threads<read_of_unwritten_shared, 32, 128, 31>},
    {"swapped_fragment_rows", of_product<true>},
    {"right_fragment_rows", of_product<false>},
    {"race_between_blocks", of_two_blocks},
    {"wait_for_another_block", of_threads<wait_for_another_block, 64, 0, 7>},
    {"right_wait_for_a_thread", of_threads<wait_for_a_thread, 64, 0, 7>},
    {"too_much_static_shared", of_threads<too_much_static_shared, 32, 60 << 10, 0>},
    {"static_beside_dynamic", of_threads<static_beside_dynamic, 32, 48 << 10, 7>},
    {"right_static_beside_dynamic", of_threads<static_beside_dynamic, 32, 47 << 10, 7>},
    {"right_asked_for_more", of_threads<static_beside_dynamic, 32, 100 << 10, 7>},
};

}  // namespace

std::span<const BrokenKernel> broken_kernels() { return kKernels; }

}  // namespace moe::simt::test
