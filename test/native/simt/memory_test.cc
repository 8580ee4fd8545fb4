// Shared memory as a block finds it, loads and stores of every size, and asynchronous copies in both modes.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "ptx/convert.cuh"
#include "ptx/cp_async.cuh"
#include "ptx/ld_st.cuh"
#include "run.h"
#include "simt/options.h"

namespace moe::simt::test {

namespace {

// Reports what it finds, then leaves its mark for the next block.
__global__ void fresh_kernel(int* fresh) {
  struct Storage {
    unsigned words[64];
  };
  Storage& fixed = ptx::shared<Storage>();
  unsigned* dynamic = ptx::dynamic_shared<unsigned>();
  bool all = &ptx::shared<Storage>() == &fixed;
  for (int i = 0; i < 64; ++i) all = all && fixed.words[i] == 0xffffffffu && dynamic[i] == 0xffffffffu;
  __syncthreads();
  fixed.words[threadIdx.x] = dynamic[threadIdx.x] = 7;
  if (threadIdx.x == 0) fresh[blockIdx.x] = all;
}

MOE_TEST(every_block_finds_nan_patterns_in_shared_memory) {
  std::array<int, 20> fresh{};
  run(fresh_kernel, 20, 64, 256, with(1), fresh.data());
  for (const int all : fresh) MOE_CHECK_EQUAL(all, 1);
  MOE_CHECK(std::isnan(std::bit_cast<float>(0xffffffffu)));
}

__global__ void placement_kernel(uintptr_t* addresses) {
  struct A {
    char bytes[3];
  };
  struct alignas(128) B {
    float numbers[5];
  };
  addresses[0] = reinterpret_cast<uintptr_t>(ptx::dynamic_shared<uint4>());
  addresses[1] = reinterpret_cast<uintptr_t>(&ptx::shared<A>());
  addresses[2] = reinterpret_cast<uintptr_t>(&ptx::shared<B>());
}

MOE_TEST(shared_memory_is_aligned_and_allocations_are_apart) {
  std::array<uintptr_t, 3> addresses{};
  run(placement_kernel, 1, 1, 5000, with(1), addresses.data());
  MOE_CHECK_EQUAL(addresses[0] % 1024, 0u);
  MOE_CHECK_EQUAL(addresses[2] % 128, 0u);
  std::sort(addresses.begin(), addresses.end());
  for (size_t i = 1; i < addresses.size(); ++i) MOE_CHECK(addresses[i] - addresses[i - 1] >= 20);
}

__global__ void copy_kernel(const unsigned* in, unsigned* out) {
  unsigned* shared = ptx::dynamic_shared<unsigned>();
  const unsigned i = threadIdx.x;
  ptx::st_shared_128(shared + 16 * i, ptx::ld_global_128(in + 16 * i));
  ptx::st_shared_128(shared + 16 * i + 4, ptx::ld_global_128(in + 16 * i + 4));
  ptx::st_shared_64(shared + 16 * i + 8, ptx::ld_global_64(in + 16 * i + 8));
  ptx::st_shared_64(shared + 16 * i + 10, ptx::ld_global_64(in + 16 * i + 10));
  for (unsigned j = 12; j < 16; ++j) ptx::st_shared_32(shared + 16 * i + j, ptx::ld_global_32(in + 16 * i + j));
  __syncthreads();
  const unsigned other = blockDim.x - 1 - i;
  ptx::st_global_128(out + 16 * i, ptx::ld_shared_128(shared + 16 * other));
  ptx::st_global_64(out + 16 * i + 4, ptx::ld_shared_64(shared + 16 * other + 4));
  ptx::st_global_64(out + 16 * i + 6, ptx::ld_shared_64(shared + 16 * other + 6));
  for (unsigned j = 8; j < 16; ++j) ptx::st_global_32(out + 16 * i + j, ptx::ld_shared_32(shared + 16 * other + j));
}

MOE_TEST(loads_and_stores_of_every_size_move_the_bytes) {
  alignas(16) std::array<unsigned, 16 * 40> in, out{};
  for (unsigned i = 0; i < in.size(); ++i) in[i] = i * 2654435761u;
  run(copy_kernel, 1, 40, sizeof in, with(2), in.data(), out.data());
  for (unsigned i = 0; i < in.size(); ++i) MOE_CHECK_EQUAL(out[i], in[(39 - i / 16) * 16 + i % 16]);
}

// Thread i copies its own three pieces in two groups and looks at shared memory after every step.
struct Seen {
  uint32_t after_issue, after_first_wait, second_group, after_last_wait, uncommitted;
};
__global__ void groups_kernel(const uint32_t* in, Seen* seen) {
  uint32_t* shared = ptx::dynamic_shared<uint32_t>() + 12 * threadIdx.x;
  const uint32_t* own = in + 12 * threadIdx.x;
  ptx::cp_async_16(shared, own);
  ptx::cp_async_commit();
  Seen& s = seen[threadIdx.x];
  s.after_issue = shared[3];
  ptx::cp_async_16(shared + 4, own + 4);
  ptx::cp_async_commit();
  ptx::cp_async_16(shared + 8, own + 8);
  ptx::cp_async_wait<1>();
  s.after_first_wait = shared[3];
  s.second_group = shared[7];
  ptx::cp_async_wait<0>();
  s.after_last_wait = shared[7];
  s.uncommitted = shared[11];
}

MOE_TEST(asynchronous_copies_arrive_at_the_wait_for_their_group_or_at_once) {
  alignas(16) std::array<uint32_t, 12 * 32> in;
  for (uint32_t i = 0; i < in.size(); ++i) in[i] = i;
  for (const AsyncMode mode : {AsyncMode::late, AsyncMode::early}) {
    std::array<Seen, 32> seen;
    run(groups_kernel, 1, 32, sizeof in, with(4, mode), in.data(), seen.data());
    for (uint32_t i = 0; i < 32; ++i) {
      const auto pending = [&](uint32_t value) { return mode == AsyncMode::late ? 0xffffffffu : value; };
      MOE_CHECK_EQUAL(seen[i].after_issue, pending(12 * i + 3));
      MOE_CHECK_EQUAL(seen[i].after_first_wait, 12 * i + 3);
      MOE_CHECK_EQUAL(seen[i].second_group, pending(12 * i + 7));
      MOE_CHECK_EQUAL(seen[i].after_last_wait, 12 * i + 7);
      // No wait covers a group that is still open.
      MOE_CHECK_EQUAL(seen[i].uncommitted, pending(12 * i + 11));
    }
  }
}

// What each lane sees behind the issue of its copies, for each of two seeds.
MOE_TEST(a_seed_draws_which_copies_arrive_at_once) {
  alignas(16) std::array<uint32_t, 12 * 32> in;
  for (uint32_t i = 0; i < in.size(); ++i) in[i] = i;
  const auto seen_with = [&](uint64_t seed) {
    std::array<Seen, 32> seen;
    run(groups_kernel, 1, 32, sizeof in, with(seed, AsyncMode::mixed), in.data(), seen.data());
    std::string at_once;
    for (uint32_t i = 0; i < 32; ++i) {
      MOE_CHECK(seen[i].after_issue == 0xffffffffu || seen[i].after_issue == 12 * i + 3);
      MOE_CHECK_EQUAL(seen[i].after_first_wait, 12 * i + 3);
      MOE_CHECK_EQUAL(seen[i].after_last_wait, 12 * i + 7);
      at_once += seen[i].after_issue == 12 * i + 3 ? '1' : '0';
      at_once += seen[i].uncommitted == 12 * i + 11 ? '1' : '0';
    }
    return at_once;
  };
  const std::string drawn = seen_with(4);
  MOE_CHECK(drawn.find('0') != std::string::npos && drawn.find('1') != std::string::npos);
  MOE_CHECK_EQUAL(seen_with(4), drawn);
  MOE_CHECK(seen_with(5) != drawn);
}

__global__ void zfill_kernel(const unsigned char* in, unsigned char* out) {
  unsigned char* shared = ptx::dynamic_shared<unsigned char>();
  const int n = static_cast<int>(threadIdx.x);
  ptx::cp_async_16_zfill(shared + 16 * n, in, n);
  ptx::cp_async_8_zfill(shared + 1024 + 8 * n, in, n < 8 ? n : 8);
  ptx::cp_async_4_zfill(shared + 2048 + 4 * n, in, n < 4 ? n : 4);
  ptx::cp_async_commit();
  ptx::cp_async_wait<0>();
  ptx::cp_async_16_or_zeros(shared + 3072 + 16 * n, in, n % 2 != 0);
  ptx::cp_async_commit();
  ptx::cp_async_wait<0>();
  for (int i = 0; i < 16; ++i) out[28 * 17 + 16 * n + i] = shared[3072 + 16 * n + i];
  for (int i = 0; i < 16; ++i) out[28 * n + i] = shared[16 * n + i];
  for (int i = 0; i < 8; ++i) out[28 * n + 16 + i] = shared[1024 + 8 * n + i];
  for (int i = 0; i < 4; ++i) out[28 * n + 24 + i] = shared[2048 + 4 * n + i];
}

MOE_TEST(asynchronous_copies_fill_up_with_zeros) {
  alignas(16) std::array<unsigned char, 16> in;
  for (unsigned i = 0; i < 16; ++i) in[i] = static_cast<unsigned char>(200 + i);
  for (const AsyncMode mode : kAsyncModes) {
    std::array<unsigned char, (28 + 16) * 17> out;
    run(zfill_kernel, 1, 17, 4096, with(1, mode), in.data(), out.data());
    for (unsigned n = 0; n <= 16; ++n) {
      const auto expected = [&](unsigned i, unsigned size) {
        return i < std::min(n, size) ? static_cast<int>(in[i]) : 0;
      };
      for (unsigned i = 0; i < 16; ++i) MOE_CHECK_EQUAL(static_cast<int>(out[28 * n + i]), expected(i, 16));
      for (unsigned i = 0; i < 16; ++i) {
        MOE_CHECK_EQUAL(static_cast<int>(out[28 * 17 + 16 * n + i]), n % 2 != 0 ? static_cast<int>(in[i]) : 0);
      }
      for (unsigned i = 0; i < 8; ++i) MOE_CHECK_EQUAL(static_cast<int>(out[28 * n + 16 + i]), expected(i, 8));
      for (unsigned i = 0; i < 4; ++i) MOE_CHECK_EQUAL(static_cast<int>(out[28 * n + 24 + i]), expected(i, 4));
    }
  }
}

MOE_KERNEL(bounded_kernel, (64, 2), int* out, int value) { out[threadIdx.x] = value; }

MOE_TEST(blocks_stay_within_their_kernels_bounds) {
  std::array<int, 128> out{};
  Gpu gpu(with(1));
  MOE_CHECK(launch("bounded", bounded_kernel, 1, 64, 0, &gpu, out.data(), 7).ok());
  MOE_CHECK_EQUAL(out[63], 7);
  MOE_CHECK(says(launch("bounded", bounded_kernel, 1, {16, 8}, 0, &gpu, out.data(), 8),
                 {"launch of bounded", "at most 64 threads", "it has 128"}));
  MOE_CHECK_EQUAL(out[0], 7);
}

__global__ void mark_kernel(int* out) { *out = 7; }

MOE_TEST(a_kernel_must_be_ready_before_it_is_recorded) {
  int out = 0;
  Gpu gpu(with(1));
  Recording recording;
  MOE_CHECK(
      says(launch("mark", mark_kernel, 1, 1, 0, {&gpu, &recording}, &out), {"launch of mark", "a GPU would load"}));
  MOE_CHECK(launch("mark", mark_kernel, 1, 1, 0, {&gpu, nullptr, true}, &out).ok());
  MOE_CHECK(launch("mark", mark_kernel, 1, 1, 0, {&gpu, &recording}, &out).ok());
  MOE_CHECK_EQUAL(recording.size(), 1u);
  MOE_CHECK_EQUAL(out, 0);
  MOE_CHECK(gpu.launch(recording[0].launch).ok());
  MOE_CHECK_EQUAL(out, 7);
}

// With source_bytes 0, or where it does not exist, the source is not read: it may be anything.
__global__ void unread_kernel(uint32_t* out) {
  uint32_t* shared = ptx::dynamic_shared<uint32_t>();
  ptx::cp_async_16_zfill(shared, nullptr, 0);
  ptx::cp_async_16_or_zeros(shared + 4, nullptr, false);
  ptx::cp_async_commit();
  ptx::cp_async_wait<0>();
  *out = shared[0] | shared[3] | shared[4] | shared[7];
}

MOE_TEST(an_empty_source_is_not_read) {
  uint32_t out = 1;
  run(unread_kernel, 1, 1, 32, with(1), &out);
  MOE_CHECK_EQUAL(out, 0u);
}

MOE_TEST(conversions_round_to_nearest_even) {
  MOE_CHECK_EQUAL(ptx::cvt_f32_f16(0x3c01), 1.0f + 0x1p-10f);
  MOE_CHECK_EQUAL(ptx::cvt_f32_f16(0x0001), 0x1p-24f);
  MOE_CHECK_EQUAL(ptx::cvt_f32_f16(0xfc00), -INFINITY);
  MOE_CHECK_EQUAL(ptx::cvt_rn_f16_f32(1.0f + 0x1p-11f), 0x3c00);
  MOE_CHECK_EQUAL(ptx::cvt_rn_f16_f32(1.0f + 3 * 0x1p-11f), 0x3c02);
  MOE_CHECK_EQUAL(ptx::cvt_rn_f16_f32(65520.0f), 0x7c00);
  MOE_CHECK_EQUAL(ptx::cvt_rn_bf16_f32(1.0f + 0x1p-8f), 0x3f80);
  MOE_CHECK_EQUAL(ptx::cvt_rn_bf16_f32(1.0f + 3 * 0x1p-8f), 0x3f82);
}

// Rows of `pitch` words; each lane takes `Words` of them in one access.
template <int kWords>
__global__ void strided_kernel(int pitch) {
  const float* word = ptx::dynamic_shared<float>() + static_cast<int>(threadIdx.x) * pitch;
  if constexpr (kWords == 1) ptx::ld_shared_32(word);
  if constexpr (kWords == 2) ptx::ld_shared_64(word);
  if constexpr (kWords == 4) ptx::ld_shared_128(word);
}

MOE_TEST(bank_conflicts_are_counted) {
  Options options = with(1);
  options.bank_conflicts = true;
  Gpu gpu(options);
  const auto extra = [&](void (*kernel)(int), unsigned threads, int pitch) {
    MOE_CHECK(launch("strided", kernel, 1, threads, 40 << 10, &gpu, pitch).ok());
    machine::ConflictCount total;
    for (const auto& [call, count] : gpu.bank_conflicts()) {
      MOE_CHECK(call.find("ld_shared_") == 0);
      total.accesses += count.accesses;
      total.extra += count.extra;
    }
    MOE_CHECK_EQUAL(total.accesses, (threads + 31) / 32);
    return total.extra;
  };
  MOE_CHECK_EQUAL(extra(strided_kernel<1>, 32, 0), 0u);
  MOE_CHECK_EQUAL(extra(strided_kernel<1>, 32, 1), 0u);
  MOE_CHECK_EQUAL(extra(strided_kernel<1>, 32, 33), 0u);
  MOE_CHECK_EQUAL(extra(strided_kernel<1>, 32, 2), 1u);
  MOE_CHECK_EQUAL(extra(strided_kernel<1>, 64, 32), 62u);
  MOE_CHECK_EQUAL(extra(strided_kernel<1>, 8, 32), 7u);
  MOE_CHECK_EQUAL(extra(strided_kernel<2>, 32, 2), 0u);
  MOE_CHECK_EQUAL(extra(strided_kernel<2>, 32, 4), 2u);
  MOE_CHECK_EQUAL(extra(strided_kernel<4>, 32, 4), 0u);
  MOE_CHECK_EQUAL(extra(strided_kernel<4>, 32, 32), 28u);
  MOE_CHECK_EQUAL(extra(strided_kernel<4>, 32, 36), 0u);
  const std::string text = machine::conflicts_text("strided", {{"ld_shared_32 (a.cu:1)", {8, 3}}, {"b", {1, 0}}});
  MOE_CHECK_EQUAL(text,
                  "strided: 9 accesses to shared memory, 3 passes more than without bank conflicts: ld_shared_32 "
                  "(a.cu:1) 3");
}

MOE_TEST(variables_set_seed_and_mode_and_nonsense_is_rejected) {
  Options options = with(77, AsyncMode::early);
  const auto read = [&options](const Variables& variables) { return read_variables(variables, &options); };
  MOE_CHECK(read({}).ok());
  MOE_CHECK_EQUAL(describe(options), "MOE_SIMT_SEED=77 MOE_SIMT_ASYNC=early");
  MOE_CHECK(read({{{"MOE_SIMT_SEED", "18446744073709551615"}, {"MOE_SIMT_ASYNC", "late"}}}).ok());
  MOE_CHECK_EQUAL(describe(options), "MOE_SIMT_SEED=18446744073709551615 MOE_SIMT_ASYNC=late");
  for (const char* seed : {"", "-1", "1x", "18446744073709551616"}) {
    MOE_CHECK(says(read({{{"MOE_SIMT_SEED", seed}}}), {"MOE_SIMT_SEED", seed}));
  }
  MOE_CHECK(says(read({{{"MOE_SIMT_ASYNC", "later"}}}), {"MOE_SIMT_ASYNC", "late, early or mixed", "later"}));
  MOE_CHECK(read({{{"MOE_SIMT_SEED", "2"}, {"MOE_SIMT_ASYNC", "mixed"}}}).ok());
  MOE_CHECK_EQUAL(describe(options), "MOE_SIMT_SEED=2 MOE_SIMT_ASYNC=mixed");
  options.async = AsyncMode::late;
  MOE_CHECK(read({{{"MOE_SIMT_SEED", "1"}, {"MOE_SIMT_STREAM", "late"}}}).ok() && options.late_work);
  MOE_CHECK_EQUAL(describe(options), "MOE_SIMT_SEED=1 MOE_SIMT_ASYNC=late MOE_SIMT_STREAM=late");
  MOE_CHECK(says(read({{{"MOE_SIMT_STREAM", "soon"}}}), {"MOE_SIMT_STREAM", "now or late", "soon"}));
}

}  // namespace

}  // namespace moe::simt::test
