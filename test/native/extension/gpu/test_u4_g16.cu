#include "extension/gpu/test_u4_g16.h"

#include "core/formats/dequantize.h"
#include "extension/core/formats.h"
#include "gpu/gemm/fma.cuh"
#include "gpu/plan/plan.h"
#include "gpu/tile/interleave.h"
#include "gpu/tile/loops.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

using gpu::kTestU4G16Group;

struct Weights {
  struct Row {
    const char* codes;
    const float* scales;
    const uint8_t* zeros;
  };
  struct Run {
    uint32_t codes;
    float scale;
    uint8_t zero;
  };

  __device__ static Row row(const GemmArguments& a, int place, int64_t row) {
    const char* packed = packed_matrix(a, place);
    const int64_t first = row * gpu::test_u4_g16_groups(a.columns);
    return {packed + row * a.packed.pitch, reinterpret_cast<const float*>(packed + a.packed.scales) + first,
            reinterpret_cast<const uint8_t*>(packed + a.packed.zeros) + first};
  }
  __device__ static void load(const Row& row, int k, Run& run) {
    run.codes = ptx::ld_global_32(row.codes + k / 2);
    run.scale = row.scales[k / kTestU4G16Group];
    run.zero = row.zeros[k / kTestU4G16Group];
  }
  __device__ static void convert(const Row&, const Run& run, float (&values)[kFmaRun]) {
#pragma unroll
    for (int i = 0; i < kFmaRun; ++i) {
      const int code = static_cast<int>(run.codes >> (4 * i) & 15u);
      values[i] = static_cast<float>(code - run.zero) * run.scale;
    }
  }
};

struct Arguments {
  WeightFormat format;
  WeightView weight, up;
  gpu::PackedMatrix packed;
  int64_t columns;
  char* data;
};

// Elements outside a matrix become zeros: codes equal to their group's zero point.
__device__ uint32_t packed_code(const Arguments& a, const WeightView& source, int64_t row, int64_t column) {
  if (row >= source.rows || column / kTestU4G16Group * kTestU4G16Group >= source.columns) return 0;
  if (column < source.columns) return code_bits(a.format, source.codes, row, column);
  return static_cast<uint32_t>(zero_point(a.format, source, row, column));
}

// One warp per packed row.
MOE_KERNEL(pack_test_u4_g16_kernel, (gpu::kRowThreads), const Arguments a) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int64_t groups = gpu::test_u4_g16_groups(a.columns);
  for_each_row(a.packed.rows, [&](int64_t row) {
    const gpu::PackedRow place = gpu::unpack_row(row, a.up.rows > 0);
    const WeightView& source = place.up ? a.up : a.weight;
    for (int64_t i = lane; i < a.packed.pitch; i += 32) {
      const uint32_t low = packed_code(a, source, place.column, 2 * i);
      const uint32_t high = packed_code(a, source, place.column, 2 * i + 1);
      a.data[row * a.packed.pitch + i] = static_cast<char>(low | high << 4);
    }
    auto* scales = reinterpret_cast<float*>(a.data + a.packed.scales) + row * groups;
    auto* zeros = reinterpret_cast<uint8_t*>(a.data + a.packed.zeros) + row * groups;
    for (int64_t group = lane; group < groups; group += 32) {
      const int64_t column = group * kTestU4G16Group;
      const bool exists = place.column < source.rows && column < source.columns;
      scales[group] = exists ? group_scale(a.format, source, place.column, column) : 0.0f;
      zeros[group] = exists ? static_cast<uint8_t>(zero_point(a.format, source, place.column, column)) : uint8_t{0};
    }
  });
}

Status pack(const PackExpert& p, Runtime& runtime) {
  MOE_TRY(check_same_format(p));
  const Arguments arguments{.format = *p.product.format,
                            .weight = p.weight,
                            .up = p.up,
                            .packed = p.packed,
                            .columns = p.product.columns,
                            .data = static_cast<char*>(p.data)};
  return launch("pack_test_u4_g16", pack_test_u4_g16_kernel, dim3(gpu::row_grid(p.packed.rows, runtime.traits())),
                dim3(gpu::kRowThreads), 0, runtime.stream(), arguments);
}

}  // namespace

const GemmFunctions kFmaTestU4G16{.launch = launch_fma<Weights>, .pack = pack};

}  // namespace moe::MOE_GPU_NAMESPACE
