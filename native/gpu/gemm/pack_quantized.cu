// Packs weights of quantised formats: codes and scales are moved, none is computed.
#include <algorithm>
#include <string>

#include <ptx/launch.cuh>
#include <ptx/ld_st.cuh>

#include "core/formats/dequantize.h"
#include "gpu/gemm/pack.cuh"
#include "gpu/gemm/quantized_layout.h"
#include "gpu/plan/plan.h"
#include "gpu/plan/plan_parts.h"
#include "gpu/tile/interleave.h"
#include "gpu/tile/loops.cuh"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

using gpu::kCodeChunk;
using gpu::kCodeParts;
using gpu::kCodeStage;
using gpu::kQuadBytes;

// Where kernels report the first NaN: the lowest key. Its lowest bit tells a scale from a code; then come column, row
// and which of two matrices.
struct NanReport {
  unsigned long long* first;
  int64_t rows, columns;  // of one matrix

  __device__ void report(bool up, int64_t row, int64_t column, bool scale) const {
    const int64_t place = ((up ? rows : 0) + row) * columns + column;
    atomicMin(first, static_cast<unsigned long long>(place) << 1 | (scale ? 1u : 0u));
  }
};
constexpr unsigned long long kNoNan = ~0ull;

struct CodeArguments {
  WeightFormat format;
  WeightView weight, up;
  bool gated;
  int64_t rows;    // as packed and padded
  int64_t stages;  // of columns
  uint32_t zero;   // the packed code of what a matrix lacks, unless its group has a zero point
  uint32_t inverted;
  NanReport nan;
  char* data;
};

// The codes of one packed row.
struct CodeRow {
  const CodeArguments& a;
  const WeightView& source;
  int64_t row;
  bool up;

  __device__ uint32_t code(int64_t column) const {
    if (row >= source.rows) return a.zero;
    if (column < source.columns) {
      const uint32_t bits = code_bits(a.format, source.codes, row, column);
      if (a.format.code == CodeType::e4m3 && (bits & 0x7fu) == 0x7fu) a.nan.report(up, row, column, false);
      return bits ^ a.inverted;
    }
    const int64_t group = a.format.scales.columns;
    const bool has_zero_point = a.format.offset == Offset::zero_point &&
                                (group == 0 ? source.columns > 0 : column / group * group < source.columns);
    return has_zero_point ? static_cast<uint32_t>(zero_point(a.format, source, row, column)) : a.zero;
  }
};

// Some of the bits of a stage's codes, for chunks from column `first` on. See gemm/quantized_layout.h.
struct Piece {
  int64_t first;
  int bits, shift;
  int half;  // where odd columns begin

  __device__ uint32_t word(const CodeRow& codes, int part) const {
    const uint32_t mask = (1u << bits) - 1u;
    const int count = 2 * half / bits;
    uint32_t word = 0;
    for (int i = 0; i < count; ++i) {
      const int chunk = i / 2, odd = i % 2;
      const uint32_t code = codes.code(first + chunk * kCodeChunk + 2 * part + odd);
      word |= (code >> shift & mask) << (bits * chunk + half * odd);
    }
    return word;
  }
};

// One thread per stage of a row.
// See dequantize_rows_kernel for the number of blocks.
MOE_KERNEL(pack_codes_kernel, (gpu::kRowThreads, 8), const CodeArguments a) {
  const int bits = a.format.bits;
  const int low = gpu::low_bits(bits), high = gpu::high_bits(bits), quads = gpu::low_quads(bits);
  for_each_item(a.rows * a.stages, [&](int64_t item) {
    const int64_t row = item % a.rows, stage = item / a.rows;
    const gpu::PackedRow place = gpu::unpack_row(row, a.gated);
    const CodeRow codes{a, place.up ? a.up : a.weight, place.column, place.up};
    const int64_t column = stage * kCodeStage;
    char* data = a.data + stage * a.rows * gpu::stage_bytes(bits);
    for (int i = 0; i < quads + (high > 0 ? 1 : 0); ++i) {
      const bool is_high = i == quads;
      const Piece piece{.first = is_high ? column : column + i * (16 / low) * kCodeChunk,
                        .bits = is_high ? high : low,
                        .shift = is_high ? low : 0,
                        .half = is_high && high == 1 ? 8 : 16};
      uint32_t words[kCodeParts];
      for (int part = 0; part < kCodeParts; ++part) words[part] = piece.word(codes, part);
      char* place_of_piece = data + i * a.rows * kQuadBytes;
      if (piece.half == 16) {
        ptx::st_global_128(place_of_piece + row * kQuadBytes, uint4{words[0], words[1], words[2], words[3]});
      } else {
        ptx::st_global_64(place_of_piece + row * (kQuadBytes / 2),
                          uint2{words[0] | words[1] << 16, words[2] | words[3] << 16});
      }
    }
  });
}

// One level's values of a matrix, and the minima that share their bytes.
struct LevelSource {
  MatrixView values, upper;
  int64_t rows, columns;  // of the matrix
  float factor;
};

struct LevelArguments {
  ScaleLevel level;
  int bytes;  // of a value
  bool is_scale;
  LevelSource weight, up;
  bool gated;
  int64_t rows, groups;
  NanReport nan;
  char* data;
};

__device__ bool is_nan(ScaleType type, uint32_t bits) {
  return type == ScaleType::e4m3 ? (bits & 0x7fu) == 0x7fu : type == ScaleType::e8m0 && bits == 0xffu;
}

// One thread per group of a row.
MOE_KERNEL(pack_level_kernel, (gpu::kRowThreads), const LevelArguments a) {
  for_each_item(a.rows * a.groups, [&](int64_t item) {
    const int64_t row = item % a.rows, group = item / a.rows;
    const gpu::PackedRow place = gpu::unpack_row(row, a.gated);
    const LevelSource& source = place.up ? a.up : a.weight;
    const int64_t column = group * a.level.columns;
    uint32_t bits = 0;
    if (place.column < source.rows && column < source.columns) {
      const int64_t block = place.column / a.level.rows;
      bits = element_bits(source.values, a.bytes, block, group);
      if (a.is_scale && is_nan(a.level.type, bits)) a.nan.report(place.up, place.column, column, true);
      if (source.factor != 1.0f) bits = float_bits(float_from_bits(bits) * source.factor);
      if (!source.upper.absent()) bits |= element_bits(source.upper, a.bytes, block, group) << 4;
    }
    switch (a.bytes) {
      case 1: reinterpret_cast<uint8_t*>(a.data)[item] = static_cast<uint8_t>(bits); break;
      case 2: reinterpret_cast<uint16_t*>(a.data)[item] = static_cast<uint16_t>(bits); break;
      default: reinterpret_cast<uint32_t*>(a.data)[item] = bits;
    }
  });
}

std::string stored_in(const WeightFormat& format) { return std::string("weights stored in ") + format.name; }

// The code whose value is 0, or -1 if the format has none. With zero points it is the group's.
int zero_code(const WeightFormat& format) {
  if (format.code == CodeType::signed_integer) return 1 << (format.bits - 1);
  if (format.code != CodeType::table) return 0;
  const float* end = format.table + (1 << format.bits);
  const float* zero = std::find(format.table, end, 0.0f);
  return zero == end ? -1 : static_cast<int>(zero - format.table);
}

// UNSUPPORTED_DTYPE if the layout cannot express a weight: what it lacks as zeros, or its scalar in a level of float32.
Status check_expressible(const WeightFormat& format, const WeightView& source, int64_t rows, int64_t columns) {
  const auto refuse = [&](const std::string& what) -> Status {
    return {Code::unsupported_dtype, stored_in(format) + ": " + what + ": choose another format to store them in"};
  };
  const int64_t group = format.scales.columns;
  const bool whole_groups = source.columns == columns || (group > 0 && source.columns % group == 0);
  if (format.offset == Offset::minimum && !whole_groups) {
    return refuse("expected whole groups of columns, got " + std::to_string(source.columns) + " columns");
  }
  if (zero_code(format) < 0 && (source.rows < rows || source.columns < columns)) {
    return refuse("the format has no zeros to fill up a matrix of " + std::to_string(source.rows) + " x " +
                  std::to_string(source.columns));
  }
  const bool float_level = format.scales.type == ScaleType::f32 ||
                           (!format.super_scales.absent() && format.super_scales.type == ScaleType::f32);
  return source.scalar == 1.0f || float_level ? Status{} : refuse("expected no scalar beside the scales");
}

Status launch_codes(const PackExpert& pack, const NanReport& nan, Runtime& runtime) {
  const WeightFormat& format = *pack.product.format;
  const bool is_signed = format.code == CodeType::signed_integer;
  const CodeArguments arguments{.format = format,
                                .weight = pack.weight,
                                .up = pack.up,
                                .gated = pack.product.gated(),
                                .rows = pack.packed.padded_rows,
                                .stages = ceil_divide(pack.product.columns, kCodeStage),
                                .zero = static_cast<uint32_t>(zero_code(format)),
                                .inverted = is_signed ? 1u << (format.bits - 1) : 0u,
                                .nan = nan,
                                .data = static_cast<char*>(pack.data)};
  return launch("pack_codes", pack_codes_kernel,
                dim3(gpu::element_grid(arguments.rows * arguments.stages, runtime.traits())), dim3(gpu::kRowThreads), 0,
                runtime.stream(), arguments);
}

struct LevelPlace {
  ScaleLevel level;
  int64_t first;
  MatrixView WeightView::*values;
  bool is_scale = true;
  bool takes_scalar = false;
  bool with_minima = false;
};

Status launch_level(const PackExpert& pack, const LevelPlace& place, const NanReport& nan, Runtime& runtime) {
  if (place.level.absent()) return {};
  const auto source = [&](const WeightView& weight) -> LevelSource {
    if (weight.absent()) return {};
    return {.values = weight.*place.values,
            .upper = place.with_minima ? weight.zeros : MatrixView{},
            .rows = weight.rows,
            .columns = weight.columns,
            .factor = place.takes_scalar ? weight.scalar : 1.0f};
  };
  const LevelArguments arguments{.level = place.level,
                                 .bytes = scale_bytes(place.level.type),
                                 .is_scale = place.is_scale,
                                 .weight = source(pack.weight),
                                 .up = source(pack.up),
                                 .gated = pack.product.gated(),
                                 .rows = pack.packed.padded_rows,
                                 .groups = place.level.column_groups(pack.product.columns),
                                 .nan = nan,
                                 .data = static_cast<char*>(pack.data) + place.first};
  return launch("pack_level", pack_level_kernel,
                dim3(gpu::element_grid(arguments.rows * arguments.groups, runtime.traits())), dim3(gpu::kRowThreads), 0,
                runtime.stream(), arguments);
}

Status launch_levels(const PackExpert& pack, const NanReport& nan, Runtime& runtime) {
  const WeightFormat& format = *pack.product.format;
  const gpu::PackedMatrix& packed = pack.packed;
  const bool shared = gpu::shares_byte(format), scalar_in_scales = format.scales.type == ScaleType::f32;
  const LevelPlace places[] = {
      {.level = format.scales,
       .first = packed.scales,
       .values = &WeightView::scales,
       .takes_scalar = scalar_in_scales,
       .with_minima = shared},
      {.level = format.super_scales,
       .first = packed.super_scales,
       .values = &WeightView::super_scales,
       .takes_scalar = !scalar_in_scales},
      {.level = shared ? ScaleLevel{} : format.zeros(),
       .first = packed.zeros,
       .values = &WeightView::zeros,
       .is_scale = format.offset == Offset::minimum},
      {.level = format.super_zeros(),
       .first = packed.super_zeros,
       .values = &WeightView::super_zeros,
       .takes_scalar = format.offset == Offset::scale_offset},
  };
  for (const LevelPlace& place : places) MOE_TRY(launch_level(pack, place, nan, runtime));
  return {};
}

bool can_be_nan(ScaleType type) { return type == ScaleType::e4m3 || type == ScaleType::e8m0; }

bool can_be_nan(const WeightFormat& format) {
  return format.code == CodeType::e4m3 || can_be_nan(format.scales.type) || can_be_nan(format.super_scales.type);
}

// Waits for the report.
Status check_report(const PackExpert& pack, const NanReport& nan, Runtime& runtime) {
  unsigned long long first = kNoNan;
  MOE_TRY(runtime.read(&first, nan.first, sizeof first));
  if (first == kNoNan) return {};
  const int64_t place = static_cast<int64_t>(first >> 1), row = place / nan.columns;
  const char* matrix = !pack.product.gated() ? "" : row < nan.rows ? " of the gate" : " of the up projection";
  return {Code::invalid_argument, stored_in(*pack.product.format) + ": expected numbers, got NaN as the " +
                                      ((first & 1) != 0 ? "scale" : "code") + " of row " +
                                      std::to_string(row % nan.rows) + ", column " +
                                      std::to_string(place % nan.columns) + matrix};
}

}  // namespace

Status pack_quantized(const PackExpert& pack, Runtime& runtime) {
  const WeightFormat& format = *pack.product.format;
  MOE_TRY(check_same_format(pack));
  for (const WeightView* source : {&pack.weight, &pack.up}) {
    if (source->absent()) continue;
    MOE_TRY(check_expressible(format, *source, pack.product.outputs(), pack.product.columns));
  }
  if (pack.packed.bytes == 0) return {};
  NanReport nan{.first = nullptr, .rows = pack.product.outputs(), .columns = pack.product.columns};
  Scratch report(runtime);
  if (can_be_nan(format)) {
    MOE_TRY(report.reserve(sizeof(unsigned long long)));
    MOE_TRY(runtime.fill(report.at(0), 0xff, sizeof(unsigned long long)));
    nan.first = reinterpret_cast<unsigned long long*>(report.at(0));
  }
  MOE_TRY(launch_codes(pack, nan, runtime));
  MOE_TRY(launch_levels(pack, nan, runtime));
  return nan.first == nullptr ? Status{} : check_report(pack, nan, runtime);
}

}  // namespace moe::MOE_GPU_NAMESPACE
