// The most that this machine can do, measured: the yardstick of the benchmarks.
#pragma once

#include "core/status.h"
#include "cpu/isa/kernels.h"

namespace moe::cpu {

struct Ceilings {
  double f32_flops = 0;   // float32 multiply-adds per second, two operations each
  double bf16_flops = 0;  // the same of bfloat16, if the CPU can multiply it; else 0
  double int8_ops = 0;    // the same of bytes
  double read_bytes = 0;  // bytes per second, streamed from memory
};

// Measures these kernels on all `threads` at once, each ceiling for about `time` seconds. 0.3 seconds are much longer
// than it takes to start threads, and enough for clocks and power to settle.
Status measure_ceilings(const Kernels& kernels, int threads, double time, Ceilings* ceilings);
// The last of them alone.
Status measure_read_rate(const Kernels& kernels, int threads, double time, double* bytes_per_second);

}  // namespace moe::cpu
