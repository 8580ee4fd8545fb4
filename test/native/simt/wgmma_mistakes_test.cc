// Kernels with one mistake each around wgmma are reported, or have NaN for results.
#include <cmath>
#include <vector>

#include "gpu/tile/swizzle.cuh"
#include "ptx/cp_async.cuh"
#include "ptx/ld_st.cuh"
#include "ptx/wgmma.cuh"
#include "run.h"

namespace moe::simt::test {

namespace {

void multiply(float (&sums)[16][4], const char* a, const char* b) {
  ptx::wgmma_k16_bf16<128>(sums, ptx::wgmma_descriptor(a), ptx::wgmma_descriptor(b));
}

// A matrix of ones, multiplied by itself once.
enum class Mistake {
  none,
  no_fence,
  no_proxy_fence,
  no_barrier_behind_proxy_fence,
  store_behind_proxy_fence,
  plain_store,
  no_copy_wait,
  no_wait,
  early_read,
  early_write,
  no_keep,
  late_keep,
  fragment_write_behind_keep,
  early_fragment_write,
  unaligned,
  unaligned_base,
  one_warp_more
};

constexpr bool takes_fragment(Mistake mistake) {
  return mistake >= Mistake::no_keep && mistake <= Mistake::early_fragment_write;
}

// By three warps, which are no warpgroup.
__global__ void three_warps_kernel(float* d) {
  float sums[16][4] = {};
  const char* shared = ptx::dynamic_shared<char>();
  ptx::wgmma_fence();
  multiply(sums, shared, shared);
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>();
  d[threadIdx.x] = sums[0][0];
}

// Counts threads in a number that is 0. No barrier: what they have written need not be visible.
void wait_for_all(float* count) {
  atomicAdd(count, 1.0f);
  while (atomicAdd(count, 0.0f) < static_cast<float>(machine::block_size())) {
  }
}

template <Mistake mistake>
__global__ void mistaken_kernel(const bf16* ones, float* d) {
  char* shared = ptx::dynamic_shared<char>();
  for (int i = static_cast<int>(threadIdx.x); i < 128 * 8; i += 128) {
    ptx::cp_async_16(shared + swizzled_offset(i / 8, i % 8), ones + i * 8);
  }
  ptx::cp_async_commit();
  if (mistake != Mistake::no_copy_wait) ptx::cp_async_wait<0>();
  if (mistake == Mistake::no_barrier_behind_proxy_fence) {
    __syncthreads();
    ptx::fence_proxy_async();
    wait_for_all(d);
  } else {
    if (mistake != Mistake::no_proxy_fence) ptx::fence_proxy_async();
    __syncthreads();
  }
  if (mistake == Mistake::store_behind_proxy_fence) {
    if (threadIdx.x == 5) ptx::st_shared_32(shared, 0x3f803f80);
    __syncthreads();
  }
  if (mistake == Mistake::plain_store) {
    if (threadIdx.x == 5) reinterpret_cast<uint32_t*>(shared)[3] = 0x40004000;
    ptx::fence_proxy_async();
    __syncthreads();
  }
  ptx::wgmma_check_base(shared + (mistake == Mistake::unaligned_base ? 512 : 0));
  float sums[16][4] = {};
  uint32_t fragment[4] = {};
  if (mistake != Mistake::no_keep && mistake != Mistake::late_keep) ptx::wgmma_keep(fragment);
  if (mistake != Mistake::no_fence) ptx::wgmma_fence();
  if (mistake == Mistake::late_keep) ptx::wgmma_keep(fragment);
  if (mistake == Mistake::fragment_write_behind_keep) fragment[1] = 1;
  const char* a = shared + (mistake == Mistake::unaligned ? 128 : 0);
  if (takes_fragment(mistake)) {
    ptx::wgmma_k16_bf16<128>(sums, fragment, ptx::wgmma_descriptor(shared), true);
  } else {
    multiply(sums, a, shared);
  }
  fragment[2] = 1;
  if (mistake == Mistake::early_write) sums[3][1] = 1;
  if (mistake == Mistake::early_write) multiply(sums, a, shared);
  if (mistake == Mistake::one_warp_more && threadIdx.x / 32 == 3) multiply(sums, a, shared);
  ptx::wgmma_commit();
  float sum = sums[0][0];
  if (mistake != Mistake::no_wait) ptx::wgmma_wait<0>();
  if (mistake != Mistake::early_read) sum = sums[0][0];
  d[threadIdx.x] = sum;
}

template <Mistake mistake>
Status run_mistake(const Options& options, std::vector<float>* d) {
  const std::vector<bf16> ones(128 * 64, bf16(1.0f));
  d->assign(128, 0);
  Gpu gpu(options);
  return launch("kernel", mistaken_kernel<mistake>, 1, 128, 128 * 128, &gpu, ones.data(), d->data());
}

template <Mistake mistake>
void check_reported(std::initializer_list<const char*> words) {
  for (const AsyncMode mode : kAsyncModes) {
    std::vector<float> d;
    MOE_CHECK(says(run_mistake<mistake>(with(3, mode), &d), words));
  }
}

MOE_TEST(mistakes_around_wgmma_are_reported) {
  check_reported<Mistake::no_fence>({"wgmma_k16_bf16", "no wgmma_fence"});
  check_reported<Mistake::no_proxy_fence>({"wgmma_k16_bf16", "no fence_proxy_async"});
  check_reported<Mistake::no_barrier_behind_proxy_fence>(
      {"wgmma_k16_bf16", "reads what thread", "no barrier has come since that fence"});
  check_reported<Mistake::store_behind_proxy_fence>(
      {"wgmma_k16_bf16", "reads what thread 5 wrote", "no fence_proxy_async"});
  check_reported<Mistake::plain_store>({"wgmma_k16_bf16", "stored by no function of ptx/", "st_shared_32"});
  check_reported<Mistake::no_copy_wait>({"wgmma_k16_bf16", "copies and has not waited for"});
  check_reported<Mistake::no_wait>({"wgmma_k16_bf16", "exits", "not waited for this product"});
  check_reported<Mistake::early_write>({"wgmma_k16_bf16", "the sums changed"});
  check_reported<Mistake::no_keep>({"wgmma_k16_bf16", "the registers of A must be kept"});
  check_reported<Mistake::late_keep>({"wgmma_k16_bf16", "the registers of A must be kept"});
  check_reported<Mistake::fragment_write_behind_keep>({"wgmma_k16_bf16", "the registers of A must be kept"});
  check_reported<Mistake::early_fragment_write>({"wgmma_k16_bf16", "the registers of A changed"});
  check_reported<Mistake::unaligned>({"wgmma_k16_bf16", "a multiple of 1024"});
  check_reported<Mistake::unaligned_base>({"wgmma_check_base", "a multiple of 1024 bytes, it is 512 past one"});
  check_reported<Mistake::one_warp_more>({"warp 3", "other wgmma calls than warp 0"});
}

MOE_TEST(products_of_warps_without_a_warpgroup_are_reported) {
  std::vector<float> d(96);
  Gpu gpu(with(1));
  MOE_CHECK(says(launch("kernel", three_warps_kernel, 1, 96, 128 * 128, &gpu, d.data()),
                 {"warp 0", "its warpgroup lacks warps", "96 threads"}));
}

MOE_TEST(sums_are_nan_until_the_wait) {
  for (const AsyncMode mode : kAsyncModes) {
    std::vector<float> d;
    MOE_CHECK_EQUAL(run_mistake<Mistake::none>(with(1, mode), &d).message, "");
    for (const float sum : d) MOE_CHECK_EQUAL(sum, 16.0f);
    MOE_CHECK_EQUAL(run_mistake<Mistake::early_read>(with(1, mode), &d).message, "");
    for (const float sum : d) MOE_CHECK(std::isnan(sum));
  }
}

}  // namespace

}  // namespace moe::simt::test
