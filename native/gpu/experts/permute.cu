#include "gpu/experts/permute.cuh"

#include <ptx/launch.cuh>

#include "gpu/operators.h"
#include "gpu/plan/plan.h"
#include "gpu/tile/checked_id.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

struct Arguments {
  const void* source;
  const int* indices;
  void* result;
  IdError* error;
  int64_t source_rows;
  int64_t rows;
  int64_t words_per_row;
};

// One warp per row. Rows are bytes here: a word is the widest access that addresses and row length allow.
template <class Word>
__global__ void __launch_bounds__(gpu::kRowThreads) gather_rows_kernel(const Arguments a) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int64_t warps = static_cast<int64_t>(gridDim.x) * (blockDim.x / 32);
  for (int64_t row = blockIdx.x * static_cast<int64_t>(blockDim.x / 32) + threadIdx.x / 32; row < a.rows;
       row += warps) {
    const int index = checked_id(a.indices[row], a.source_rows, row, a.error);
    const Word* from = index < 0 ? nullptr : static_cast<const Word*>(a.source) + index * a.words_per_row;
    Word* to = static_cast<Word*>(a.result) + row * a.words_per_row;
#pragma unroll 4
    for (int64_t i = lane; i < a.words_per_row; i += 32) to[i] = from != nullptr ? from[i] : Word{};
  }
}

}  // namespace

Status launch_gather_rows(const TensorView& source, const TensorView& indices, const TensorView& result,
                          gpu::IdError* error, const gpu::DeviceTraits& traits, Stream stream) {
  const int64_t rows = indices.size();
  const int64_t row_bytes = source.shape[1] * static_cast<int64_t>(info(source.dtype).bytes);
  const int width = gpu::access_width({reinterpret_cast<uint64_t>(source.data), reinterpret_cast<uint64_t>(result.data),
                                       static_cast<uint64_t>(row_bytes)});
  const Arguments arguments{source.data, indices.as<int>(), result.data, error, source.shape[0],
                            rows,        row_bytes / width};
  const dim3 grid(gpu::row_grid(rows, traits));
  const dim3 block(gpu::kRowThreads);
  constexpr const char* kName = "gather_rows";
  switch (width) {
    case 16: return launch(kName, gather_rows_kernel<uint4>, grid, block, 0, stream, arguments);
    case 8: return launch(kName, gather_rows_kernel<uint2>, grid, block, 0, stream, arguments);
    case 4: return launch(kName, gather_rows_kernel<uint32_t>, grid, block, 0, stream, arguments);
    default: return launch(kName, gather_rows_kernel<uint16_t>, grid, block, 0, stream, arguments);
  }
}

Status run(Context& context, const Permute& p) {
  gpu::IdError* error = nullptr;
  MOE_TRY(context.errors.next({"permute: tokenOfRow", "a row", p.x.shape[0], 0}, &error));
  return launch_gather_rows(p.x, p.token_of_row, p.rows, error, context.traits(), context.stream());
}

Status run(Context& context, const Unpermute& p) {
  gpu::IdError* error = nullptr;
  MOE_TRY(context.errors.next({"unpermute: rowOfSlot", "a row", p.rows.shape[0], p.row_of_slot.shape[1]}, &error));
  return launch_gather_rows(p.rows, p.row_of_slot, p.slots, error, context.traits(), context.stream());
}

}  // namespace moe::MOE_GPU_NAMESPACE
