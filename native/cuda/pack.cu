#include "cuda/pack.cuh"

#include <ptx/launch.cuh>

#include "cuda/plan.h"
#include "cuda/tile/dispatch.h"
#include "cuda/tile/element.cuh"
#include "cuda/tile/interleave.h"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

constexpr int kRun = 8;

struct Arguments {
  const void* source;
  const void* up;  // or null
  void* packed;
  int64_t source_rows;
  int64_t columns;
  int64_t packed_rows;
  int64_t pitch;
  bool aligned_source, aligned_packed;
};

// One warp per packed row.
template <class From, class To>
__global__ void __launch_bounds__(gpu::kRowThreads) pack_rows_kernel(const Arguments a) {
  const int64_t warps = static_cast<int64_t>(gridDim.x) * (blockDim.x / 32);
  for (int64_t row = blockIdx.x * static_cast<int64_t>(blockDim.x / 32) + threadIdx.x / 32; row < a.packed_rows;
       row += warps) {
    const gpu::PackedRow place = gpu::unpack_row(row, a.up != nullptr);
    const From* source = static_cast<const From*>(place.up ? a.up : a.source) + place.column * a.columns;
    const int64_t columns = place.column < a.source_rows ? a.columns : 0;
    To* packed = static_cast<To*>(a.packed) + row * a.pitch;
    for (int64_t column = threadIdx.x % 32 * kRun; column < a.pitch; column += 32 * kRun) {
      float values[kRun];
      load_up_to(source + column, columns - column, a.aligned_source, values);
      store_up_to(packed + column, a.pitch - column, a.aligned_packed, values);
    }
  }
}

}  // namespace

Status launch_pack_rows(const TensorView& source, const TensorView& up, const PackedRows& packed,
                        const gpu::DeviceTraits& traits, Stream stream) {
  Arguments arguments{source.data,  up.data, packed.data, source.shape[0], source.shape[1], packed.rows,
                      packed.pitch, false,   false};
  return gpu::dispatch_float(source.dtype, [&](auto from_type) {
    using From = typename decltype(from_type)::type;
    arguments.aligned_source = vectors_aligned<From, kRun>(source.data, arguments.columns) &&
                               vectors_aligned<From, kRun>(up.data, arguments.columns);
    return gpu::dispatch_float(packed.dtype, [&](auto to_type) {
      using To = typename decltype(to_type)::type;
      arguments.aligned_packed = vectors_aligned<To, kRun>(packed.data, packed.pitch);
      return launch("pack_rows", pack_rows_kernel<From, To>, dim3(gpu::row_grid(packed.rows, traits)),
                    dim3(gpu::kRowThreads), 0, stream, arguments);
    });
  });
}

}  // namespace moe::MOE_GPU_NAMESPACE
