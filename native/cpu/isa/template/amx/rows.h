// Packing of rows for tile registers, see Arithmetic. See kernels.h here.

// A row of a tile register.
constexpr int kTileGroup = k_group(Arithmetic::bf16_tiles);
struct TileRow {
  bf16 values[kTileGroup];
};
struct QuadTileRow {
  Quad quads[k_group(Arithmetic::i8_tiles) / 4];
};

// Stores `parts` parts of numbers, `stride` apart: the upper half of what is left, and last what is nearest to the
// rest. Of a number that is not finite nothing is left.
inline void store_parts(int parts, Vector values, bf16* target, int64_t stride) {
  for (int part = 0; part + 1 < parts; ++part, target += stride) {
    // Without its lower bits, a NaN could become an infinity.
    const Vector upper = Vector::select_nan(values, Words::of(values).masked(0xffff0000u).number());
    upper.store(target);
    // NaN where the number is not finite; then both bounds are zero.
    const Vector rest = values - upper;
    values = Vector::max(rest, Vector::zero()) + Vector::min(rest, Vector::zero());
  }
  values.store(target);
}

// Where element k of the first part of a row is.
inline bf16* tile_place(int parts, void* tile, int64_t k, int row, int rows) {
  return (static_cast<TileRow*>(tile) + register_rows_before(k, parts, rows) + row)->values + k % kTileGroup;
}

inline void pack_tile_row(int parts, DType dtype, const void* source, int64_t k, int64_t padded_k, void* tile, int row,
                          int rows) {
  int64_t begin = 0;
  if (dtype == DType::bf16 && parts == 1) {
    for (; begin + kTileGroup <= k; begin += kTileGroup) {
      std::memcpy(tile_place(parts, tile, begin, row, rows), static_cast<const bf16*>(source) + begin, sizeof(TileRow));
    }
  }
  alignas(64) float values[kChunk];
  for (; begin < padded_k; begin += kChunk) {
    const int64_t length = std::min(kChunk, padded_k - begin);
    load_chunk(dtype, source, k, begin, length, values);
    for (int64_t i = 0; i < length; i += kWidth) {
      store_parts(parts, Vector::load(values + i), tile_place(parts, tile, begin + i, row, rows), rows * kTileGroup);
    }
  }
}

// Whole vectors: padding follows the last column.
inline void pack_tile_columns(int parts, const float* c, int64_t first_k, int64_t count, int rows,
                              const PackedTile& tile) {
  for (int64_t j = 0; j < count; j += kWidth) {
    bf16* target = tile_place(parts, tile.data, first_k + j, tile.first, tile.rows);
    for (int r = 0; r < rows; ++r, target += kTileGroup) {
      store_parts(parts, Vector::load(c + r * kPanelColumns + j), target, tile.rows * kTileGroup);
    }
  }
}

// The first `count` numbers of two rows as words of both; zeros follow.
inline Words words_of_both(const bf16* even, const bf16* odd, int count) {
  bf16 halves[2][kWidth] = {};
  if (count < kWidth) {
    std::copy_n(even, count, halves[0]);
    std::copy_n(odd, count, halves[1]);
    even = halves[0];
    odd = halves[1];
  }
  const Words upper = Words::load_halves(reinterpret_cast<const char*>(odd)).template shifted<16>();
  return Words::load_halves(reinterpret_cast<const char*>(even)).with(upper);
}

void pack_tile_transposed(const void* const* rows, int64_t first, int count, void* tile) {
  auto* target = static_cast<TileRow*>(tile);
  for (int column = 0; column < count; column += kWidth) {
    const int columns = std::min(kWidth, count - column);
    for (int k = 0; k < kTileGroup; k += 2 * kWidth) {
      Vector words[kWidth];
      for (int i = 0; i < kWidth; ++i) {
        const auto half = [&](int odd) { return static_cast<const bf16*>(rows[k + 2 * i + odd]) + first + column; };
        words[i] = words_of_both(half(0), half(1), columns).number();
      }
      transpose(words);
      for (int i = 0; i < kWidth; ++i) {
        if (i < columns) words[i].store(reinterpret_cast<float*>(target[column + i].values + k));
      }
    }
  }
}
