// The k largest of rows of keys. See kernels.h here. Rows lie side by side, [.., kGateTokens], wherever the same is done
// to all of them.

// An integer that orders like the key: -0 equals +0, and NaN is below -infinity.
inline int32_t rank_of(float key) {
  const int32_t bits = static_cast<int32_t>(float_bits(key + 0.0f));
  const int32_t ordered = bits ^ ((bits >> 31) & INT32_MAX);
  return key != key ? INT32_MIN : ordered;
}

// An integer that orders like the key, and among equal keys has the lower index first.
inline int64_t candidate_of(float key, int32_t index) {
  return static_cast<int64_t>(static_cast<uint64_t>(static_cast<uint32_t>(rank_of(key))) << 32 |
                              static_cast<uint32_t>(~index));
}
inline int32_t index_of(int64_t candidate) { return ~static_cast<int32_t>(candidate); }

// At least k of kColumns columns have a key as large as the k-th largest of the columns' maxima, so no smaller key can be
// among the k largest. Key i is in column i % kColumns; NaN counts as -infinity.
template <int kColumns>
inline void find_bars(const float* keys, int32_t rows, int32_t count, int32_t top_k, float* bars) {
  constexpr int kVectors = kColumns / kWidth;
  alignas(64) float columns[kColumns * kGateTokens] = {};
  for (int32_t r = 0; r < rows; ++r, keys += count) {
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
    alignas(64) float row[kColumns];
    for (int i = 0; i < kVectors; ++i) largest[i].store(row + i * kWidth);
    for (int i = 0; i < kColumns; ++i) columns[i * kGateTokens + r] = row[i];
  }
  sort_columns<kColumns, Vector>(columns, rows);
  std::copy_n(columns + (top_k - 1) * kGateTokens, kGateTokens, bars);
}

// A bit for each of at most 64 keys that is at least the bar.
inline uint64_t bits_at_least(const float* keys, int32_t count, Vector bar) {
  uint64_t bits = 0;
  int32_t i = 0;
  for (; i + kWidth <= count; i += kWidth) {
    bits |= static_cast<uint64_t>(Vector::load(keys + i).at_least(bar)) << i;
  }
  if (i < count) {
    const Vector rest = Vector::load_first(keys + i, count - i, Vector::broadcast(NAN));
    bits |= static_cast<uint64_t>(rest.at_least(bar)) << i;
  }
  return bits;
}

// The candidates of every row, [slot, kGateTokens]. Slots behind a row's last hold NaN of an index above all.
template <int kSlots>
struct Candidates {
  // Slots written at once: more than are needed are overwritten, which costs less than a branch for each.
  static constexpr int kAtOnce = 4;
  alignas(64) float keys[(kSlots + kAtOnce) * kGateTokens];
  alignas(64) int32_t indices[(kSlots + kAtOnce) * kGateTokens];

  Candidates() {
    std::fill(std::begin(keys), std::end(keys), NAN);
    std::fill(std::begin(indices), std::end(indices), INT32_MAX);
  }

  // Adds those of a row's keys that are at least the bar; returns how many they are, of which no more than fit are kept.
  int32_t collect(const float* row_keys, int32_t count, float bar, int32_t row) {
    const Vector least = Vector::broadcast(bar);
    int32_t found = 0;
    for (int32_t first = 0; first < count; first += 64) {
      uint64_t bits = bits_at_least(row_keys + first, std::min(count - first, 64), least);
      int32_t slot = found * kGateTokens + row;
      found += std::popcount(bits);
      if (found > kSlots) return found;
      while (bits != 0) {
        for (int i = 0; i < kAtOnce; ++i, slot += kGateTokens, bits &= bits - 1) {
          const int32_t index = first + (std::countr_zero(bits) & 63);
          keys[slot] = row_keys[index];
          indices[slot] = index;
        }
      }
    }
    for (int i = 0; i < kAtOnce; ++i) keys[(found + i) * kGateTokens + row] = NAN;
    return found;
  }

  // All keys of few.
  void take(const float* row_keys, int32_t count, int32_t row) {
    for (int32_t i = 0; i < count; ++i) {
      keys[i * kGateTokens + row] = row_keys[i];
      indices[i * kGateTokens + row] = i;
    }
  }
};

// The k largest among candidates that a bar leaves. Returns a bit for every row for which these are not k to kSlots, as
// with many ties or NaN; its ids are not right.
template <int kColumns, int kSlots>
inline uint32_t choose_among_candidates(const float* keys, int32_t rows, int32_t count, int32_t top_k, int32_t* ids) {
  Candidates<kSlots> candidates;
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
  alignas(64) int64_t ordered[kSlots * kGateTokens];
  for (int i = 0; i < kSlots * kGateTokens; ++i) ordered[i] = candidate_of(candidates.keys[i], candidates.indices[i]);
  sort_columns<kSlots, Ranked>(ordered, rows);
  for (int32_t r = 0; r < rows; ++r) {
    for (int32_t j = 0; j < top_k; ++j) ids[r * top_k + j] = index_of(ordered[j * kGateTokens + r]);
  }
  return left;
}

// `ordered` has room for `count`.
inline void choose_by_sorting(const float* keys, int32_t count, int32_t top_k, int32_t* ids, int64_t* ordered) {
  for (int32_t i = 0; i < count; ++i) ordered[i] = candidate_of(keys[i], i);
  std::partial_sort(ordered, ordered + top_k, ordered + count, std::greater<int64_t>());
  std::transform(ordered, ordered + top_k, ids, index_of);
}

// The indices [rows, top_k] of the largest keys of every row [rows, count], largest first, equal ones in order, NaN
// last. `ordered` has room for `count`; rows are at most kGateTokens.
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
