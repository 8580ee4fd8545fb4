// Packed weights of quantised formats as float32, for kernels that read runs of a row; see gemm/fma.cuh.
#pragma once

#include "gpu/gemm/fma.cuh"
#include "gpu/gemm/quantized.cuh"

namespace moe::MOE_GPU_NAMESPACE {

static_assert(kFmaRun == gpu::kCodeChunk && gpu::kGroupStep % kFmaRun == 0, "a run is a chunk of one group");

// The kind and the width of codes are data: these kernels are for GPUs and formats without tensor cores' own.
struct QuantizedWeights {
  struct Row {
    const GemmArguments* arguments;
    const char* packed;  // the expert's
    int row;
  };
  struct Run {
    Vector<uint32_t, gpu::kCodeParts> low, high;
    int chunk;  // of its stage
    GroupValues<1> group;
  };
  struct Table {
    float values[16];
  };

  // Called by all threads of a block before anything else.
  __device__ static void prepare(const GemmArguments& a) {
    Table& table = ptx::shared<Table>();
    if (threadIdx.x < 16) table.values[threadIdx.x] = a.format.table[threadIdx.x];
    __syncthreads();
  }

  __device__ static Row row(const GemmArguments& a, int place, int64_t row) {
    return {&a, packed_matrix(a, place), static_cast<int>(row)};
  }

  __device__ static void load(const Row& row, int k, Run& run) {
    const gpu::PackedMatrix& packed = row.arguments->packed;
    const int bits = row.arguments->format.bits, chunks = 16 / gpu::low_bits(bits), high = gpu::high_bits(bits);
    run.chunk = k % gpu::kCodeStage / gpu::kCodeChunk;
    const char* stage = row.packed + k / gpu::kCodeStage * packed.pitch;
    const auto quad = [&](int index) {
      return reinterpret_cast<const uint32_t*>(stage + (index * packed.padded_rows + row.row) * gpu::kQuadBytes);
    };
    load_elements(quad(run.chunk / chunks), run.low);
    if (high == 2) load_elements(quad(gpu::low_quads(bits)), run.high);
    if (high == 1) {
      const int64_t place =
          gpu::low_quads(bits) * packed.padded_rows * gpu::kQuadBytes + int64_t{row.row} * (gpu::kQuadBytes / 2);
      run.high.pair = ptx::ld_global_64(stage + place);
    }
    load_group(row, k / gpu::kGroupStep, run.group);
  }

  __device__ static void convert(const Row& row, const Run& run, float (&values)[kFmaRun]) {
    const WeightFormat& format = row.arguments->format;
    const GroupScale<1> group = scale_of_group(format, run.group);
    float scale = group.scale[0];
    // Only here, as tensor cores take no such format.
    if (format.offset == Offset::scale_offset) scale += float_from_bits(run.group.super_zero[0]);
    const int zero = format.offset == Offset::zero_point ? static_cast<int>(run.group.zero[0]) : zero_of_codes(format);
#pragma unroll
    for (int i = 0; i < kFmaRun; ++i) {
      const uint32_t bits = code(run, format.bits, i / 2, i % 2);
      if (format.code == CodeType::table) {
        values[i] = ptx::shared<Table>().values[bits] * scale;
      } else if (format.code == CodeType::e4m3) {
        values[i] = value_of_e4m3(bits) * scale;
      } else {
        values[i] = static_cast<float>(static_cast<int>(bits) - zero) * scale - group.minimum[0];
      }
    }
  }

 private:
  // The code of a part's even or odd column.
  __device__ static uint32_t code(const Run& run, int bits, int part, int odd) {
    const int low = gpu::low_bits(bits), high = gpu::high_bits(bits);
    const int place = low * (run.chunk % (16 / low));
    uint32_t code = run.low.elements[part] >> (place + 16 * odd) & ((1u << low) - 1u);
    if (high == 2) code |= (run.high.elements[part] >> (2 * run.chunk + 16 * odd) & 3u) << low;
    if (high == 1) code |= (run.high.elements[part / 2] >> (16 * (part % 2) + run.chunk + 8 * odd) & 1u) << low;
    return code;
  }

  __device__ static void load_group(const Row& row, int step, GroupValues<1>& group) {
    const gpu::PackedMatrix& packed = row.arguments->packed;
    const WeightFormat& format = row.arguments->format;
    const auto value = [&](int64_t first, int bytes, const ScaleLevel& level) {
      const int64_t index = gpu::GroupSteps(level).at(step) * packed.padded_rows + row.row;
      return load_value(row.packed + first, bytes, index);
    };
    const ScaleLevel &scales = format.scales, &super_scales = format.super_scales;
    group = {};
    group.scale[0] = value(packed.scales, scale_bytes(scales.type), scales);
    if (!super_scales.absent())
      group.super_scale[0] = value(packed.super_scales, scale_bytes(super_scales.type), super_scales);
    if (format.offset == Offset::none) return;
    const ScaleLevel zeros = format.zeros(), super_zeros = format.super_zeros();
    if (!zeros.absent() && !gpu::shares_byte(format))
      group.zero[0] = value(packed.zeros, scale_bytes(zeros.type), zeros);
    if (!super_zeros.absent()) {
      group.super_zero[0] = value(packed.super_zeros, scale_bytes(super_zeros.type), super_zeros);
    }
  }
};

}  // namespace moe::MOE_GPU_NAMESPACE
