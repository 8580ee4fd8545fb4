// What the stages of a pass leave for later ones.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/gemm/plan.h"

namespace moe::cpu {

// The arrays belong to whoever runs the pass. By default they are in the device's workspace, valid until the next
// operator.
struct ForwardState {
  float* logits = nullptr;          // [tokens, experts], from router
  float* shared_gate = nullptr;     // [tokens, shared_gate_rows], from shared_gate
  int32_t* ids = nullptr;           // [tokens, choices] and
  float* weights = nullptr;         // [tokens, choices], from gating
  int32_t* offsets = nullptr;       // [all_experts + 1]; this and the next four are from sort
  int32_t* token_of_row = nullptr;  // [rows]
  int32_t* row_of_slot = nullptr;   // [tokens, slots]
  float* weight_of_row = nullptr;   // [rows], if weights multiply the input
  std::vector<RowTile> row_tiles;   // one expert each
  char* inner_tiles = nullptr;      // packed tiles of activations, from gate_up
  float* outputs = nullptr;         // [rows, hidden], from down
};

}  // namespace moe::cpu
