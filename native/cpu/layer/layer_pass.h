// A pass of tokens through a layer: one parallel region from tokens to logits, to their routing or to outputs.
#pragma once

#include "cpu/layer/layer_weights.h"

namespace moe::cpu {

// Tokens of a call, and what is asked of them: `logits`, or else `y`, or else ids and weights.
struct LayerTokens {
  const char* x = nullptr;  // [count, hidden]
  DType dtype = DType::f32;
  int64_t count = 0;
  int64_t first = 0;         // place of the first one in the call
  int64_t choices = 0;       // chosen experts of each
  bool routed = false;       // whether ids and weights are given
  int32_t* ids = nullptr;    // [count, choices]
  float* weights = nullptr;  // [count, choices]
  float* logits = nullptr;   // [count, experts]
  char* y = nullptr;         // [count, hidden] like x

  LayerTokens part(int64_t begin, int64_t size, const LayerDescription& description) const;
};

// Adds to `times` what the stages took.
Status pass_through_layer(Context& context, const LayerDescription& description, const LayerWeights& weights,
                          const LayerTokens& tokens, StageTimes& times);

}  // namespace moe::cpu
