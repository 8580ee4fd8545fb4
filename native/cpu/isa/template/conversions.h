// Conversions between dtypes, and packing of rows into tiles. See kernels.h here.

template <class T>
inline void widen(const T* source, int64_t count, float* values) {
  int64_t i = 0;
  for (; i + kWidth <= count; i += kWidth) Vector::load(source + i).store(values + i);
  for (; i < count; ++i) values[i] = static_cast<float>(source[i]);
}

template <class T>
inline void narrow(const float* values, int64_t count, T* target) {
  int64_t i = 0;
  for (; i + kWidth <= count; i += kWidth) Vector::load(values + i).store(target + i);
  for (; i < count; ++i) target[i] = T(values[i]);
}

void to_f32(DType dtype, const void* source, int64_t count, float* values) {
  switch (dtype) {
    case DType::f16: return widen(static_cast<const f16*>(source), count, values);
    case DType::bf16: return widen(static_cast<const bf16*>(source), count, values);
    default: std::memcpy(values, source, static_cast<size_t>(count) * sizeof(float));
  }
}

void from_f32(DType dtype, const float* values, int64_t count, void* target) {
  switch (dtype) {
    case DType::f16: return narrow(values, count, static_cast<f16*>(target));
    case DType::bf16: return narrow(values, count, static_cast<bf16*>(target));
    default: std::memcpy(target, values, static_cast<size_t>(count) * sizeof(float));
  }
}

constexpr int64_t kChunk = 512;

// Four consecutive k as bytes, in the order of panel_codes.h.
using Quad = uint32_t;

// In simple loops, as in narrow_to_quads(): compilers make vectors of them.
inline void order_quads(const int8_t* bytes, int64_t count, Quad* quads) {
  std::memcpy(quads, bytes, static_cast<size_t>(count));
  for (int64_t i = 0; i < count / 4; ++i) {
    const Quad four = quads[i];
    quads[i] = (four & 0xff0000ffu) | (four & 0xff00u) << 8 | (four & 0xff0000u) >> 8;
  }
}

// At most kChunk integers of magnitude up to 127.
inline void narrow_to_quads(const float* values, int64_t count, Quad* quads) {
  alignas(64) int8_t bytes[kChunk];
  for (int64_t i = 0; i < count; ++i) bytes[i] = static_cast<int8_t>(static_cast<int32_t>(values[i]));
  order_quads(bytes, count, quads);
}

struct BF16Pair {
  bf16 even, odd;
};

// Writes `count` elements of a row, from element `first` on, to a tile whose k groups are `Unit`s.
template <class Unit>
inline void scatter(const Unit* source, int64_t count, int64_t first, void* tile, int row, int rows) {
  Unit* target = static_cast<Unit*>(tile) + first * rows + row;
  for (int64_t i = 0; i < count; ++i) target[i * rows] = source[i];
}

// Elements begin .. begin + length - 1 of a row of k, as numbers; zeros follow the row.
inline void load_chunk(DType dtype, const void* source, int64_t k, int64_t begin, int64_t length, float* values) {
  const int64_t present = std::max<int64_t>(0, std::min(length, k - begin));
  to_f32(dtype, static_cast<const char*>(source) + begin * static_cast<int64_t>(info(dtype).bytes), present, values);
  std::fill(values + present, values + length, 0.0f);
}

#include "cpu/isa/template/amx/rows.h"

#include "cpu/isa/template/digits.h"

void pack_row(Arithmetic arithmetic, DType dtype, const void* source, int64_t k, int64_t padded_k, void* tile, int row,
              int rows) {
  if (is_tiles(arithmetic) && !is_bytes(arithmetic)) {
    return pack_tile_row(parts_of(arithmetic), dtype, source, k, padded_k, tile, row, rows);
  }
  if (arithmetic == Arithmetic::i8_digits) return pack_digit_row(dtype, source, k, padded_k, tile, row, rows);
  if (arithmetic == Arithmetic::bf16_pairs && dtype == DType::bf16 && k == padded_k) {
    return scatter(static_cast<const BF16Pair*>(source), k / 2, 0, tile, row, rows);
  }
  alignas(64) float values[kChunk];
  alignas(64) bf16 halves[kChunk];
  for (int64_t begin = 0; begin < padded_k; begin += kChunk) {
    const int64_t length = std::min(kChunk, padded_k - begin);
    load_chunk(dtype, source, k, begin, length, values);
    if (arithmetic == Arithmetic::f32) {
      scatter(values, length, begin, tile, row, rows);
    } else if (is_bytes(arithmetic)) {
      alignas(64) Quad quads[kChunk / 4];
      narrow_to_quads(values, length, quads);
      if (arithmetic == Arithmetic::i8_quads) {
        scatter(quads, length / 4, begin / 4, tile, row, rows);
      } else {
        constexpr int64_t kUnitK = k_group(Arithmetic::i8_tiles);
        scatter(reinterpret_cast<const QuadTileRow*>(quads), length / kUnitK, begin / kUnitK, tile, row, rows);
      }
    } else {
      narrow(values, length, halves);
      scatter(reinterpret_cast<const BF16Pair*>(halves), length / 2, begin / 2, tile, row, rows);
    }
  }
}

void store_rows(const float* c, int rows, int64_t count, float* target, int64_t stride, bool streams) {
  for (int r = 0; r < rows; ++r, c += kPanelColumns, target += stride) {
    const bool aligned = reinterpret_cast<uintptr_t>(target) % (kWidth * sizeof(float)) == 0;
    for (int64_t i = 0; i < count; i += kWidth) {
      const Vector values = Vector::load(c + i);
      streams&& aligned&& i + kWidth <= count ? values.stream(target + i) : values.store_first(target + i, count - i);
    }
  }
}

void pack_columns(Arithmetic arithmetic, const float* c, int64_t first_k, int64_t count, int rows,
                  const PackedTile& target) {
  if (is_tiles(arithmetic)) return pack_tile_columns(parts_of(arithmetic), c, first_k, count, rows, target);
  for (int r = 0; r < rows; ++r, c += kPanelColumns) {
    if (arithmetic == Arithmetic::f32) {
      scatter(c, count, first_k, target.data, target.first + r, target.rows);
    } else {
      alignas(64) bf16 halves[kPanelColumns];
      for (int j = 0; j < kPanelColumns; j += kWidth) Vector::load(c + j).store(halves + j);
      const auto* pairs = reinterpret_cast<const BF16Pair*>(halves);
      scatter(pairs, count / 2, first_k / 2, target.data, target.first + r, target.rows);
    }
  }
}
