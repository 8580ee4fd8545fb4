// The k largest of a row of keys. See kernels.h here.

// Below all ranks: the rest of a block, and what has been taken out.
constexpr int32_t kNoRank = INT32_MIN + 1;
constexpr int32_t kNanRank = INT32_MIN + 2;

// An integer that orders like the key: -0 equals +0, and NaN is below -infinity.
inline int32_t rank_of(float key) {
  const int32_t bits = static_cast<int32_t>(float_bits(key + 0.0f));
  const int32_t ordered = bits ^ ((bits >> 31) & INT32_MAX);
  return key != key ? kNanRank : ordered;
}

// Writes the ranks of `count` keys and fills up to a multiple of `columns`.
inline void rank_row(const float* keys, int32_t count, int32_t columns, int32_t* ranks) {
  for (int32_t i = 0; i < count; ++i) ranks[i] = rank_of(keys[i]);
  std::fill(ranks + count, ranks + (count + columns - 1) / columns * columns, kNoRank);
}

// -1 in the lanes behind the one that a load is shifted to, see places().
struct LanesBehind {
  static constexpr int kMost = kSearchBlocks * kRankBlock;
  alignas(64) int32_t steps[2 * kMost];
  constexpr LanesBehind() : steps() {
    for (int i = kMost; i < 2 * kMost; ++i) steps[i] = -1;
  }
};
constexpr LanesBehind kLanesBehind;

// places[i] = how many of the ranks come before ranks[i]: larger ones, and equal ones of a lower index.
template <int kBlocks>
inline void find_places(const int32_t* ranks, int32_t* places) {
  RankBlock rank[kBlocks], place[kBlocks];
  for (int b = 0; b < kBlocks; ++b) {
    rank[b] = RankBlock::load(ranks + b * kRankBlock);
    place[b] = RankBlock::broadcast(0);
  }
  for (int j = 0; j < kBlocks * kRankBlock; ++j) {
    const RankBlock other = RankBlock::broadcast(ranks[j]);
    // Behind j an equal rank comes later, so it is lowered by one there.
    const int32_t* behind = kLanesBehind.steps + LanesBehind::kMost - 1 - j;
    for (int b = 0; b < kBlocks; ++b) {
      const RankBlock lowered = rank[b].plus(RankBlock::load(behind + b * kRankBlock));
      place[b] = place[b].count_less(lowered, other);
    }
  }
  for (int b = 0; b < kBlocks; ++b) place[b].store(places + b * kRankBlock);
}

// The rank of place `wanted` among the largest of every column, where rank i is in column i % (16 kBlocks).
template <int kBlocks>
inline int32_t rank_among_columns(const int32_t* ranks, int32_t blocks, int32_t wanted) {
  RankBlock largest[kBlocks];
  for (int b = 0; b < kBlocks; ++b) largest[b] = RankBlock::load(ranks + b * kRankBlock);
  for (int32_t first = kBlocks; first < blocks; first += kBlocks) {
    for (int b = 0; b < kBlocks; ++b) {
      largest[b] = RankBlock::max(largest[b], RankBlock::load(ranks + (first + b) * kRankBlock));
    }
  }
  alignas(64) int32_t columns[kBlocks * kRankBlock], places[kBlocks * kRankBlock];
  for (int b = 0; b < kBlocks; ++b) largest[b].store(columns + b * kRankBlock);
  find_places<kBlocks>(columns, places);
  int b = 0;
  while (!RankBlock::load(places + b * kRankBlock).contains(wanted)) ++b;
  return columns[b * kRankBlock + RankBlock::load(places + b * kRankBlock).first(wanted)];
}

// The k largest of few candidates, in every row. At least k columns have an entry as large as the k-th largest of the
// columns' maxima, so nothing smaller can be among the k largest: what is not smaller are the candidates. Returns a bit
// for every row that has more than 16 kBlocks of them, as with many ties; its ids are not written. Rows go through each
// step side by side, since each step reads in vectors what the one before has written in single values.
template <int kBlocks>
inline uint32_t choose_among_candidates(const float* keys, int32_t rows, int32_t count, int32_t top_k, int32_t* ids,
                                        int32_t* ranks) {
  constexpr int32_t kColumns = kBlocks * kRankBlock;
  struct Candidates {
    alignas(64) int32_t ranks[kColumns + kRankBlock], indices[kColumns + kRankBlock];
    alignas(64) int32_t places[kColumns], ordered[kColumns];
  };
  Candidates candidates[kGateTokens];
  int32_t bars[kGateTokens];
  const int64_t pitch = rank_scratch(count);
  const int32_t blocks = (count + kColumns - 1) / kColumns * kBlocks;
  for (int32_t r = 0; r < rows; ++r) rank_row(keys + int64_t{r} * count, count, kColumns, ranks + r * pitch);
  for (int32_t r = 0; r < rows; ++r) {
    bars[r] = blocks == kBlocks ? kNanRank : rank_among_columns<kBlocks>(ranks + r * pitch, blocks, top_k - 1);
  }
  uint32_t too_many = 0;
  for (int32_t r = 0; r < rows; ++r) {
    Candidates& c = candidates[r];
    std::fill(c.ranks, c.ranks + kColumns, kNoRank);
    std::fill(c.indices, c.indices + kColumns, 0);
    int32_t found = 0;
    for (int32_t b = 0; b < blocks && found <= kColumns; ++b) {
      found += RankBlock::load(ranks + r * pitch + b * kRankBlock)
                   .append(bars[r], kNoRank, b * kRankBlock, c.ranks + found, c.indices + found);
    }
    if (found > kColumns) too_many |= 1u << r;
  }
  for (int32_t r = 0; r < rows; ++r) find_places<kBlocks>(candidates[r].ranks, candidates[r].places);
  for (int32_t r = 0; r < rows; ++r) {
    Candidates& c = candidates[r];
    for (int i = 0; i < kColumns; ++i) c.ordered[c.places[i]] = c.indices[i];
  }
  for (int32_t r = 0; r < rows; ++r) {
    if ((too_many >> r & 1) == 0) std::copy(candidates[r].ordered, candidates[r].ordered + top_k, ids + r * top_k);
  }
  return too_many;
}

// A row's ranks in blocks, and the largest rank of every block in blocks of their own: finding the largest of all and
// taking it out touches one block of each.
struct RankedRow {
  int32_t* ranks;
  int32_t* largest;
  int32_t blocks;
};

// Takes the largest rank out of the row and returns its index: of equal ones the first.
inline int32_t take_largest(const RankedRow& row) {
  const int32_t groups = static_cast<int32_t>(whole_blocks(row.blocks)) / kRankBlock;
  int32_t top = INT32_MIN;
  for (int32_t g = 0; g < groups; ++g) top = std::max(top, RankBlock::load(row.largest + g * kRankBlock).largest());
  int32_t* group = row.largest;
  RankBlock largest = RankBlock::load(group);
  while (!largest.contains(top)) largest = RankBlock::load(group += kRankBlock);
  const int block_lane = largest.first(top);
  const int32_t block = static_cast<int32_t>(group - row.largest) + block_lane;
  RankBlock ranks = RankBlock::load(row.ranks + block * kRankBlock);
  const int lane = ranks.first(top);
  ranks.replace(lane, kNoRank);
  ranks.store(row.ranks + block * kRankBlock);
  largest.replace(block_lane, ranks.largest());
  largest.store(group);
  return block * kRankBlock + lane;
}

inline void choose_one_by_one(const float* keys, int32_t count, int32_t top_k, int32_t* ids, int32_t* ranks) {
  const int64_t whole = whole_blocks(count);
  const RankedRow row{ranks, ranks + whole, static_cast<int32_t>(whole) / kRankBlock};
  rank_row(keys, count, kRankBlock, ranks);
  for (int32_t b = 0; b < row.blocks; ++b) row.largest[b] = RankBlock::load(ranks + b * kRankBlock).largest();
  std::fill(row.largest + row.blocks, row.largest + whole_blocks(row.blocks), kNoRank);
  for (int32_t j = 0; j < top_k; ++j) ids[j] = take_largest(row);
}

// The indices [rows, top_k] of the largest keys of every row [rows, count], largest first, equal ones in order, NaN
// last. `ranks` holds rows * rank_scratch(count); rows are at most kGateTokens.
inline void choose(const float* keys, int32_t rows, int32_t count, int32_t top_k, int32_t* ids, int32_t* ranks) {
  const int32_t columns = std::min(count, 2 * top_k);
  uint32_t left = (1u << rows) - 1;
  if (columns <= kRankBlock) {
    left = choose_among_candidates<1>(keys, rows, count, top_k, ids, ranks);
  } else if (columns <= 2 * kRankBlock) {
    left = choose_among_candidates<2>(keys, rows, count, top_k, ids, ranks);
  } else if (columns <= 4 * kRankBlock) {
    left = choose_among_candidates<4>(keys, rows, count, top_k, ids, ranks);
  }
  for (; left != 0; left &= left - 1) {
    const int32_t r = __builtin_ctz(left);
    choose_one_by_one(keys + int64_t{r} * count, count, top_k, ids + r * top_k, ranks);
  }
}
