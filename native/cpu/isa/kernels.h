// What one instruction set offers: the innermost loops of every operator. Everything above them is shared.
#pragma once

#include <cstdint>
#include <span>

#include "core/activation_gradient.h"
#include "core/formats/token_format.h"
#include "core/noisy_top_k.h"
#include "core/operators/experts.h"
#include "core/operators/noise.h"
#include "core/operators/routing.h"
#include "core/random.h"
#include "core/scores.h"
#include "cpu/gemm/gemm_kernel.h"

namespace moe::cpu {

// A loop that only multiplies, to measure the machine's ceiling.
struct PeakLoop {
  void (*run)(int64_t iterations);
  double flops_per_iteration;
};

// Random-number counters per call of draw().
constexpr int kCountersAtOnce = 64;

// Results of one row's softmax.
struct SoftmaxRow {
  double log_sum_exp;
  double entropy;
};

// Columns of one row of an activation and of its gradient. Kernels compute whole vectors; values after the last column
// have no meaning.
struct ActivationColumns {
  static constexpr int64_t kMost = 256;

  alignas(64) float gate[kMost] = {};
  alignas(64) float up[kMost] = {};
  alignas(64) float multiplier[kMost] = {};
  alignas(64) float d_inner[kMost] = {};
  // Results.
  alignas(64) float inner[kMost] = {};
  alignas(64) float d_gate[kMost] = {};
  alignas(64) float d_up[kMost] = {};
  alignas(64) float d_multiplier[kMost] = {};
};

// Rows of a packed tile, from `first` on.
struct PackedTile {
  void* data;
  int rows;  // of the whole tile
  int first;
};

struct Kernels {
  const char* name;   // as in MOE_CPU_ISA
  const char* needs;  // what the CPU must have
  // Columns of one weight panel; half of them are gate columns if the activation is gated.
  int panel_columns;
  std::span<const GemmKernel> gemm;  // in order of preference

  // Converts `count` values of any float dtype to float32.
  void (*to_f32)(DType dtype, const void* source, int64_t count, float* values);
  // Converts `count` float32 values to any float dtype, rounding to nearest even.
  void (*from_f32)(DType dtype, const float* values, int64_t count, void* target);
  // Stores the values of the codes of a row's values, perhaps in their place; `scales` receives
  // tokens.scales_of(count).
  void (*round_tokens)(const TokenScheme& tokens, const float* values, int64_t count, float* codes, float* scales);
  // Writes k values of one row into row `row` of a packed tile of `rows` rows: element k goes to [k / group][row][k %
  // group]. `padded_k` - k zeros follow.
  void (*pack_row)(Arithmetic arithmetic, DType dtype, const void* source, int64_t k, int64_t padded_k, void* tile,
                   int row, int rows);
  // Writes the first `count` columns of `rows` rows of a tile's result c into a packed tile, as elements first_k ..
  // first_k + count - 1. count and first_k are multiples of the k group.
  void (*pack_columns)(Arithmetic arithmetic, const float* c, int64_t first_k, int64_t count, int rows,
                       const PackedTile& target);
  // Writes `count` columns, from column `first` on, of k_group() rows of a matrix as the rows of a packed tile of
  // bf16_tiles.
  void (*pack_tile_transposed)(const void* const* rows, int64_t first, int count, void* tile);
  // Exchanges rows and columns of words of 32 bits: row r of `words` begins 4 r stride bytes after the first, and
  // becomes column r of target [columns, rows]. Both counts are multiples of panel_columns / 2.
  void (*transpose_words)(const void* words, int64_t stride, int64_t rows, int64_t columns, void* target);
  // Expands `steps` steps of a panel's units of a grid to codes, see cpu/gemm/grid_units.h. Null: panels have codes, as
  // looking up points would take longer than all else.
  void (*expand_grids)(Grid grid, const char* units, int64_t steps, char* codes) = nullptr;
  // Expands the scales of pairs of groups of a panel with units of a grid, see panel_levels().
  void (*expand_odd4)(const char* stored, int64_t pairs, char* scales) = nullptr;
  // Multiplies the rows of a tile's result c by their scales.
  void (*scale_rows)(const float* scales, int rows, float* c);
  // Copies the first `count` columns of a tile's result c to rows of a matrix that are `stride` values apart. If it
  // streams, past the caches: without reading the lines that are written. For matrices that no cache holds until they
  // are read.
  void (*store_rows)(const float* c, int rows, int64_t count, float* target, int64_t stride, bool streams);
  // After a thread's last streams, before other threads read the rows.
  void (*end_streams)();
  // In place on a tile's result: adds the panel's bias (null: none) and applies the activation. A gated activation
  // leaves panel_columns / 2 values at the start of each row of panel_columns.
  void (*activate)(Activation activation, ActivationPart part, const Clamp& clamp, const float* bias, float* c,
                   int rows);
  // The function that does this for ResultRows and stores what it leaves; null: there is none.
  Aside::Finish (*finishing)(Activation activation, ActivationPart part, ResultStorage storage);
  // As activate(), for columns of a row: computes `inner` of gate, up and multiplier; an activation without a gate
  // reads no up.
  void (*activate_columns)(Activation activation, const Clamp& clamp, int64_t count, ActivationColumns& columns);
  // Computes all results; without a gate, up must hold ones.
  void (*differentiate_columns)(Activation activation, const Clamp& clamp, int64_t count, ActivationColumns& columns);
  // Turns at most kGateTokens rows of logits [tokens, experts] into ids and weights [tokens, top_k]. The selection bias
  // [experts] may be null; `scratch` holds gate_scratch(experts) values. Returns how many rows have no finite logit.
  int32_t (*gate)(const float* logits, int32_t tokens, int32_t experts, const GatingRule& rule,
                  const float* selection_bias, int32_t* ids, float* weights, int32_t* scratch);
  // The same for experts `ids` that are given, in any order: their weights, by the same operations. An id out of range
  // is no expert; its weight is 0.
  int32_t (*weigh)(const float* logits, int32_t tokens, int32_t experts, const GatingRule& rule, const int32_t* ids,
                   float* weights, int32_t* scratch);
  // y[0 .. count - 1] = sum over j of weights[j] * rows[j][0 .. count - 1], in order of j. Null rows add nothing.
  void (*combine)(DType dtype, const void* const* rows, const float* weights, int32_t top_k, int64_t count, float* y);
  // The sum of a[i] * b[i], in an order that depends on `count` alone.
  float (*dot)(const float* a, const float* b, int64_t count);
  // Softmax in place. NaN counts as -infinity, whose share is 0. +infinity takes everything, in equal shares if there
  // are several. If nothing is above -infinity, all shares are 0.
  void (*softmax)(float* values, int32_t count);
  // One row of router logits: its softmax and, unless `scores` is null, scores [experts]. NaN and infinity are treated
  // as above; if the largest logit is infinite, so is the log-sum-exp.
  SoftmaxRow (*softmax_scores)(const float* logits, int64_t experts, float* scores);
  // Sigmoid scores [experts], 0 for NaN; with `normalize`, divided by their sum unless that is 0.
  void (*sigmoid_scores)(const float* logits, int64_t experts, bool normalize, float* scores);
  // For `count` values: deviation = ln(1 + e^spread) + epsilon, logits = clean + noise * deviation.
  void (*add_noise)(const float* clean, const float* spread, const float* noise, float epsilon, int64_t count,
                    float* logits, float* deviation);

  // Adds to sums the probability that each expert is among a token's top_k; see probability_in_top_k(). `scratch` holds
  // load_scratch(count) values.
  void (*add_load)(const float* clean, const float* noisy, const float* deviation, int32_t count, int32_t top_k,
                   double* sums, int32_t* scratch);
  // The numbers of kCountersAtOnce counters from `counter` on, kRandomLanes each.
  void (*draw)(uint64_t seed, Distribution distribution, uint64_t counter, float* numbers);

  PeakLoop f32_peak;
  PeakLoop bf16_peak;  // run is null if the CPU cannot multiply bfloat16
  PeakLoop int8_peak;  // of the fastest products of bytes
  // Reads memory once, as fast as one thread can.
  using ReadLoop = void (*)(const char* bytes, int64_t count);
  std::array<ReadLoop, 3> read_memory;  // which is fastest depends on the processor
};

// A key's bits above its inverted index.
inline int64_t keyed_index(float key, int32_t index) {
  return static_cast<int64_t>(uint64_t{float_bits(key)} << 32 | static_cast<uint32_t>(~index));
}
inline int32_t index_of(int64_t keyed) { return ~static_cast<int32_t>(keyed); }

// An integer that orders like the key: -0 equals 0, and NaN is below -infinity. Among equal keys the lower index is
// larger.
inline int64_t ranked(int64_t keyed) {
  const float key = float_from_bits(static_cast<uint32_t>(keyed >> 32)) + 0.0f;
  const int32_t bits = static_cast<int32_t>(float_bits(key));
  const int32_t rank = key != key ? INT32_MIN : bits ^ ((bits >> 31) & INT32_MAX);
  return static_cast<int64_t>(uint64_t{static_cast<uint32_t>(rank)} << 32 | static_cast<uint32_t>(keyed));
}

// Rounds up to whole cache lines of 32-bit values.
constexpr int64_t whole_lines(int64_t count) { return (count + 15) / 16 * 16; }
// Tokens per call of gate(), side by side in vectors.
constexpr int kGateTokens = 16;
// One token's candidates in order; for every token its keys, the chosen groups' keys, weights and groups.
constexpr int64_t gate_scratch(int64_t experts) { return (2 + 4 * kGateTokens) * whole_lines(experts); }
// The chosen experts, and one token's candidates in order.
constexpr int64_t load_scratch(int64_t experts) { return 3 * whole_lines(experts); }

}  // namespace moe::cpu
