#include "cpu/layer.h"

#include <chrono>

#include "cpu/gating.h"
#include "cpu/product.h"
#include "cpu/sort.h"

namespace moe::cpu {

namespace {

// Rows (tokens times k) that are worked through at once: enough that the weights are read rarely, few enough that the
// workspace stays small.
constexpr int64_t kChunkRows = 32768;

double seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Copies a bias to float32 values at `target`, in a table that is made with the first bias.
void keep_bias(const Kernels& kernels, const TensorView& bias, int64_t table_size, int64_t at,
               std::vector<float>& table) {
  if (bias.absent()) return;
  table.resize(static_cast<size_t>(table_size), 0.0f);
  kernels.to_f32(bias.dtype, bias.data, bias.size(), table.data() + at);
}

const float* data_or_null(const std::vector<float>& values) { return values.empty() ? nullptr : values.data(); }

}  // namespace

// Memory of one chunk.
struct CpuLayer::Workspace {
  char* router_x;  // packed tiles of tokens
  float* logits;   // [tokens, experts]
  int32_t* ids;    // [tokens, k]
  float* weights;
  int32_t* offsets;        // [experts + 1]
  int32_t* token_of_row;   // [rows]
  int32_t* row_of_slot;    // [tokens, k]
  char* x;                 // packed tiles of rows
  char* h;                 // packed tiles of activations
  float* y;                // [rows, hidden]
  const void** slot_rows;  // [threads, k]
  float* line;             // [threads, hidden]
  float* gate;             // [threads, gate_scratch]
};

Status CpuLayer::create(const LayerDescription& description, Context& context, std::unique_ptr<Layer>* layer) {
  std::unique_ptr<CpuLayer> made(new CpuLayer(description, context));
  const auto pack = [&](int64_t experts, int64_t rows, int64_t columns, Activation activation,
                        std::unique_ptr<CpuPackedExperts>* packed) {
    const ExpertWeights weights{experts, rows, columns, description.weight_dtype, activation};
    return CpuPackedExperts::create(weights, context.kernels, context.team, context.poison, packed);
  };
  const auto& d = description;
  MOE_TRY(pack(1, d.experts, d.hidden, Activation::none, &made->router_));
  MOE_TRY(pack(d.experts, d.gate_up_rows(), d.hidden, d.activation, &made->gate_up_));
  MOE_TRY(pack(d.experts, d.hidden, d.intermediate, Activation::none, &made->down_));
  *layer = std::move(made);
  return {};
}

size_t CpuLayer::bytes() const {
  const size_t biases = router_bias_.size() + gate_up_bias_.size() + down_bias_.size();
  return router_->bytes() + gate_up_->bytes() + down_->bytes() + biases * sizeof(float);
}

Status CpuLayer::set_router(const TensorView& weight, const TensorView& bias) {
  keep_bias(context_.kernels, bias, description().experts, 0, router_bias_);
  return router_->set_expert(0, weight, {});
}

Status CpuLayer::set_expert(int64_t expert, const ExpertViews& weights) {
  const LayerDescription& d = description();
  const Kernels& kernels = context_.kernels;
  const bool gated = is_gated(d.activation);
  const int64_t rows = d.gate_up_rows();
  if (gated) keep_bias(kernels, weights.gate_bias, d.experts * rows, expert * rows, gate_up_bias_);
  keep_bias(kernels, weights.up_bias, d.experts * rows, (expert + 1) * rows - d.intermediate, gate_up_bias_);
  keep_bias(kernels, weights.down_bias, d.experts * d.hidden, expert * d.hidden, down_bias_);
  MOE_TRY(gated ? gate_up_->set_expert(expert, weights.gate, weights.up)
                : gate_up_->set_expert(expert, weights.up, {}));
  return down_->set_expert(expert, weights.down, {});
}

Status CpuLayer::route(const TensorView& x, const TensorView& ids, const TensorView& weights) {
  return run(x, nullptr, ids.as<int32_t>(), weights.as<float>(), false);
}

Status CpuLayer::forward(const LayerForward& f) {
  const bool routed = !f.ids.absent();
  return run(f.x, f.y.as<char>(), f.ids.as<int32_t>(), f.weights.as<float>(), routed);
}

int64_t CpuLayer::chunk_tokens() const { return std::max<int64_t>(1, kChunkRows / description().gating.top_k); }

Status CpuLayer::run(const TensorView& x, char* y, int32_t* ids, float* weights, bool routed) {
  const int64_t tokens = x.shape[0];
  const int64_t top_k = description().gating.top_k;
  const int64_t row_bytes = description().hidden * static_cast<int64_t>(info(x.dtype).bytes);
  StageTimes times;
  Status first_failure;
  for (int64_t first = 0; first < tokens; first += chunk_tokens()) {
    const Chunk chunk{
        x.as<const char>() + first * row_bytes,
        y == nullptr ? nullptr : y + first * row_bytes,
        std::min(chunk_tokens(), tokens - first),
        x.dtype,
        routed,
        ids == nullptr ? nullptr : ids + first * top_k,
        weights == nullptr ? nullptr : weights + first * top_k,
    };
    Status status = run_chunk(chunk, times);
    if (first_failure.ok()) first_failure = std::move(status);
  }
  if (y != nullptr) times_ = times;
  return first_failure;
}

void CpuLayer::take(Arena& arena, const Chunk& chunk, Workspace& w) const {
  const LayerDescription& d = description();
  const int64_t top_k = d.gating.top_k;
  const int64_t rows = chunk.tokens * top_k;
  const int64_t threads = context_.team.threads;
  const TileKernels& kernels = tile_kernels(context_.kernels, chunk.dtype, d.weight_dtype);
  if (!chunk.routed) {
    w.router_x = arena.take<char>(chunk.tokens * router_->layout().padded_k * static_cast<int64_t>(sizeof(float)));
    w.logits = arena.take<float>(chunk.tokens * d.experts);
    w.gate = arena.take<float>(threads * gate_scratch(d.experts));
  }
  w.ids = chunk.ids != nullptr ? chunk.ids : arena.take<int32_t>(rows);
  w.weights = chunk.weights != nullptr ? chunk.weights : arena.take<float>(rows);
  if (chunk.y == nullptr) return;
  w.offsets = arena.take<int32_t>(d.experts + 1);
  w.token_of_row = arena.take<int32_t>(rows);
  w.row_of_slot = arena.take<int32_t>(rows);
  w.x = arena.take<char>(rows * gate_up_->layout().padded_k * element_bytes(kernels.arithmetic));
  w.h = arena.take<char>(rows * down_->layout().padded_k * element_bytes(kernels.arithmetic));
  w.y = arena.take<float>(rows * d.hidden);
  w.slot_rows = arena.take<const void*>(threads * top_k);
  w.line = arena.take<float>(threads * d.hidden);
}

Status CpuLayer::run_chunk(const Chunk& chunk, StageTimes& times) {
  const LayerDescription& d = description();
  const Kernels& kernels = context_.kernels;
  const int64_t top_k = d.gating.top_k;
  const int threads = context_.team.threads;
  const int64_t element = static_cast<int64_t>(info(chunk.dtype).bytes);
  const TileKernels& expert_kernels = tile_kernels(kernels, chunk.dtype, d.weight_dtype);
  // Routing is float32 whatever x is.
  const TileKernels& router_kernels = tile_kernels(kernels, DType::f32, d.weight_dtype);

  Workspace w{};
  MOE_TRY(reserve_workspace(context_, [&](Arena& arena) { take(arena, chunk, w); }));

  const int32_t token_offsets[2] = {0, static_cast<int32_t>(chunk.tokens)};
  std::vector<RowTile> token_tiles, row_tiles;
  ProductPlan router_plan, gate_up_plan, down_plan;
  Product router{&kernels,     &router_kernels, router_.get(), w.router_x, data_or_null(router_bias_),
                 &token_tiles, &router_plan};
  Product gate_up{&kernels,   &expert_kernels, gate_up_.get(), w.x, data_or_null(gate_up_bias_),
                  &row_tiles, &gate_up_plan};
  Product down{&kernels, &expert_kernels, down_.get(), w.h, data_or_null(down_bias_), &row_tiles, &down_plan};
  const auto plan = [&](Product& product, ProductPlan& result) {
    const PanelLayout& layout = product.layout();
    result = plan_product(*product.tiles,
                          {layout.padded_k, layout.panels, element_bytes(product.tile_kernels->arithmetic), threads});
  };
  const auto pack_tile = [&](const Product& product, const RowTile& tile, char* packed, const int32_t* token_of_row) {
    char* target = packed + tile.first_row * product.x_row_bytes();
    for (int32_t r = 0; r < tile.rows; ++r) {
      const int64_t row = tile.first_row + r;
      const int64_t token = token_of_row == nullptr ? row : token_of_row[row];
      kernels.pack_row(product.tile_kernels->arithmetic, chunk.dtype, chunk.x + token * d.hidden * element, d.hidden,
                       product.layout().padded_k, target, r, tile.rows);
    }
  };

  if (!chunk.routed) {
    token_tiles = plan_tiles(token_offsets, 1, router_kernels.max_rows);
    plan(router, router_plan);
  }

  Status status;
  ItemQueue& queue = context_.queue;
  std::atomic<int64_t> not_finite{0};
  double stamp = seconds();
  const auto lap = [&stamp](double& stage) {
    const double now = seconds();
    stage += now - stamp;
    stamp = now;
  };
  // A phase's items are set up by one thread while the others wait.
  const auto begin_phase = [&queue](const Worker& worker, auto&& prepare) {
    worker.wait_for_all();
    if (worker.index == 0) queue.reset(prepare());
    worker.wait_for_all();
  };

  context_.team.run([&](const Worker& worker) {
    std::vector<float> scratch;
    const auto scratch_for = [&scratch](const Product& product) {
      scratch.resize(static_cast<size_t>(product.scratch_size()));
      return scratch.data();
    };

    if (!chunk.routed) {
      begin_phase(worker, [&] { return static_cast<int64_t>(token_tiles.size()); });
      for (int64_t i; (i = queue.next(worker.index)) >= 0;) pack_tile(router, token_tiles[i], w.router_x, nullptr);

      begin_phase(worker, [&] { return static_cast<int64_t>(router_plan.items.size()); });
      run_product(router, worker.index, queue, scratch_for(router),
                  [&](const RowTile& tile, int64_t panel, const float* c) {
                    const int64_t first = panel * router.layout().outputs_per_panel;
                    const int64_t count = std::min(router.layout().outputs_per_panel, d.experts - first);
                    for (int32_t r = 0; r < tile.rows; ++r) {
                      std::copy_n(c + r * router.layout().panel_columns, count,
                                  w.logits + (tile.first_row + r) * d.experts + first);
                    }
                  });

      constexpr int64_t kTokensAtOnce = 32;
      begin_phase(worker, [&] {
        lap(times.router);
        return ceil_divide(chunk.tokens, kTokensAtOnce);
      });
      const TensorView logits{w.logits, DType::f32, 2, {chunk.tokens, d.experts}};
      for (int64_t i; (i = queue.next(worker.index)) >= 0;) {
        const int64_t end = std::min(chunk.tokens, (i + 1) * kTokensAtOnce);
        not_finite += gate_rows(kernels, logits, d.gating, w.ids, w.weights, i * kTokensAtOnce, end,
                                w.gate + worker.index * gate_scratch(d.experts));
      }
    }
    if (chunk.y == nullptr) return;

    begin_phase(worker, [&] {
      lap(times.gating);
      status = sort_rows(w.ids, chunk.tokens, top_k, d.experts, {w.offsets, nullptr, w.token_of_row, w.row_of_slot});
      row_tiles = plan_tiles(w.offsets, d.experts, expert_kernels.max_rows);
      plan(gate_up, gate_up_plan);
      plan(down, down_plan);
      lap(times.sort);
      return static_cast<int64_t>(row_tiles.size());
    });
    for (int64_t i; (i = queue.next(worker.index)) >= 0;) pack_tile(gate_up, row_tiles[i], w.x, w.token_of_row);

    begin_phase(worker, [&] { return static_cast<int64_t>(gate_up_plan.items.size()); });
    run_product(gate_up, worker.index, queue, scratch_for(gate_up),
                [&](const RowTile& tile, int64_t panel, const float* c) {
                  const int64_t first = panel * gate_up.layout().outputs_per_panel;
                  const int64_t count = std::min(gate_up.layout().outputs_per_panel, down.layout().padded_k - first);
                  kernels.pack_columns(expert_kernels.arithmetic, c, first, count,
                                       w.h + tile.first_row * down.x_row_bytes(), tile.rows);
                });

    begin_phase(worker, [&] {
      lap(times.gate_up);
      return static_cast<int64_t>(down_plan.items.size());
    });
    run_product(down, worker.index, queue, scratch_for(down), [&](const RowTile& tile, int64_t panel, const float* c) {
      const int64_t first = panel * down.layout().outputs_per_panel;
      const int64_t count = std::min(down.layout().outputs_per_panel, d.hidden - first);
      for (int32_t r = 0; r < tile.rows; ++r) {
        std::copy_n(c + r * down.layout().panel_columns, count, w.y + (tile.first_row + r) * d.hidden + first);
      }
    });

    begin_phase(worker, [&] {
      lap(times.down);
      return chunk.tokens;
    });
    const void** rows = w.slot_rows + worker.index * top_k;
    float* line = w.line + worker.index * d.hidden;
    for (int64_t token; (token = queue.next(worker.index)) >= 0;) {
      for (int64_t j = 0; j < top_k; ++j) {
        const int32_t row = w.row_of_slot[token * top_k + j];
        rows[j] = row < 0 ? nullptr : w.y + row * d.hidden;
      }
      kernels.combine(DType::f32, rows, w.weights + token * top_k, static_cast<int32_t>(top_k), d.hidden, line);
      kernels.from_f32(chunk.dtype, line, d.hidden, chunk.y + token * d.hidden * element);
    }
  });
  lap(chunk.y == nullptr ? times.gating : times.combine);
  context_.warnings.non_finite_logit_rows += not_finite.load();
  return status;
}

}  // namespace moe::cpu
