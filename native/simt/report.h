// The text of reports.
#pragma once

#include <cstdint>
#include <string>

#include "simt/call.h"
#include "simt/intrinsics/vector_types.h"
#include "simt/scheduler.h"

namespace moe::simt::machine {

// "__syncthreads (native/gpu/routing/sort.cu:40)"
std::string call_text(const Call& call);
// "mask 0x0000ffff"
std::string mask_text(uint32_t mask);
// "0-3, 7"
std::string lanes_text(uint32_t lanes);
// "(1, 0, 0)"
std::string index_text(uint3 index);
// What the threads of a stuck block wait for: "threads 0-15 wait in ...; threads 16-31 have exited".
std::string waits_text(Scheduler& scheduler);

}  // namespace moe::simt::machine
