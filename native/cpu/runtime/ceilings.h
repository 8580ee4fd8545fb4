// What this machine can do at most, measured: the yardstick of the benchmarks.
#pragma once

#include "core/status.h"

namespace moe::cpu {

struct Ceilings {
  double f32_flops = 0;   // float32 multiply-adds, two operations each, a second
  double bf16_flops = 0;  // bfloat16 pair products, or 0 where the CPU has none
  double read_bytes = 0;  // streamed from memory, bytes a second
};

// All `threads` at once; takes about a second.
Status measure_ceilings(int threads, Ceilings* ceilings);

}  // namespace moe::cpu
