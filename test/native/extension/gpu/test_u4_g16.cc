#include "extension/gpu/test_u4_g16.h"

#include "extension/core/formats.h"
#include "gpu/gemm/fma.h"
#include "gpu/gemm/kernels.h"
#include "gpu/plan/plan_parts.h"

namespace moe::gpu {
namespace {

PackedMatrix measure(const ExpertProduct& product) {
  const int64_t rows = packed_rows(product);
  const int64_t groups = test_u4_g16_groups(product.columns);
  // Whole groups, of 8 bytes each, which are also whole stages of the kernel.
  const int64_t pitch = groups * kTestU4G16Group / 2;
  static_assert(kFmaDepth == kTestU4G16Group);
  const int64_t scales = rows * pitch;
  const int64_t zeros = scales + rows * groups * static_cast<int64_t>(sizeof(float));
  return {.rows = rows, .pitch = pitch, .scales = scales, .zeros = zeros, .bytes = round_up(zeros + rows * groups, 16)};
}

}  // namespace

constexpr WeightLayout kTestU4G16Layout{.id = "test_u4_g16", .measure = measure};
constexpr GemmKernel kFmaTestU4G16 = fma_row("fma_test_u4_g16", kOnly<kTestU4G16Format>, kTestU4G16Layout);

}  // namespace moe::gpu
