#include "gpu/gemm/pack.cuh"

#include <ptx/launch.cuh>

#include "gpu/operators.h"
#include "gpu/plan/plan.h"
#include "gpu/tile/dispatch.h"
#include "gpu/tile/element.cuh"
#include "gpu/tile/interleave.h"
#include "gpu/tile/loops.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

constexpr int kRun = 8;

// A source matrix. `runs`: its rows can be read in aligned runs.
struct Source {
  const void* data;
  int64_t rows, columns;
  int64_t row_stride, column_stride;
  bool runs;
};

struct Arguments {
  Source source;
  Source up;  // data is null if there is none
  void* packed;
  int64_t packed_rows;
  int64_t pitch;
  bool aligned_packed;
};

template <class To, class From>
__device__ __forceinline__ To converted(From value) {
  if constexpr (std::is_same_v<To, From>) {
    return value;
  } else {
    return from_float<To>(to_float(value));
  }
}

// Elements (row, column ..) of a matrix; zeros outside it.
template <class T>
__device__ __forceinline__ void load_run(const Source& source, int64_t row, int64_t column, Vector<T, kRun>& run) {
  const int64_t left = row < source.rows ? source.columns - column : 0;
  const T* place = static_cast<const T*>(source.data) + row * source.row_stride + column * source.column_stride;
  if (source.runs && left >= kRun) return load_elements(place, run);
#pragma unroll
  for (int i = 0; i < kRun; ++i) run.elements[i] = i < left ? place[i * source.column_stride] : T{};
}

// One thread for a run of a packed row: the few rows of x that are decoded are on their way as a whole.
template <class From, class To>
MOE_KERNEL(pack_rows_kernel, (gpu::kRowThreads), const Arguments a) {
  for_each_run<kRun>(a.packed_rows, a.pitch, [&](int64_t row, int64_t column) {
    const gpu::PackedRow place = gpu::unpack_row(row, a.up.data != nullptr);
    // A copy: a reference to one of two parameters has every thread put both into local memory.
    const Source source = place.up ? a.up : a.source;
    To* packed = static_cast<To*>(a.packed) + row * a.pitch + column;
    Vector<From, kRun> run;
    load_run(source, place.column, column, run);
    Vector<To, kRun> result;
#pragma unroll
    for (int i = 0; i < kRun; ++i) result.elements[i] = converted<To>(run.elements[i]);
    const int64_t left = a.pitch - column;
    if (a.aligned_packed && left >= kRun) return store_elements(packed, result);
#pragma unroll
    for (int i = 0; i < kRun; ++i) {
      if (i < left) packed[i] = result.elements[i];
    }
  });
}

template <class From>
Source source_of(const MatrixView& m) {
  return {.data = m.data,
          .rows = m.rows,
          .columns = m.columns,
          .row_stride = m.row_stride,
          .column_stride = m.column_stride,
          .runs = m.column_stride == 1 && vectors_aligned<From, kRun>(m.data, m.row_stride)};
}

}  // namespace

Status launch_pack_rows(const MatrixView& source, const MatrixView& up, const PackedRows& packed,
                        const gpu::DeviceTraits& traits, Stream stream) {
  const gpu::ColumnPlan plan = gpu::plan_columns(packed.rows, packed.pitch, kRun, traits);
  return gpu::dispatch_float(source.dtype, [&](auto from_type) {
    using From = typename decltype(from_type)::type;
    return gpu::dispatch_float(packed.dtype, [&](auto to_type) {
      using To = typename decltype(to_type)::type;
      const Arguments arguments{.source = source_of<From>(source),
                                .up = source_of<From>(up),
                                .packed = packed.data,
                                .packed_rows = packed.rows,
                                .pitch = packed.pitch,
                                .aligned_packed = vectors_aligned<To, kRun>(packed.data, packed.pitch)};
      return launch("pack_rows", pack_rows_kernel<From, To>, dim3(plan.grid_rows, plan.grid_columns),
                    dim3(plan.threads), 0, stream, arguments);
    });
  });
}

Status run(Context& context, const CopyMatrix& p) {
  return launch_pack_rows(p.source, {}, {p.target.data, p.target.dtype, p.source.rows, p.source.columns},
                          context.traits(), context.stream());
}

}  // namespace moe::MOE_GPU_NAMESPACE
