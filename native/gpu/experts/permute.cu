#include "gpu/experts/permute.cuh"

#include <ptx/launch.cuh>

#include "gpu/operators.h"
#include "gpu/plan/plan.h"
#include "gpu/tile/checked_id.cuh"
#include "gpu/tile/loops.cuh"

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

// One warp per row. Rows are bytes here; a word is the widest access that the addresses and the row length allow.
template <class Word>
MOE_KERNEL(gather_rows_kernel, (gpu::kRowThreads), const Arguments a) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  for_each_row(a.rows, [&](int64_t row) {
    const int index = checked_id(a.indices[row], a.source_rows, row, a.error);
    const Word* from = index < 0 ? nullptr : static_cast<const Word*>(a.source) + index * a.words_per_row;
    Word* to = static_cast<Word*>(a.result) + row * a.words_per_row;
#pragma unroll 4
    for (int64_t i = lane; i < a.words_per_row; i += 32) to[i] = from != nullptr ? from[i] : Word{};
  });
}

}  // namespace

Status launch_gather_rows(const TensorView& source, const TensorView& indices, const TensorView& result,
                          gpu::IdError* error, const gpu::DeviceTraits& traits, Stream stream) {
  const int64_t rows = indices.size();
  const int64_t row_bytes = source.shape[1] * static_cast<int64_t>(info(source.dtype).bytes);
  const int width = gpu::access_width({reinterpret_cast<uint64_t>(source.data), reinterpret_cast<uint64_t>(result.data),
                                       static_cast<uint64_t>(row_bytes)});
  const Arguments arguments{
      .source = source.data,
      .indices = indices.as<int>(),
      .result = result.data,
      .error = error,
      .source_rows = source.shape[0],
      .rows = rows,
      .words_per_row = row_bytes / width,
  };
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
  gpu::IdError* error =
      context.errors.next({.parameter = "permute: tokenOfRow", .what = "a row", .limit = p.x.shape[0], .columns = 0});
  return launch_gather_rows(p.x, p.token_of_row, p.rows, error, context.traits(), context.stream());
}

Status run(Context& context, const Unpermute& p) {
  gpu::IdError* error = context.errors.next({.parameter = "unpermute: rowOfSlot",
                                             .what = "a row",
                                             .limit = p.rows.shape[0],
                                             .columns = p.row_of_slot.shape[1]});
  return launch_gather_rows(p.rows, p.row_of_slot, p.slots, error, context.traits(), context.stream());
}

}  // namespace moe::MOE_GPU_NAMESPACE
