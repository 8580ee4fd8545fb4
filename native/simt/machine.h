// What the intrinsics and the ptx functions ask of the machine that runs the current CUDA thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "simt/call.h"

namespace moe::simt::machine {

// Ends the launch with a report that names the kernel, the block, the thread and this call.
[[noreturn]] void fail(const Call& call, const std::string& message);

// A call that the lanes of a warp make together. `perform` sees one operand of each lane in the mask, by lane, once all
// have come, and leaves the results in them.
struct Collective {
  const char* name;
  // All lanes must make the same call in the source, as PTX demands where it says .aligned.
  bool aligned;
  // What lanes wrote before is visible to the others after.
  bool orders_memory;
  void (*perform)(const Call& call, uint32_t mask, void* const* operands);
};
void meet(const Collective& collective, const std::source_location& where, uint32_t mask, void* operand);

// The barriers of a block, 0 to 15. `threads` take part, a multiple of 32; returns how many brought a true predicate.
constexpr int kBarriers = 16;
int sync(const Call& call, int barrier, unsigned threads, bool predicate);
// Counts as come, without waiting.
void arrive(const Call& call, int barrier, unsigned threads);
unsigned block_size();
unsigned lane();

// Shared memory of the block.
std::byte* dynamic_shared(const Call& call, size_t alignment);
std::byte* static_shared(const Call& call, const void* tag, size_t bytes, size_t alignment);

// Fail unless the access is aligned to its size and in the state space that the instruction is for.
void check_aligned(const Call& call, const void* address, size_t alignment);
void check_shared(const Call& call, const void* address, size_t bytes);
void check_global(const Call& call, const void* address, size_t bytes);

void copy_async(const Call& call, void* shared, const void* global, size_t bytes, size_t source_bytes);
void copy_async_commit();
void copy_async_wait(size_t pending_groups);

// __threadfence and its like.
void fence();

}  // namespace moe::simt::machine
