// wgmma: sums of products against plain loops over whole matrices.
#include <cmath>
#include <cstring>
#include <type_traits>
#include <vector>

#include "core/formats/dequantize.h"
#include "core/formats/quantize.h"
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

// Waits for the copies of all threads, and makes them visible to products.
__device__ void arrive() {
  ptx::cp_async_commit();
  ptx::cp_async_wait<0>();
  ptx::fence_proxy_async();
  __syncthreads();
}

// d [rows of all warps, kTiles * 8]
template <class Sum, int kTiles>
__device__ void store(const Sum (&sums)[kTiles][4], Sum* d) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp_row = static_cast<int>(threadIdx.x) / 32 * 16;
  for (int n = 0; n < kTiles; ++n) {
    for (int i = 0; i < 4; ++i) {
      d[(warp_row + lane / 4 + i / 2 * 8) * kTiles * 8 + n * 8 + lane % 4 * 2 + i % 2] = sums[n][i];
    }
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
  arrive();
  float sums[kColumns / 8][4];
  for (auto& four : sums) {
    for (float& sum : four) sum = 0.5f;
  }
  const int group = static_cast<int>(threadIdx.x) / 128;
  ptx::wgmma_fence();
  for (int step = 0; step < kSteps; ++step) {
    multiply<T, kColumns>(sums, shared + group * kGroupRows * 128 + step * 32, shared + rows * 128 + step * 32);
    ptx::wgmma_commit();
  }
  ptx::wgmma_wait<0>();
  store(sums, d);
}

template <class T, int kColumns>
void check_products(int groups) {
  const int rows = groups * kGroupRows;
  uint32_t state = 7;
  const auto number = [&] { return static_cast<float>((state = state * 1664525u + 1013904223u) >> 22) / 256 - 2; };
  std::vector<T> a(static_cast<size_t>(rows * kRowElements)), b(static_cast<size_t>(kColumns * kRowElements));
  for (T& element : a) element = T(number());
  for (T& element : b) element = T(number());
  for (const AsyncMode mode : kAsyncModes) {
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

// A's fragments of one step: row after row of 32 bytes, as in mma.cuh.
__device__ void load_fragment(const char* a, uint32_t (&fragment)[4]) {
  const int lane = static_cast<int>(threadIdx.x) % 32, first = static_cast<int>(threadIdx.x) / 32 * 16;
  for (int r = 0; r < 4; ++r) {
    const int row = first + lane / 4 + 8 * (r % 2), byte = 4 * (lane % 4) + 16 * (r / 2);
    memcpy(&fragment[r], a + row * 32 + byte, sizeof(uint32_t));
  }
}

struct Fp8 {
  uint8_t bits;
  operator float() const { return from_e4m3(bits); }
};

template <class Element>
using SumOf = std::conditional_t<std::is_same_v<Element, int8_t>, int32_t, float>;

template <int kColumns>
void multiply(float (&d)[kColumns / 8][4], const uint32_t (&a)[4], uint64_t b, bool adds, bf16) {
  ptx::wgmma_k16_bf16<kColumns>(d, a, b, adds);
}
template <int kColumns>
void multiply(float (&d)[kColumns / 8][4], const uint32_t (&a)[4], uint64_t b, bool adds, f16) {
  ptx::wgmma_k16_f16<kColumns>(d, a, b, adds);
}
template <int kColumns>
void multiply(int32_t (&d)[kColumns / 8][4], const uint32_t (&a)[4], uint64_t b, bool adds, int8_t) {
  ptx::wgmma_k32_s8<kColumns>(d, a, b, adds);
}
template <int kColumns>
void multiply(float (&d)[kColumns / 8][4], const uint32_t (&a)[4], uint64_t b, bool adds, Fp8) {
  ptx::wgmma_k32_e4m3<kColumns>(d, a, b, adds);
}

// Two steps: the first replaces the sums, the second adds to them, from the second 32 bytes of b's rows.
template <class Element, int kColumns>
__global__ void wgmma_registers_kernel(const char* a, const char* b, SumOf<Element>* d) {
  constexpr int kRowBytes = kRowElements * static_cast<int>(sizeof(Element)), kChunks = kRowBytes / 16;
  char* shared = ptx::dynamic_shared<char>();
  for (int i = static_cast<int>(threadIdx.x); i < kColumns * kChunks; i += 128) {
    ptx::cp_async_16(shared + swizzled_offset<kRowBytes>(i / kChunks, i % kChunks), b + i * 16);
  }
  arrive();
  SumOf<Element> sums[kColumns / 8][4];
  for (auto& four : sums) {
    for (auto& sum : four) sum = 77;
  }
  uint32_t fragments[2][4];
  for (int step = 0; step < 2; ++step) load_fragment(a + step * 64 * 32, fragments[step]);
  const uint64_t rows = ptx::wgmma_descriptor<kRowBytes>(shared);
  ptx::wgmma_keep(fragments);
  ptx::wgmma_fence();
  for (int step = 0; step < 2; ++step) {
    multiply<kColumns>(sums, fragments[step], ptx::wgmma_descriptor_at(rows, step * 32), step > 0, Element{});
  }
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>();
  store(sums, d);
}

template <class Element, int kColumns>
void check_registers() {
  constexpr int kStepElements = 32 / static_cast<int>(sizeof(Element));
  uint32_t state = 11;
  // Multiples of 1/4 below 2 or integers: sums are exact in every type.
  const auto number = [&]() -> Element {
    const int drawn = static_cast<int>((state = state * 1664525u + 1013904223u) >> 28) - 8;
    if constexpr (std::is_same_v<Element, Fp8>) {
      return {static_cast<uint8_t>(to_e4m3(static_cast<float>(drawn) / 4))};
    } else if constexpr (std::is_same_v<Element, int8_t>) {
      return static_cast<int8_t>(drawn * 15);
    } else {
      return Element(static_cast<float>(drawn) / 4);
    }
  };
  std::vector<Element> a(2 * 64 * kStepElements), b(static_cast<size_t>(kColumns * kRowElements));
  for (Element& element : a) element = number();
  for (Element& element : b) element = number();
  const auto value = [](Element element) { return static_cast<double>(static_cast<float>(element)); };
  for (const AsyncMode mode : kAsyncModes) {
    std::vector<SumOf<Element>> d(64 * kColumns, 99);
    run(wgmma_registers_kernel<Element, kColumns>, 1, 128, b.size() * sizeof(Element), with(1, mode),
        reinterpret_cast<const char*>(a.data()), reinterpret_cast<const char*>(b.data()), d.data());
    for (int row = 0; row < 64; ++row) {
      for (int column = 0; column < kColumns; ++column) {
        double sum = 0;
        for (int k = 0; k < 2 * kStepElements; ++k) {
          const int step = k / kStepElements;
          sum += value(a[static_cast<size_t>((step * 64 + row) * kStepElements + k % kStepElements)]) *
                 value(b[static_cast<size_t>(column * kRowElements + k)]);
        }
        MOE_CHECK_EQUAL(static_cast<double>(d[static_cast<size_t>(row * kColumns + column)]), sum);
      }
    }
  }
}

template <class Element>
void check_registers_of() {
  check_registers<Element, 16>();
  check_registers<Element, 64>();
  check_registers<Element, 128>();
}

MOE_TEST(wgmma_takes_one_matrix_from_registers) {
  check_registers_of<bf16>();
  check_registers_of<f16>();
  check_registers_of<int8_t>();
  check_registers_of<Fp8>();
}

// Products of columns: rows of a have 64 elements for each warpgroup, those of b kColumns, and count along K.
template <class T, int kColumns>
__global__ void wgmma_panels_kernel(const T* a, const T* b, float* d) {
  constexpr int kDepth = 32, kPanelBytes = kDepth * 128;
  char* shared = ptx::dynamic_shared<char>();
  const int groups = static_cast<int>(blockDim.x) / 128, a_columns = groups * 64, columns = a_columns + kColumns;
  for (int i = static_cast<int>(threadIdx.x); i < kDepth * columns / 8; i += static_cast<int>(blockDim.x)) {
    const int k = i / (columns / 8), column = i % (columns / 8) * 8;
    const T* source = column < a_columns ? a + k * a_columns + column : b + k * kColumns + column - a_columns;
    ptx::cp_async_16(shared + column / 64 * kPanelBytes + swizzled_offset(k, column % 64 / 8), source);
  }
  arrive();
  float sums[kColumns / 8][4] = {};
  const int group = static_cast<int>(threadIdx.x) / 128;
  const uint64_t left = ptx::wgmma_panel_descriptor(shared + group * kPanelBytes, kPanelBytes);
  const uint64_t right = ptx::wgmma_panel_descriptor(shared + groups * kPanelBytes, kPanelBytes);
  ptx::wgmma_fence();
  for (int step = 0; step < kDepth / 16; ++step) {
    const uint64_t of_a = ptx::wgmma_descriptor_at(left, step * 16 * 128);
    const uint64_t of_b = ptx::wgmma_descriptor_at(right, step * 16 * 128);
    if constexpr (std::is_same_v<T, bf16>) {
      ptx::wgmma_k16_bf16_panels<kColumns>(sums, of_a, of_b);
    } else {
      ptx::wgmma_k16_f16_panels<kColumns>(sums, of_a, of_b);
    }
  }
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>();
  store(sums, d);
}

template <class T, int kColumns>
void check_panels(int groups) {
  constexpr int kDepth = 32;
  const int rows = groups * 64;
  uint32_t state = 5;
  const auto number = [&] { return static_cast<float>((state = state * 1664525u + 1013904223u) >> 28) / 4 - 2; };
  std::vector<T> a(static_cast<size_t>(kDepth * rows)), b(static_cast<size_t>(kDepth * kColumns));
  for (T& element : a) element = T(number());
  for (T& element : b) element = T(number());
  for (const AsyncMode mode : kAsyncModes) {
    std::vector<float> d(static_cast<size_t>(rows * kColumns), NAN);
    run(wgmma_panels_kernel<T, kColumns>, 1, static_cast<unsigned>(groups * 128),
        static_cast<size_t>((rows + kColumns) * kDepth * 2), with(2, mode), a.data(), b.data(), d.data());
    for (int row = 0; row < rows; ++row) {
      for (int column = 0; column < kColumns; ++column) {
        float sum = 0;
        for (int k = 0; k < kDepth; ++k) {
          sum += static_cast<float>(a[static_cast<size_t>(k * rows + row)]) *
                 static_cast<float>(b[static_cast<size_t>(k * kColumns + column)]);
        }
        MOE_CHECK_EQUAL(d[static_cast<size_t>(row * kColumns + column)], sum);
      }
    }
  }
}

MOE_TEST(wgmma_multiplies_the_columns_of_two_matrices) {
  check_panels<bf16, 64>(1);
  check_panels<bf16, 128>(2);
  check_panels<f16, 192>(3);
}

MOE_TEST(wgmma_multiplies_the_rows_of_two_matrices) {
  check_products<bf16, 128>(1);
  check_products<bf16, 256>(2);
  check_products<f16, 128>(2);
  check_products<f16, 256>(1);
}

}  // namespace

}  // namespace moe::simt::test
