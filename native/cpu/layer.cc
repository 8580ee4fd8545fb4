#include "cpu/layer.h"

#include <algorithm>
#include <chrono>
#include <string>

#include "cpu/gating.h"
#include "cpu/product.h"
#include "cpu/sort.h"

namespace moe::cpu {

namespace {

// Rows (tokens times k) that are worked through at once: enough that the weights are read rarely, few enough that the
// workspace stays small.
constexpr int64_t kChunkRows = 32768;

double seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

float* floats(const Buffer& buffer) { return reinterpret_cast<float*>(buffer.data()); }

// The part of this name, or null.
const WeightPart* find_part(const std::vector<WeightPart>& parts, const char* name) {
  const auto part = std::find_if(parts.begin(), parts.end(), [&](const WeightPart& p) { return p.name == name; });
  return part == parts.end() ? nullptr : &*part;
}

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
  int32_t* gate;           // [threads, gating_scratch]
};

Status CpuLayer::create(const LayerDescription& description, Context& context, std::unique_ptr<Layer>* layer) {
  std::unique_ptr<CpuLayer> made(new CpuLayer(description, context));
  for (const PackedPart& part : made->packed_parts()) {
    MOE_TRY(CpuPackedExperts::create(part.weights, context.kernels, context.team, context.poison, part.packed));
  }
  *layer = std::move(made);
  return {};
}

Status CpuLayer::over(const std::vector<WeightPart>& parts, const LayerDescription& description, Context& context,
                      std::unique_ptr<Layer>* layer) {
  std::unique_ptr<CpuLayer> made(new CpuLayer(description, context));
  made->weights_are_stored_ = true;
  size_t known = 0;
  for (const PackedPart& part : made->packed_parts()) {
    const WeightPart* stored = find_part(parts, part.name);
    if (stored == nullptr) return {Code::invalid_argument, std::string("stored weights: expected ") + part.name};
    MOE_TRY(CpuPackedExperts::over(*stored, part.weights, context.kernels, context.team, part.packed));
    ++known;
  }
  for (const BiasPart& part : made->bias_parts()) {
    const WeightPart* stored = find_part(parts, part.name);
    if (stored == nullptr) continue;
    MOE_TRY(borrow_part(*stored, part.bytes(), *part.values));
    ++known;
  }
  if (known != parts.size()) return {Code::invalid_argument, "stored weights: expected no parts but those of a layer"};
  *layer = std::move(made);
  return {};
}

std::array<CpuLayer::PackedPart, 3> CpuLayer::packed_parts() {
  const LayerDescription& d = description();
  const DType dtype = d.weight_dtype;
  return {{
      {"router", &router_, {1, d.experts, d.hidden, dtype, Activation::none}},
      {"gate_up", &gate_up_, {d.experts, d.gate_up_rows(), d.hidden, dtype, d.activation, d.clamp}},
      {"down", &down_, {d.experts, d.hidden, d.intermediate, dtype, Activation::none}},
  }};
}

std::array<CpuLayer::BiasPart, 3> CpuLayer::bias_parts() {
  const LayerDescription& d = description();
  return {{
      {"router_bias", &router_bias_, d.experts},
      {"gate_up_bias", &gate_up_bias_, d.experts * d.gate_up_rows()},
      {"down_bias", &down_bias_, d.experts * d.hidden},
  }};
}

std::vector<WeightPart> CpuLayer::parts() {
  std::vector<WeightPart> parts;
  for (const PackedPart& part : packed_parts()) {
    parts.push_back({part.name, (*part.packed)->data(), (*part.packed)->bytes()});
  }
  for (const BiasPart& part : bias_parts()) {
    if (part.values->data() != nullptr) parts.push_back({part.name, part.values->data(), part.values->bytes()});
  }
  return parts;
}

size_t CpuLayer::bytes() const {
  return router_->bytes() + gate_up_->bytes() + down_->bytes() + router_bias_.bytes() + gate_up_bias_.bytes() +
         down_bias_.bytes();
}

// Copies a bias to float32 values that begin at index `at` of its part, which is made with the first bias.
Status CpuLayer::keep_bias(const BiasPart& part, const MatrixView& bias, int64_t at) {
  if (bias.absent()) return {};
  if (part.values->data() == nullptr) {
    MOE_TRY(part.values->reserve(static_cast<size_t>(part.bytes()), false));
    std::fill_n(part.values->data(), part.bytes(), 0);
  }
  read_row(context_.kernels, bias, 0, 0, bias.columns, floats(*part.values) + at);
  return {};
}

Status CpuLayer::check_settable() const {
  if (!weights_are_stored_) return {};
  return {Code::unsupported_operation, "layer: its weights are stored elsewhere and cannot be set"};
}

Status CpuLayer::set_router(const MatrixView& weight, const MatrixView& bias) {
  MOE_TRY(check_settable());
  MOE_TRY(keep_bias(bias_parts()[0], bias, 0));
  return router_->set_expert(0, weight, {});
}

Status CpuLayer::set_expert(int64_t expert, const ExpertViews& weights) {
  MOE_TRY(check_settable());
  const LayerDescription& d = description();
  const bool gated = is_gated(d.activation);
  const int64_t rows = d.gate_up_rows();
  const auto [router_bias, gate_up_bias, down_bias] = bias_parts();
  if (gated) MOE_TRY(keep_bias(gate_up_bias, weights.gate_bias, expert * rows));
  MOE_TRY(keep_bias(gate_up_bias, weights.up_bias, (expert + 1) * rows - d.intermediate));
  MOE_TRY(keep_bias(down_bias, weights.down_bias, expert * d.hidden));
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
    w.gate = arena.take<int32_t>(threads * gating_scratch(d.experts));
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
  Product router{&kernels,     &router_kernels, router_.get(), w.router_x, floats(router_bias_),
                 &token_tiles, &router_plan};
  Product gate_up{&kernels, &expert_kernels, gate_up_.get(), w.x, floats(gate_up_bias_), &row_tiles, &gate_up_plan};
  Product down{&kernels, &expert_kernels, down_.get(), w.h, floats(down_bias_), &row_tiles, &down_plan};
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
                                w.gate + worker.index * gating_scratch(d.experts));
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
