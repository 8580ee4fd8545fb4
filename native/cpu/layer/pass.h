// One pass of tokens through stages of a layer.
#pragma once

#include <atomic>

#include "cpu/gemm/row_packer.h"
#include "cpu/gemm/run_product.h"
#include "cpu/layer/layer_weights.h"
#include "cpu/layer/offload.h"
#include "cpu/layer/pass_state.h"

namespace moe::cpu {

// The tokens of a pass and the caller's arrays for them; null: not given.
struct LayerTokens {
  const char* x = nullptr;  // [count, hidden]
  DType dtype = DType::f32;
  int64_t count = 0;
  int64_t first = 0;               // the first token's index within the call
  int64_t choices = 0;             // experts chosen for each
  int32_t* ids = nullptr;          // [count, choices]
  float* weights = nullptr;        // [count, choices]
  float* logits = nullptr;         // [count, experts]
  const char* residual = nullptr;  // [count, hidden]
  DType residual_dtype = DType::f32;
  char* y = nullptr;  // [count, hidden] like x
  // As those of a LayerForward; then these are all tokens of the call.
  TensorView pre, multiplied;

  LayerTokens part(int64_t begin, int64_t size, const LayerDescription& description) const;
};

// Tokens rounded to codes, once for all experts and all products that round them so.
struct RoundedTokens {
  bf16* codes = nullptr;    // [tokens, hidden]
  float* scales = nullptr;  // [tokens, scales_per_row()]
  TokenScheme scheme = {};  // that they have; at first none
};

// A matrix of the layer as one product reads it.
struct Operand {
  const CpuPackedExperts& weights;
  const GemmKernel& gemm;
  const float* bias = nullptr;  // the first expert's
  int64_t bias_stride = 0;      // to the next expert's

  int64_t row_bytes() const { return packed_row_bytes(gemm, weights.layout()); }
  // Whether a row of x is packed only when all of its elements are known.
  bool needs_whole_rows() const { return !weights.inputs().as_they_are() || !packs_pieces(gemm.arithmetic); }
};

// Rows of x, as tiles; see Product.
struct TiledRows {
  const std::vector<RowTile>& tiles;
  const TilePacker* packer = nullptr;
  PackedRows packed = {};
};

// What stages take memory from: for what they leave, and for themselves.
struct StageMemory {
  Arena state, scratch;
};

class Pass {
 public:
  // `state` holds what the stages of earlier passes over these tokens have left. `offload` is null if all experts stay
  // in memory.
  Pass(Context& context, const LayerDescription& layer, const LayerWeights& weights, const LayerTokens& tokens,
       Stages stages, PassState& state, OffloadedPass* offload)
      : context(context),
        kernels(context.kernels),
        layer(layer),
        weights(weights),
        tokens(tokens),
        stages(stages),
        slots(layer.slots(tokens.choices)),
        state(state),
        offload(offload) {}

  // What the stages leave lies in `kept`, or where that is null in the workspace, until the next operator.
  Status run(StageTimes& times, Buffer* kept);

  int64_t threads() const { return context.team.threads; }
  int64_t most_rows() const { return tokens.count * slots; }
  const char* token(int64_t index) const {
    return tokens.x + index * layer.hidden * static_cast<int64_t>(info(tokens.dtype).bytes);
  }
  // The product of tokens of this dtype with these weights.
  Operand operand(const CpuPackedExperts& packed, DType dtype, const float* bias = nullptr,
                  int64_t bias_stride = 0) const {
    const GemmKernel* gemm = choose_gemm(kernels.gemm, packed.inputs().as_read(dtype), *packed.weights().format);
    return {packed, *gemm, bias, bias_stride};
  }

  // The down product of a group of experts.
  Operand down(const LayerWeights::Group& group) const;
  // The product of the tokens with the weights of a router or gate, in float32.
  Operand projection(const CpuPackedExperts& packed, const float* bias) const {
    return operand(packed, float32_tokens(kernels.gemm, tokens.dtype, *packed.weights().format), bias);
  }
  // Calls item(worker, index) for 0 .. count - 1, on the threads that come.
  template <class Item>
  void for_items(int64_t count, const Work& work, Item&& item) {
    context.queue.reset(count);
    context.team.share(count, work, [&](const Worker& worker) {
      for (int64_t i; (i = context.queue.next(worker.index)) >= 0;) item(worker, i);
    });
  }
  // Stores results directly, or calls store(TileResults), for all rows of x and panels of the weights; see
  // run_product().
  template <class Store>
  Status multiply(const Operand& operand, const TiledRows& x, const RowsBefore& before, const DirectResults& direct,
                  Store&& store) {
    const auto product = [&](const std::vector<RowTile>& tiles) -> Status {
      MOE_TRY(operand.weights.check(tiles));
      return run_product(context,
                         {.kernels = &kernels,
                          .gemm = &operand.gemm,
                          .weights = &operand.weights,
                          .rows = x.packed,
                          .packer = x.packer,
                          .bias = operand.bias,
                          .bias_stride = operand.bias_stride,
                          .before = before,
                          .direct = direct,
                          .tiles = &tiles,
                          .plan = {}},
                         store);
    };
    const bool offloaded = offload != nullptr && offload->includes(operand.weights);
    return offloaded ? offload->run_rounds(x.tiles, product) : product(x.tiles);
  }
  // The same, stored as a matrix [rows, outputs].
  Status multiply(const Operand& operand, const TiledRows& x, const RowsBefore& before, float* results);
  // The tokens times these weights.
  Status project(const Operand& operand, float* results);

  Context& context;
  const Kernels& kernels;
  const LayerDescription& layer;
  const LayerWeights& weights;
  const LayerTokens& tokens;
  const Stages stages;
  const int64_t slots;  // per token: its choices and the shared experts
  PassState& state;
  OffloadedPass* const offload;
  // An error found in the data, reported after the pass.
  Status data_error;
  std::atomic<int64_t> non_finite_rows{0};

  // Memory that stages use internally.
  struct {
    RoundedTokens rounded;
    int32_t* gating = nullptr;    // [threads, gating_scratch]
    float* gate = nullptr;        // [rows, intermediate], if gate and up are separate products
    float* multiplier = nullptr;  // [rows, intermediate]
    RowLines input_lines, inner_lines;
    float* line = nullptr;             // [threads, hidden]
    float* residual = nullptr;         // [threads, hidden], if there is one
    const void** slot_rows = nullptr;  // [threads, slots]
    float* slot_weights = nullptr;     // [threads, slots]
  } scratch;

 private:
  Status reserve(Buffer* kept);
  void take(StageMemory& memory);
};

}  // namespace moe::cpu
