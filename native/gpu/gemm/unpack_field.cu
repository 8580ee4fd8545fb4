// The reverse of pack_quantized.cu.
#include "gpu/gemm/unpack_field.cuh"

#include <ptx/launch.cuh>

#include "core/formats/code_bytes.h"
#include "core/formats/grids.h"
#include "gpu/gemm/quantized.cuh"
#include "gpu/gemm/quantized_layout.h"
#include "gpu/plan/plan.h"
#include "gpu/plan/plan_parts.h"
#include "gpu/tile/interleave.h"
#include "gpu/tile/loops.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

struct CodeArguments {
  const char* matrix;
  int64_t padded_rows;
  int bits;
  uint32_t inverted;
  GridCodes grid;
  bool gated, up;
  uint8_t* target;
  int64_t row_bytes, stage_bytes;  // of the target
  int64_t rows, columns, stages;
};

// The codes of a stage of one packed row. See gemm/quantized_layout.h.
struct CodeStage {
  const char* data;
  int64_t padded_rows, row;
  int low, high;

  __device__ uint32_t code(int column) const {
    const int chunk = column / gpu::kCodeChunk, part = column % gpu::kCodeChunk / 2, odd = column % 2;
    const int chunks = 16 / low;  // in a word
    const uint32_t bits = word(chunk / chunks, part) >> (low * (chunk % chunks) + 16 * odd) & ((1u << low) - 1u);
    const int quads = low / 2;
    if (high == 2) return bits | (word(quads, part) >> (2 * chunk + 16 * odd) & 3u) << low;
    if (high == 0) return bits;
    const char* half_quads = data + quads * padded_rows * gpu::kQuadBytes;
    const uint32_t pair = reinterpret_cast<const uint32_t*>(half_quads + row * (gpu::kQuadBytes / 2))[part / 2];
    return bits | (pair >> (16 * (part % 2) + chunk + 8 * odd) & 1u) << low;
  }

 private:
  __device__ uint32_t word(int quad, int part) const {
    return reinterpret_cast<const uint32_t*>(data + (quad * padded_rows + row) * gpu::kQuadBytes)[part];
  }
};

// One thread per stage of a row, whose codes fill whole bytes.
MOE_KERNEL(unpack_codes_kernel, (gpu::kRowThreads), const CodeArguments a) {
  for_each_item(a.rows * a.stages, [&](int64_t item) {
    const int64_t row = item / a.stages, stage = item % a.stages;
    const CodeStage codes{.data = a.matrix + stage * a.padded_rows * gpu::stage_bytes(a.bits),
                          .padded_rows = a.padded_rows,
                          .row = gpu::packed_row(row, a.gated, a.up),
                          .low = gpu::low_bits(a.bits),
                          .high = gpu::high_bits(a.bits)};
    const int64_t first = stage * gpu::kCodeStage, left = a.columns - first;
    const int count = static_cast<int>(left < gpu::kCodeStage ? left : gpu::kCodeStage);
    uint8_t* target = a.target + row * a.row_bytes + stage * a.stage_bytes;
    if (a.grid.absent()) {
      write_codes(a.bits, count, target, [&](int column) { return codes.code(column) ^ a.inverted; });
    } else {
      write_codes(a.grid.bits(), (count + 7) / 8, target, [&](int unit) {
        return unit_of_codes(a.grid, count - 8 * unit, [&](int place) { return codes.code(8 * unit + place); });
      });
    }
  });
}

struct LevelArguments {
  const char* values;
  int64_t padded_rows;
  int bytes;     // of a value
  int row_step;  // of a group
  int shift;     // of a byte that two values share
  uint32_t mask;
  bool gated, up;
  char* target;
  int64_t rows, groups;
};

// One thread per value.
MOE_KERNEL(unpack_level_kernel, (gpu::kRowThreads), const LevelArguments a) {
  for_each_item(a.rows * a.groups, [&](int64_t item) {
    const int64_t row = gpu::packed_row(item / a.groups * a.row_step, a.gated, a.up), group = item % a.groups;
    const uint32_t bits = load_value(a.values, a.bytes, group * a.padded_rows + row) >> a.shift & a.mask;
    switch (a.bytes) {
      case 1: reinterpret_cast<uint8_t*>(a.target)[item] = static_cast<uint8_t>(bits); break;
      case 2: reinterpret_cast<uint16_t*>(a.target)[item] = static_cast<uint16_t>(bits); break;
      default: reinterpret_cast<uint32_t*>(a.target)[item] = bits;
    }
  });
}

Status launch_codes(const UnpackField& unpack, const TensorView& target, const gpu::DeviceTraits& traits,
                    Stream stream) {
  const ExpertProduct& product = unpack.product;
  const WeightFormat& format = *product.format;
  const CodeArguments arguments{.matrix = static_cast<const char*>(unpack.matrix),
                                .padded_rows = unpack.packed.padded_rows,
                                .bits = format.bits,
                                .inverted = format.code == CodeType::signed_integer ? 1u << (format.bits - 1) : 0u,
                                .grid = format.grid,
                                .gated = product.gated(),
                                .up = unpack.up,
                                .target = target.as<uint8_t>(),
                                .row_bytes = format.row_bytes(product.columns),
                                .stage_bytes = format.row_bytes(gpu::kCodeStage),
                                .rows = product.outputs(),
                                .columns = product.columns,
                                .stages = ceil_divide(product.columns, gpu::kCodeStage)};
  return launch("unpack_codes", unpack_codes_kernel, dim3(gpu::element_grid(arguments.rows * arguments.stages, traits)),
                dim3(gpu::kRowThreads), 0, stream, arguments);
}

Status launch_level(const UnpackField& unpack, QuantizedField field, const TensorView& target,
                    const gpu::DeviceTraits& traits, Stream stream) {
  const ExpertProduct& product = unpack.product;
  const WeightFormat& format = *product.format;
  const gpu::PackedMatrix& packed = unpack.packed;
  const FieldSize size = size_of_field(format, field, product.outputs(), product.columns);
  const bool minima_above = gpu::shares_byte(format) && field == QuantizedField::zeros;
  const bool shares = gpu::shares_byte(format) && (minima_above || field == QuantizedField::scales);
  const int64_t first = field == QuantizedField::scales || minima_above ? packed.scales
                        : field == QuantizedField::superScales          ? packed.super_scales
                        : field == QuantizedField::zeros                ? packed.zeros
                                                                        : packed.super_zeros;
  const LevelArguments arguments{.values = static_cast<const char*>(unpack.matrix) + first,
                                 .padded_rows = packed.padded_rows,
                                 .bytes = static_cast<int>(info(size.dtype).bytes),
                                 .row_step = level_of(format, field).rows,
                                 .shift = minima_above ? 4 : 0,
                                 .mask = shares ? 0xfu : ~0u,
                                 .gated = product.gated(),
                                 .up = unpack.up,
                                 .target = target.as<char>(),
                                 .rows = size.rows,
                                 .groups = size.columns};
  return launch("unpack_level", unpack_level_kernel, dim3(gpu::element_grid(arguments.rows * arguments.groups, traits)),
                dim3(gpu::kRowThreads), 0, stream, arguments);
}

}  // namespace

Status launch_unpack_field(const UnpackField& unpack, QuantizedField field, const TensorView& target,
                           const gpu::DeviceTraits& traits, Stream stream) {
  if (target.size() == 0) return {};
  return field == QuantizedField::codes ? launch_codes(unpack, target, traits, stream)
                                        : launch_level(unpack, field, target, traits, stream);
}

}  // namespace moe::MOE_GPU_NAMESPACE
