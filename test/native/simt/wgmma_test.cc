// wgmma: sums of products against plain loops over whole matrices.
#include <cmath>
#include <vector>

#include "gpu/tile/swizzle.cuh"
#include "ptx/cp_async.cuh"
#include "ptx/wgmma.cuh"
#include "run.h"

namespace moe::simt::test {

namespace {

constexpr int kRowElements = 64, kSteps = 4, kGroupRows = 64;

template <class T, int kColumns>
void multiply(float (&sums)[kColumns / 8][4], const char* a, const char* b) {
  const uint64_t left = ptx::wgmma_descriptor(a), right = ptx::wgmma_descriptor(b);
  if constexpr (std::is_same_v<T, bf16>) {
    ptx::wgmma_k16_bf16<kColumns>(sums, left, right);
  } else {
    ptx::wgmma_k16_f16<kColumns>(sums, left, right);
  }
}

// Each warpgroup multiplies its 64 rows of a by all rows of b: rows of 64 elements, row after row.
template <class T, int kColumns>
__global__ void wgmma_kernel(const T* a, const T* b, float* d) {
  char* shared = ptx::dynamic_shared<char>();
  const int rows = static_cast<int>(blockDim.x) / 128 * kGroupRows;
  for (int i = static_cast<int>(threadIdx.x); i < (rows + kColumns) * 8; i += static_cast<int>(blockDim.x)) {
    const int row = i / 8, chunk = i % 8;
    const T* source = (row < rows ? a + row * kRowElements : b + (row - rows) * kRowElements) + chunk * 8;
    ptx::cp_async_16(shared + swizzled_offset(row, chunk), source);
  }
  ptx::cp_async_commit();
  ptx::cp_async_wait<0>();
  ptx::fence_proxy_async();
  __syncthreads();
  float sums[kColumns / 8][4];
  for (auto& four : sums) {
    for (float& sum : four) sum = 0.5f;
  }
  const int group = static_cast<int>(threadIdx.x) / 128, lane = static_cast<int>(threadIdx.x) % 32;
  ptx::wgmma_fence();
  for (int step = 0; step < kSteps; ++step) {
    multiply<T, kColumns>(sums, shared + group * kGroupRows * 128 + step * 32, shared + rows * 128 + step * 32);
    ptx::wgmma_commit();
  }
  ptx::wgmma_wait<0>();
  const int warp_row = static_cast<int>(threadIdx.x) / 32 * 16;
  for (int n = 0; n < kColumns / 8; ++n) {
    for (int i = 0; i < 4; ++i) {
      d[(warp_row + lane / 4 + i / 2 * 8) * kColumns + n * 8 + lane % 4 * 2 + i % 2] = sums[n][i];
    }
  }
}

template <class T, int kColumns>
void check_products(int groups) {
  const int rows = groups * kGroupRows;
  uint32_t state = 7;
  const auto number = [&] { return static_cast<float>((state = state * 1664525u + 1013904223u) >> 22) / 256 - 2; };
  std::vector<T> a(static_cast<size_t>(rows * kRowElements)), b(static_cast<size_t>(kColumns * kRowElements));
  for (T& element : a) element = T(number());
  for (T& element : b) element = T(number());
  for (const AsyncMode mode : {AsyncMode::late, AsyncMode::early}) {
    for (uint64_t seed = 0; seed < 2; ++seed) {
      std::vector<float> d(static_cast<size_t>(rows * kColumns), NAN);
      const auto bytes = static_cast<size_t>((rows + kColumns) * 128);
      run(wgmma_kernel<T, kColumns>, 1, static_cast<unsigned>(groups * 128), bytes, with(seed, mode), a.data(),
          b.data(), d.data());
      for (int row = 0; row < rows; ++row) {
        for (int column = 0; column < kColumns; ++column) {
          double sum = 0.5;
          for (int k = 0; k < kRowElements; ++k) {
            sum += static_cast<double>(static_cast<float>(a[static_cast<size_t>(row * kRowElements + k)])) *
                   static_cast<double>(static_cast<float>(b[static_cast<size_t>(column * kRowElements + k)]));
          }
          MOE_CHECK(std::abs(d[static_cast<size_t>(row * kColumns + column)] - sum) < 1e-4);
        }
      }
    }
  }
}

MOE_TEST(wgmma_multiplies_the_rows_of_two_matrices) {
  check_products<bf16, 128>(1);
  check_products<bf16, 256>(2);
  check_products<f16, 128>(2);
  check_products<f16, 256>(1);
}

}  // namespace

}  // namespace moe::simt::test
