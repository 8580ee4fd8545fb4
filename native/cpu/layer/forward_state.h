// The kept state of a forward.
#pragma once

#include <deque>

#include "core/layer/forward_state.h"
#include "cpu/layer/pass_state.h"
#include "cpu/runtime/memory.h"

namespace moe::cpu {

struct CpuForwardState final : ForwardState {
  // A pass takes one chunk of the tokens.
  struct Chunk {
    PassState state;
    std::deque<Buffer> memory;  // one buffer per call
  };

  Chunk& chunk(size_t index) {
    while (chunks.size() <= index) chunks.emplace_back();
    return chunks[index];
  }

  std::deque<Chunk> chunks;
};

}  // namespace moe::cpu
