// The k largest keys of each row. See kernels.h here. Where all rows go through the same steps they are interleaved,
// [.., kGateTokens].

// The largest key of each of kColumns columns, where key i is in column i % kColumns; NaN counts as -infinity.
template <int kColumns>
inline void find_column_maxima(const float* keys, int32_t count, float* maxima) {
  constexpr int kVectors = kColumns / kWidth;
  const Vector none = Vector::broadcast(-INFINITY);
  Vector largest[kVectors];
  for (Vector& column : largest) column = none;
  int32_t first = 0;
  for (; first + kColumns <= count; first += kColumns) {
    for (int i = 0; i < kVectors; ++i) largest[i] = Vector::max(Vector::load(keys + first + i * kWidth), largest[i]);
  }
  for (int i = 0; first < count; ++i, first += kWidth) {
    largest[i] = Vector::max(Vector::load_first(keys + first, count - first, none), largest[i]);
  }
  for (int i = 0; i < kVectors; ++i) largest[i].store(maxima + i * kWidth);
}

// The k-th largest of the columns' maxima: at least k columns have a key that large, so no smaller key can be among the
// row's k largest.
template <int kColumns>
inline void find_bars(const float* keys, int32_t rows, int32_t count, int32_t top_k, float* bars) {
  alignas(64) float maxima[kGateTokens * kColumns];
  for (int32_t r = 0; r < rows; ++r)
    find_column_maxima<kColumns>(keys + int64_t{r} * count, count, maxima + r * kColumns);
  if (rows < kGateTokens) std::fill(maxima + rows * kColumns, std::end(maxima), 0.0f);
  for (int32_t r = 0; r < rows; r += kWidth) {
    Vector columns[kColumns];
    for (int c = 0; c < kColumns; c += kWidth) {
      for (int i = 0; i < kWidth; ++i) columns[c + i] = Vector::load(maxima + (r + i) * kColumns + c);
      transpose(columns + c);
    }
    sort_descending<kColumns>(columns);
    columns[top_k - 1].store(bars + r);
  }
}

// A mask of the keys, at most 64, that are at least the bar.
inline uint64_t bits_at_least(const float* keys, int32_t count, Vector bar) {
  uint64_t bits = 0;
  if (count >= 64) {
    for (int i = 0; i < 64; i += kWidth) bits |= uint64_t{Vector::load(keys + i).at_least(bar)} << i;
    return bits;
  }
  for (int32_t i = 0; i < count; i += kWidth) {
    const Vector some = Vector::load_first(keys + i, count - i, Vector::broadcast(NAN));
    bits |= uint64_t{some.at_least(bar)} << i;
  }
  return bits;
}

// The candidates of every row, [slot, kGateTokens]. Slots after a row's last candidate hold NaN with the largest index.
template <int kSlots>
struct Candidates {
  // Slots written at a time: it is cheaper to overwrite the excess later than to branch for each slot.
  static constexpr int kAtOnce = 2;
  static int64_t none() { return keyed_index(NAN, INT32_MAX); }
  alignas(64) int64_t keyed[(kSlots + kAtOnce) * kGateTokens];

  explicit Candidates(int32_t rows) {
    const int32_t filled = (rows + Ranked::width - 1) / Ranked::width * Ranked::width;
    for (int i = 0; i < kSlots + kAtOnce; ++i) std::fill_n(keyed + i * kGateTokens, filled, none());
  }

  // Adds a row's keys that reach the bar. Returns how many there are, even if not all fit.
  int32_t collect(const float* keys, int32_t count, float bar, int32_t row) {
    const Vector least = Vector::broadcast(bar);
    int64_t* slot = keyed + row;
    int32_t found = 0;
    for (int32_t first = 0; first < count; first += 64) {
      uint64_t bits = bits_at_least(keys + first, std::min(count - first, 64), least);
      found += std::popcount(bits);
      if (found > kSlots) return found;
      for (int64_t* next = slot; bits != 0; next += kAtOnce * kGateTokens) {
        for (int i = 0; i < kAtOnce; ++i, bits &= bits - 1) {
          const int32_t index = first + (std::countr_zero(bits) & 63);
          next[i * kGateTokens] = keyed_index(keys[index], index);
        }
      }
      slot = keyed + row + found * kGateTokens;
    }
    for (int i = 0; i < kAtOnce; ++i) slot[i * kGateTokens] = none();
    return found;
  }

  // Takes all keys of a short row.
  void take(const float* keys, int32_t count, int32_t row) {
    for (int32_t i = 0; i < count; ++i) keyed[i * kGateTokens + row] = keyed_index(keys[i], i);
  }

  // Largest first.
  void sort(int32_t rows) {
    for (int32_t r = 0; r < rows; r += Ranked::width) {
      Ranked v[kSlots];
      for (int i = 0; i < kSlots; ++i) v[i] = Ranked::load(keyed + i * kGateTokens + r);
      sort_descending<kSlots>(v);
      for (int i = 0; i < kSlots; ++i) v[i].store(keyed + i * kGateTokens + r);
    }
  }
};

// The k largest, found among the candidates that reach a bar. Returns a mask of the rows whose ids are invalid: those
// with fewer than k or more than kSlots candidates, because of many ties or NaN.
template <int kColumns, int kSlots>
inline uint32_t choose_among_candidates(const float* keys, int32_t rows, int32_t count, int32_t top_k, int32_t* ids) {
  Candidates<kSlots> candidates(rows);
  uint32_t left = 0;
  if (count <= kSlots) {
    for (int32_t r = 0; r < rows; ++r) candidates.take(keys + int64_t{r} * count, count, r);
  } else {
    alignas(64) float bars[kGateTokens];
    find_bars<kColumns>(keys, rows, count, top_k, bars);
    for (int32_t r = 0; r < rows; ++r) {
      const int32_t found = candidates.collect(keys + int64_t{r} * count, count, bars[r], r);
      if (found < top_k || found > kSlots) left |= 1u << r;
    }
  }
  candidates.sort(rows);
  for (int32_t r = 0; r < rows; ++r) {
    for (int32_t j = 0; j < top_k; ++j) ids[r * top_k + j] = index_of(candidates.keyed[j * kGateTokens + r]);
  }
  return left;
}

// `ordered` has room for `count` keys.
inline void choose_by_sorting(const float* keys, int32_t count, int32_t top_k, int32_t* ids, int64_t* ordered) {
  for (int32_t i = 0; i < count; ++i) ordered[i] = ranked(keyed_index(keys[i], i));
  std::partial_sort(ordered, ordered + top_k, ordered + count, std::greater<int64_t>());
  std::transform(ordered, ordered + top_k, ids, index_of);
}

// The indices [rows, top_k] of the largest keys of every row [rows, count]: largest first, ties by index, NaN last.
// `ordered` has room for `count` keys; there are at most kGateTokens rows.
inline void choose(const float* keys, int32_t rows, int32_t count, int32_t top_k, int32_t* ids, int64_t* ordered) {
  uint32_t left = (1u << rows) - 1;
  if (count <= 8) {
    left = choose_among_candidates<16, 8>(keys, rows, count, top_k, ids);
  } else if (count <= 16 || top_k <= 8) {
    left = choose_among_candidates<16, 16>(keys, rows, count, top_k, ids);
  } else if (top_k <= 10) {
    left = choose_among_candidates<32, 16>(keys, rows, count, top_k, ids);
  } else if (count <= 32 || top_k <= 16) {
    left = choose_among_candidates<32, 32>(keys, rows, count, top_k, ids);
  } else if (count <= 64 || top_k <= 32) {
    left = choose_among_candidates<64, 64>(keys, rows, count, top_k, ids);
  }
  for (; left != 0; left &= left - 1) {
    const int32_t r = std::countr_zero(left);
    choose_by_sorting(keys + int64_t{r} * count, count, top_k, ids + r * top_k, ordered);
  }
}
