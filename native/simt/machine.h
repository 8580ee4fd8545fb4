// What the intrinsics and ptx functions need from the machine that runs the current CUDA thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "simt/call.h"

namespace moe::simt::machine {

// Ends the launch with a report that names the kernel, the block, the thread and this call.
[[noreturn]] void fail(const Call& call, const std::string& message);

// A call that the lanes of a warp make together. Once all have arrived, `perform` gets one operand per lane in the
// mask, indexed by lane, and leaves the results in the operands.
struct Collective {
  const char* name;
  // All lanes must make the same call in the source, as PTX requires for .aligned.
  bool aligned;
  // Earlier writes by the lanes are visible to all of them afterwards.
  bool orders_memory;
  void (*perform)(const Call& call, uint32_t mask, void* const* operands);
};
void meet(const Collective& collective, const std::source_location& where, uint32_t mask, void* operand);

// A block's barriers, 0 to 15. `threads`, a multiple of 32, take part; returns how many passed a true predicate.
constexpr int kBarriers = 16;
int sync(const Call& call, int barrier, unsigned threads, bool predicate);
// Counts as arrived, without waiting.
void arrive(const Call& call, int barrier, unsigned threads);
unsigned block_size();
unsigned lane();

// The block's shared memory.
std::byte* dynamic_shared(const Call& call, size_t alignment);
std::byte* static_shared(const Call& call, const void* tag, size_t bytes, size_t alignment);

// Fail unless the access is aligned to its size and in the instruction's state space.
void check_aligned(const Call& call, const void* address, size_t alignment);
void check_shared(const Call& call, const void* address, size_t bytes);
void check_global(const Call& call, const void* address, size_t bytes);
// Of an atomic function, which takes global and shared memory alike.
void check_atomic(const Call& call, const void* address, size_t bytes);

void copy_async(const Call& call, void* shared, const void* global, size_t bytes, size_t source_bytes);
void copy_async_commit();
// Say that the running thread was the last to write to shared memory, or will be: by a copy that it has not waited for.
void note_write(const void* shared);
void note_copy(const void* shared);
// Where 16 bytes are in dynamic shared memory.
uint32_t dynamic_offset(const Call& call, const void* shared);
// fence.proxy.async
void fence_proxy_async();
// Reads dynamic shared memory as the asynchronous proxy does. Fails if a thread's write is not visible to it.
void read_async(const Call& call, size_t offset, std::byte* bytes, size_t count);
void copy_async_wait(size_t pending_groups);

// Called after every atomic operation. One that leaves memory unchanged may be how a thread waits for another: the
// block's other threads run, and the launch fails if polling is all that they do for long.
void polled(const Call& call, bool unchanged);

}  // namespace moe::simt::machine
