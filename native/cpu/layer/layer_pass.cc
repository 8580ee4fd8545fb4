#include "cpu/layer/layer_pass.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <vector>

#include "cpu/gemm/product.h"
#include "cpu/routing/gating.h"
#include "cpu/routing/sort.h"
#include "cpu/runtime/clock.h"

namespace moe::cpu {

namespace {

struct Workspace {
  char* token_tiles;       // packed tiles of tokens
  float* logits;           // [tokens, experts]
  float* shared_gate;      // [tokens, shared_gate_rows]
  int32_t* gate;           // [threads, gating_scratch]
  int32_t* ids;            // [tokens, choices]
  float* weights;          // [tokens, choices]
  int32_t* offsets;        // [all_experts + 1]
  int32_t* token_of_row;   // [rows]
  int32_t* row_of_slot;    // [tokens, slots]
  float* weight_of_row;    // [rows], where weights multiply the input
  char* row_tiles;         // packed tiles of rows
  float* factor;           // [rows, intermediate]
  char* inner_tiles;       // packed tiles of activations
  float* outputs;          // [rows, hidden]
  const void** slot_rows;  // [threads, slots]
  float* slot_weights;     // [threads, slots]
  float* line;             // [threads, hidden]
};

struct PlannedProduct {
  Product product;
  ProductPlan plan;
};

class LayerPass {
 public:
  LayerPass(Context& context, const LayerDescription& description, const LayerWeights& weights,
            const LayerTokens& tokens, StageTimes& times)
      : context_(context),
        kernels_(context.kernels),
        d_(description),
        weights_(weights),
        tokens_(tokens),
        times_(times),
        slots_(tokens.choices + description.shared_experts),
        routes_(!tokens.routed),
        gates_shared_(tokens.y != nullptr && description.shared_gate != SharedGate::none),
        token_kernels_(*choose_gemm(kernels_.gemm, DType::f32, *description.formats.router)),
        expert_kernels_(*choose_gemm(kernels_.gemm, tokens.dtype, *description.formats.up)) {}

  Status run();

 private:
  void take(Arena& arena);
  void plan(PlannedProduct& planned, const CpuPackedExperts& weights, const Buffer* bias, const char* x,
            const GemmKernel& kernels, const std::vector<RowTile>& tiles) const;
  void plan_rows();
  void work();

  // item(worker, index) of 0 .. count, on the threads that come. The phases follow one another on the calling thread.
  template <class Item>
  void for_items(int64_t count, const Work& work, Item&& item);
  template <class Store>
  void multiply(const PlannedProduct& planned, Store&& store);
  void multiply(const PlannedProduct& planned, float* results);

  void pack_token_tile(const RowTile& tile);
  void gate(const Worker& worker, int64_t first, int64_t end);
  void sort();
  void weigh_rows();
  void pack_row_tile(const Worker& worker, const RowTile& tile);
  void store_inner(const RowTile& tile, int64_t panel, float* c);
  void combine(const Worker& worker, int64_t token);
  const float* slot_weights(const Worker& worker, int64_t token);

  const char* token(int64_t index) const {
    return tokens_.x + index * d_.hidden * static_cast<int64_t>(info(tokens_.dtype).bytes);
  }
  void lap(Stage stage) {
    const double now = seconds();
    times_[stage] += now - stamp_;
    stamp_ = now;
  }

  Context& context_;
  const Kernels& kernels_;
  const LayerDescription& d_;
  const LayerWeights& weights_;
  const LayerTokens& tokens_;
  StageTimes& times_;
  const int64_t slots_;
  const bool routes_;
  const bool gates_shared_;
  // Routing is float32 whatever x is.
  const GemmKernel& token_kernels_;
  const GemmKernel& expert_kernels_;
  Workspace w_ = {};
  std::vector<RowTile> token_tiles_, row_tiles_;
  PlannedProduct router_, shared_gate_, factor_, gate_up_, down_;
  double stamp_ = 0;
  Status status_;
  std::atomic<int64_t> non_finite_rows_{0};
};

Status LayerPass::run() {
  MOE_TRY(reserve_workspace(context_, [this](Arena& arena) { take(arena); }));
  const int32_t offsets[2] = {0, static_cast<int32_t>(tokens_.count)};
  token_tiles_ = plan_tiles(offsets, 1, token_kernels_.max_rows);
  if (routes_) plan(router_, *weights_.router, &weights_.router_bias, w_.token_tiles, token_kernels_, token_tiles_);
  if (gates_shared_) {
    plan(shared_gate_, *weights_.shared_gate, &weights_.shared_gate_bias, w_.token_tiles, token_kernels_, token_tiles_);
  }
  stamp_ = seconds();
  work();
  lap(Stage::combine);
  context_.warnings.non_finite_logit_rows += non_finite_rows_.load();
  return std::move(status_);
}

void LayerPass::take(Arena& arena) {
  const int64_t tokens = tokens_.count;
  const int64_t rows = tokens * slots_;
  const int64_t threads = context_.team.threads;
  const auto tiles = [&arena](int64_t count, const CpuPackedExperts& weights, const GemmKernel& kernels) {
    return arena.take<char>(count * weights.layout().padded_k * element_bytes(kernels.arithmetic));
  };
  if (routes_ || gates_shared_) w_.token_tiles = tiles(tokens, *weights_.router, token_kernels_);
  if (gates_shared_) w_.shared_gate = arena.take<float>(tokens * d_.shared_gate_rows());
  if (routes_) w_.logits = tokens_.logits != nullptr ? tokens_.logits : arena.take<float>(tokens * d_.experts);
  if (tokens_.logits != nullptr) return;
  if (routes_) w_.gate = arena.take<int32_t>(threads * gating_scratch(d_.experts));
  w_.ids = tokens_.ids != nullptr ? tokens_.ids : arena.take<int32_t>(tokens * tokens_.choices);
  w_.weights = tokens_.weights != nullptr ? tokens_.weights : arena.take<float>(tokens * tokens_.choices);
  if (tokens_.y == nullptr) return;
  w_.offsets = arena.take<int32_t>(d_.all_experts() + 1);
  w_.token_of_row = arena.take<int32_t>(rows);
  w_.row_of_slot = arena.take<int32_t>(rows);
  if (d_.weight_on == WeightPlace::input) w_.weight_of_row = arena.take<float>(rows);
  w_.row_tiles = tiles(rows, *weights_.gate_up, expert_kernels_);
  if (d_.factor) w_.factor = arena.take<float>(rows * d_.intermediate);
  w_.inner_tiles = tiles(rows, *weights_.down, expert_kernels_);
  w_.outputs = arena.take<float>(rows * d_.hidden);
  w_.slot_rows = arena.take<const void*>(threads * slots_);
  w_.slot_weights = arena.take<float>(threads * slots_);
  w_.line = arena.take<float>(threads * d_.hidden);
}

void LayerPass::plan(PlannedProduct& planned, const CpuPackedExperts& weights, const Buffer* bias, const char* x,
                     const GemmKernel& kernels, const std::vector<RowTile>& tiles) const {
  const PanelLayout& layout = weights.layout();
  planned.plan = plan_product(
      tiles, {layout.padded_k, layout.step, layout.panels, element_bytes(kernels.arithmetic), context_.team.threads});
  planned.product = {&kernels_, &kernels,     &weights, x, bias == nullptr ? nullptr : floats(*bias),
                     &tiles,    &planned.plan};
}

void LayerPass::plan_rows() {
  row_tiles_ = plan_tiles(w_.offsets, d_.all_experts(), expert_kernels_.max_rows);
  if (d_.factor) plan(factor_, *weights_.factor, nullptr, w_.row_tiles, expert_kernels_, row_tiles_);
  plan(gate_up_, *weights_.gate_up, &weights_.gate_up_bias, w_.row_tiles, expert_kernels_, row_tiles_);
  plan(down_, *weights_.down, &weights_.down_bias, w_.inner_tiles, expert_kernels_, row_tiles_);
}

void LayerPass::work() {
  const double tokens = static_cast<double>(tokens_.count);
  const double line_bytes = 8.0 * static_cast<double>(d_.hidden);  // an element read and written
  if (routes_ || gates_shared_) {
    for_items(std::ssize(token_tiles_), {.bytes = tokens * line_bytes},
              [&](const Worker&, int64_t i) { pack_token_tile(token_tiles_[i]); });
  }
  if (routes_) multiply(router_, w_.logits);
  if (gates_shared_) multiply(shared_gate_, w_.shared_gate);
  if (tokens_.logits != nullptr) return;

  lap(Stage::router);
  if (routes_) {
    constexpr int64_t kTokensAtOnce = 32;
    // Some 30 operations a logit: an exponential, comparisons, its part in the choice.
    const Work work{.operations = 30 * tokens * static_cast<double>(d_.experts)};
    for_items(ceil_divide(tokens_.count, kTokensAtOnce), work, [&](const Worker& worker, int64_t i) {
      gate(worker, i * kTokensAtOnce, std::min(tokens_.count, (i + 1) * kTokensAtOnce));
    });
    lap(Stage::gating);
  }
  if (tokens_.y == nullptr) return;

  sort();
  plan_rows();
  lap(Stage::sort);
  const double rows = tokens * static_cast<double>(slots_);
  for_items(std::ssize(row_tiles_), {.bytes = rows * line_bytes},
            [&](const Worker& worker, int64_t i) { pack_row_tile(worker, row_tiles_[i]); });
  if (d_.factor) multiply(factor_, w_.factor);
  multiply(gate_up_, [&](const RowTile& tile, int64_t panel, float* c) { store_inner(tile, panel, c); });
  lap(Stage::gate_up);
  multiply(down_, w_.outputs);
  lap(Stage::down);
  for_items(tokens_.count, {.bytes = rows * line_bytes}, [&](const Worker& worker, int64_t i) { combine(worker, i); });
}

template <class Item>
void LayerPass::for_items(int64_t count, const Work& work, Item&& item) {
  context_.queue.reset(count);
  context_.team.share(count, work, [&](const Worker& worker) {
    for (int64_t i; (i = context_.queue.next(worker.index)) >= 0;) item(worker, i);
  });
}

template <class Store>
void LayerPass::multiply(const PlannedProduct& planned, Store&& store) {
  context_.queue.reset(std::ssize(planned.plan.items));
  context_.team.share(std::ssize(planned.plan.items), planned.product.work(), [&](const Worker& worker) {
    // Of unfinished tiles; kept by the thread, since a layer's products follow one another.
    thread_local std::vector<float> sums;
    sums.resize(std::max(sums.size(), static_cast<size_t>(planned.product.scratch_size())));
    run_product(planned.product, worker.index, context_.queue, sums.data(), store);
  });
}

// The results as a matrix [rows, outputs].
void LayerPass::multiply(const PlannedProduct& planned, float* results) {
  const PanelLayout& layout = planned.product.layout();
  const int64_t outputs = planned.product.weights->weights().outputs();
  multiply(planned, [&](const RowTile& tile, int64_t panel, const float* c) {
    const int64_t first = panel * layout.outputs_per_panel;
    const int64_t count = std::min(layout.outputs_per_panel, outputs - first);
    for (int32_t r = 0; r < tile.rows; ++r) {
      std::copy_n(c + r * layout.panel_columns, count, results + (tile.first_row + r) * outputs + first);
    }
  });
}

void LayerPass::pack_token_tile(const RowTile& tile) {
  const int64_t padded_k = weights_.router->layout().padded_k;
  char* target = w_.token_tiles + tile.first_row * padded_k * element_bytes(token_kernels_.arithmetic);
  for (int32_t r = 0; r < tile.rows; ++r) {
    kernels_.pack_row(token_kernels_.arithmetic, tokens_.dtype, token(tile.first_row + r), d_.hidden, padded_k, target,
                      r, tile.rows);
  }
}

void LayerPass::gate(const Worker& worker, int64_t first, int64_t end) {
  const TensorView logits{w_.logits, DType::f32, 2, {tokens_.count, d_.experts}};
  non_finite_rows_ += gate_rows(kernels_, logits, d_.gating, floats(weights_.selection_bias), w_.ids, w_.weights, first,
                                end, w_.gate + worker.index * gating_scratch(d_.experts));
}

void LayerPass::sort() {
  status_ =
      sort_rows({"forward: ids", w_.ids, tokens_.count, tokens_.choices, d_.experts, d_.shared_experts, tokens_.first},
                {w_.offsets, nullptr, w_.token_of_row, w_.row_of_slot});
  if (d_.weight_on == WeightPlace::input) weigh_rows();
}

// Gives every row its slot's weight; shared experts' have weight 1.
void LayerPass::weigh_rows() {
  for (int64_t token = 0; token < tokens_.count; ++token) {
    for (int64_t j = 0; j < slots_; ++j) {
      const int32_t row = w_.row_of_slot[token * slots_ + j];
      if (row >= 0) w_.weight_of_row[row] = j < tokens_.choices ? w_.weights[token * tokens_.choices + j] : 1.0f;
    }
  }
}

void LayerPass::pack_row_tile(const Worker& worker, const RowTile& tile) {
  const int64_t padded_k = weights_.gate_up->layout().padded_k;
  const Arithmetic arithmetic = expert_kernels_.arithmetic;
  char* target = w_.row_tiles + tile.first_row * padded_k * element_bytes(arithmetic);
  float* line = w_.line + worker.index * d_.hidden;
  for (int32_t r = 0; r < tile.rows; ++r) {
    const int64_t row = tile.first_row + r;
    const char* x = token(w_.token_of_row[row]);
    if (w_.weight_of_row == nullptr) {
      kernels_.pack_row(arithmetic, tokens_.dtype, x, d_.hidden, padded_k, target, r, tile.rows);
      continue;
    }
    kernels_.to_f32(tokens_.dtype, x, d_.hidden, line);
    for (int64_t h = 0; h < d_.hidden; ++h) line[h] *= w_.weight_of_row[row];
    kernels_.pack_row(arithmetic, DType::f32, line, d_.hidden, padded_k, target, r, tile.rows);
  }
}

// Packs one panel's activations, times the factor, for the second product.
void LayerPass::store_inner(const RowTile& tile, int64_t panel, float* c) {
  const PanelLayout& layout = gate_up_.product.layout();
  const int64_t first = panel * layout.outputs_per_panel;
  if (d_.factor) {
    const int64_t count = std::min(layout.outputs_per_panel, d_.intermediate - first);
    for (int32_t r = 0; r < tile.rows; ++r) {
      const float* factor = w_.factor + (tile.first_row + r) * d_.intermediate + first;
      for (int64_t i = 0; i < count; ++i) c[r * layout.panel_columns + i] *= factor[i];
    }
  }
  const int64_t count = std::min(layout.outputs_per_panel, down_.product.layout().padded_k - first);
  kernels_.pack_columns(expert_kernels_.arithmetic, c, first, count,
                        w_.inner_tiles + tile.first_row * down_.product.x_row_bytes(), tile.rows);
}

void LayerPass::combine(const Worker& worker, int64_t token) {
  const void** rows = w_.slot_rows + worker.index * slots_;
  float* line = w_.line + worker.index * d_.hidden;
  for (int64_t j = 0; j < slots_; ++j) {
    const int32_t row = w_.row_of_slot[token * slots_ + j];
    rows[j] = row < 0 ? nullptr : w_.outputs + row * d_.hidden;
    // Every row is one slot's, so no other thread has it.
    if (row >= 0 && d_.output_activation == OutputActivation::softmax) {
      kernels_.softmax(w_.outputs + row * d_.hidden, static_cast<int32_t>(d_.hidden));
    }
  }
  kernels_.combine(DType::f32, rows, slot_weights(worker, token), static_cast<int32_t>(slots_), d_.hidden, line);
  kernels_.from_f32(tokens_.dtype, line, d_.hidden,
                    tokens_.y + token * d_.hidden * static_cast<int64_t>(info(tokens_.dtype).bytes));
}

// What the outputs of a token's slots are multiplied by.
const float* LayerPass::slot_weights(const Worker& worker, int64_t token) {
  float* all = w_.slot_weights + worker.index * slots_;
  if (d_.weight_on == WeightPlace::input) {
    std::fill_n(all, slots_, 1.0f);
    return all;
  }
  const float* chosen = w_.weights + token * tokens_.choices;
  if (d_.shared_experts == 0) return chosen;
  float routed = 1.0f, shared = 1.0f;
  float* gate = w_.shared_gate + token * d_.shared_gate_rows();
  if (d_.shared_gate == SharedGate::sigmoid) {
    shared = 1.0f / (1.0f + std::exp(-gate[0]));
  } else if (d_.shared_gate == SharedGate::softmax) {
    kernels_.softmax(gate, 2);
    routed = gate[0];
    shared = gate[1];
  }
  for (int64_t j = 0; j < tokens_.choices; ++j) all[j] = chosen[j] * routed;
  std::fill(all + tokens_.choices, all + slots_, shared);
  return all;
}

}  // namespace

LayerTokens LayerTokens::part(int64_t begin, int64_t size, const LayerDescription& description) const {
  const auto from = [begin](auto* values, int64_t per_token) {
    return values == nullptr ? nullptr : values + begin * per_token;
  };
  const int64_t row_bytes = description.hidden * static_cast<int64_t>(info(dtype).bytes);
  LayerTokens some = *this;
  some.x = from(x, row_bytes);
  some.count = size;
  some.first = first + begin;
  some.ids = from(ids, choices);
  some.weights = from(weights, choices);
  some.logits = from(logits, description.experts);
  some.y = from(y, row_bytes);
  return some;
}

Status pass_through_layer(Context& context, const LayerDescription& description, const LayerWeights& weights,
                          const LayerTokens& tokens, StageTimes& times) {
  return LayerPass(context, description, weights, tokens, times).run();
}

}  // namespace moe::cpu
