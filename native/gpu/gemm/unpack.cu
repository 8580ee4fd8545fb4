#include "gpu/gemm/unpack.cuh"

#include <ptx/launch.cuh>

#include "gpu/plan/plan.h"
#include "gpu/tile/dispatch.h"
#include "gpu/tile/element.cuh"
#include "gpu/tile/interleave.h"
#include "gpu/tile/loops.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

struct Arguments {
  const void* packed;
  int64_t pitch;
  bool gated, up;
  void* target;
  int64_t rows, columns;
};

// One warp per row.
template <class From, class To>
MOE_KERNEL(unpack_rows_kernel, (gpu::kRowThreads), const Arguments a) {
  for_each_row(a.rows, [&](int64_t row) {
    const From* packed = static_cast<const From*>(a.packed) + gpu::packed_row(row, a.gated, a.up) * a.pitch;
    To* target = static_cast<To*>(a.target) + row * a.columns;
    for (int64_t column = threadIdx.x % 32; column < a.columns; column += 32) {
      target[column] = from_float<To>(to_float(packed[column]));
    }
  });
}

}  // namespace

Status launch_unpack_rows(const PackedRows& packed, bool gated, bool up, const TensorView& target,
                          const gpu::DeviceTraits& traits, Stream stream) {
  const int64_t columns = target.shape[target.rank - 1];
  const int64_t rows = columns == 0 ? 0 : target.size() / columns;
  if (rows == 0) return {};
  const Arguments arguments{.packed = packed.data,
                            .pitch = packed.pitch,
                            .gated = gated,
                            .up = up,
                            .target = target.data,
                            .rows = rows,
                            .columns = columns};
  return gpu::dispatch_float(packed.dtype, [&](auto from_type) {
    const auto unpack = [&](auto to_type) {
      return launch("unpack_rows",
                    unpack_rows_kernel<typename decltype(from_type)::type, typename decltype(to_type)::type>,
                    dim3(gpu::row_grid(rows, traits)), dim3(gpu::kRowThreads), 0, stream, arguments);
    };
    return target.dtype == packed.dtype ? unpack(from_type) : unpack(std::type_identity<float>{});
  });
}

}  // namespace moe::MOE_GPU_NAMESPACE
