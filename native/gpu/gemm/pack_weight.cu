// Packs weights of any format into a plain layout.
#include <string>

#include <ptx/launch.cuh>

#include "core/formats/dequantize.h"
#include "gpu/gemm/pack.cuh"
#include "gpu/plan/plan.h"
#include "gpu/tile/dispatch.h"
#include "gpu/tile/element.cuh"
#include "gpu/tile/interleave.h"
#include "gpu/tile/loops.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

struct Arguments {
  WeightView weight;  // its format is beside it, in memory that the kernel can read
  WeightFormat format;
  void* packed;
  int64_t packed_rows;
  int64_t pitch;
  // Whether rows of gate and up alternate, and whether this is the up.
  bool gated, up;
};

// One warp per packed row of this weight. Without a number of blocks, ptxas takes fewer registers and spills around the
// calls of divisions.
template <class To>
MOE_KERNEL(dequantize_rows_kernel, (gpu::kRowThreads, 8), const Arguments a) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  for_each_row(a.packed_rows, [&](int64_t row) {
    const gpu::PackedRow place = gpu::unpack_row(row, a.gated);
    if (place.up != a.up) return;
    To* packed = static_cast<To*>(a.packed) + row * a.pitch;
    for (int64_t column = lane; column < a.pitch; column += 32) packed[column] = To{};
    __syncwarp();
    if (place.column >= a.weight.rows) return;
    for (int64_t column = lane; column < a.weight.columns; column += 32) {
      const int64_t input = input_of(a.weight, column);
      // An order may name inputs that there are not.
      if (input < 0 || input >= a.pitch) continue;
      packed[input] = from_float<To>(dequantize(a.format, a.weight, place.column, column));
    }
  });
}

Status launch_dequantize(const WeightView& weight, bool gated, bool up, const PackedRows& packed,
                         const gpu::DeviceTraits& traits, Stream stream) {
  const Arguments arguments{.weight = weight,
                            .format = *weight.format,
                            .packed = packed.data,
                            .packed_rows = packed.rows,
                            .pitch = packed.pitch,
                            .gated = gated,
                            .up = up};
  return gpu::dispatch_float(packed.dtype, [&](auto type) {
    return launch("dequantize_rows", dequantize_rows_kernel<typename decltype(type)::type>,
                  dim3(gpu::row_grid(packed.rows, traits)), dim3(gpu::kRowThreads), 0, stream, arguments);
  });
}

// Whether its elements can be copied or converted as they are in memory.
bool is_plain(const WeightView& weight) {
  return weight.format->plain() && weight.input_scale == nullptr && weight.input_order == nullptr;
}

}  // namespace

Status launch_pack_weight(const WeightView& source, const WeightView& up, const PackedRows& packed,
                          const gpu::DeviceTraits& traits, Stream stream) {
  const bool gated = !up.absent();
  if (is_plain(source) && (!gated || (is_plain(up) && same_format(*up.format, *source.format)))) {
    return launch_pack_rows(source.codes, up.codes, packed, traits, stream);
  }
  MOE_TRY(launch_dequantize(source, gated, false, packed, traits, stream));
  return gated ? launch_dequantize(up, gated, true, packed, traits, stream) : Status{};
}

Status check_same_format(const PackExpert& pack) {
  for (const WeightView* source : {&pack.weight, &pack.up}) {
    if (source->absent()) continue;
    if (!same_format(*source->format, *pack.product.format)) {
      return {Code::unsupported_dtype, std::string("weights stored in ") + pack.product.format->name +
                                           ": expected weights of this format, got " + source->format->name};
    }
  }
  return {};
}

Status pack_plain(const PackExpert& pack, Runtime& runtime) {
  const DType dtype = plain_dtype(*pack.product.format);
  const PackedRows rows{.data = pack.data,
                        .dtype = dtype,
                        .rows = pack.packed.rows,
                        .pitch = pack.packed.pitch / static_cast<int64_t>(info(dtype).bytes)};
  return launch_pack_weight(pack.weight, pack.up, rows, runtime.traits(), runtime.stream());
}

}  // namespace moe::MOE_GPU_NAMESPACE
