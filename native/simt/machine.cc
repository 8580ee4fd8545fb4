#include "simt/machine.h"

#include <algorithm>

#include "simt/multiprocessor.h"
#include "simt/sanitizer.h"

namespace moe::simt::machine {

void fail(const Call& call, const std::string& message) { Multiprocessor::current().fail(call, message); }

int sync(const Call& call, int barrier, unsigned threads, bool predicate) {
  Multiprocessor& processor = Multiprocessor::current();
  return processor.barrier(call, barrier, threads).sync(processor.scheduler(), call, threads, predicate);
}

void arrive(const Call& call, int barrier, unsigned threads) {
  Multiprocessor& processor = Multiprocessor::current();
  processor.barrier(call, barrier, threads).arrive(processor.scheduler(), call, threads);
}

unsigned block_size() { return Multiprocessor::current().scheduler().size(); }

unsigned lane() { return Multiprocessor::current().scheduler().current().lane(); }

std::byte* dynamic_shared(const Call& call, size_t alignment) {
  SharedMemory& shared = Multiprocessor::current().shared();
  check_aligned(call, shared.dynamic(), alignment);
  return shared.dynamic();
}

std::byte* static_shared(const Call& call, const void* tag, size_t bytes, size_t alignment) {
  SharedMemory& shared = Multiprocessor::current().shared();
  std::byte* storage = shared.fixed(tag, bytes, alignment);
  if (storage == nullptr) {
    fail(call, std::to_string(bytes) + " bytes more than fit beside " + std::to_string(shared.dynamic_bytes()) +
                   " dynamic ones into the " + std::to_string(shared.limit()) +
                   " bytes of shared memory that a block may have" +
                   (shared.limit() < kMaxSharedBytes ? " unless the launch asks for more" : ""));
  }
  return storage;
}

void check_aligned(const Call& call, const void* address, size_t alignment) {
  // Alignments are powers of two. A division took a fifteenth of a small layer's time.
  const uintptr_t past = reinterpret_cast<uintptr_t>(address) & (alignment - 1);
  if (past != 0) {
    fail(call, "the address must be a multiple of " + std::to_string(alignment) + " bytes, it is " +
                   std::to_string(past) + " past one");
  }
}

void check_shared(const Call& call, const void* address, size_t bytes) {
  check_aligned(call, address, bytes);
  Multiprocessor& processor = Multiprocessor::current();
  const SharedMemory& shared = processor.shared();
  if (shared.holds(address, bytes)) {
    if (!processor.options().bank_conflicts) return;
    const Thread& thread = processor.scheduler().current();
    const sanitizer::Unseen unseen;
    processor.conflicts().access(call, thread.warp(), thread.lane(), reinterpret_cast<uintptr_t>(address), bytes);
    return;
  }
  fail(call, shared.near(address) ? std::to_string(bytes) + " bytes past the end of what the block has of shared memory"
                                  : std::string("the address is not in shared memory"));
}

void check_global(const Call& call, const void* address, size_t bytes) {
  check_atomic(call, address, bytes);
  if (Multiprocessor::current().shared().near(address))
    fail(call, "the address is in shared memory, not in global memory");
}

void check_atomic(const Call& call, const void* address, size_t bytes) {
  check_aligned(call, address, bytes);
  if (Multiprocessor::current().scheduler().is_local(address)) {
    fail(call, "the address is that of a variable or of a kernel's parameter, which other threads do not have");
  }
}

void copy_async(const Call& call, void* shared, const void* global, size_t bytes, size_t source_bytes) {
  check_shared(call, shared, bytes);
  check_global(call, global, bytes);
  if (source_bytes > bytes) {
    fail(call,
         "the source has " + std::to_string(source_bytes) + " bytes, more than the copy's " + std::to_string(bytes));
  }
  Multiprocessor& processor = Multiprocessor::current();
  processor.scheduler().current().copies.issue(call, shared, global, bytes, source_bytes, processor.draw_early());
}

void note_write(const void* shared) {
  Multiprocessor& processor = Multiprocessor::current();
  Thread& thread = processor.scheduler().current();
  processor.shared().note_write(shared, {thread.number, thread.writes.next()}, true);
}

void note_copy(const void* shared) {
  Multiprocessor& processor = Multiprocessor::current();
  processor.shared().note_write(shared, {processor.scheduler().current().number, kIncompleteCopy}, false);
}

uint32_t dynamic_offset(const Call& call, const void* shared) {
  check_aligned(call, shared, 16);
  const SharedMemory& memory = Multiprocessor::current().shared();
  const uintptr_t offset = reinterpret_cast<uintptr_t>(shared) - reinterpret_cast<uintptr_t>(memory.dynamic());
  if (offset >= memory.dynamic_bytes()) fail(call, "the address is not in dynamic shared memory");
  return static_cast<uint32_t>(offset);
}

void fence_proxy_async() {
  Scheduler& scheduler = Multiprocessor::current().scheduler();
  scheduler.current().writes.publish(scheduler.barriers());
}

void read_async(const Call& call, size_t offset, std::byte* bytes, size_t count) {
  Multiprocessor& processor = Multiprocessor::current();
  const std::byte* place = processor.shared().dynamic() + offset;
  if (!processor.shared().holds(place, count)) fail(call, "an operand is outside dynamic shared memory");
  const LastWrite write = processor.shared().last_write(place);
  Scheduler& scheduler = processor.scheduler();
  const Thread& writer = scheduler.thread(write.thread);
  const bool own_warp = writer.warp() == scheduler.current().warp();
  if (const auto seen = writer.writes.seen(write.number, scheduler.barriers(), own_warp);
      seen != SharedWrites::Seen::yes) {
    fail(call, "reads what thread " + std::to_string(write.thread) +
                   (write.number == kIncompleteCopy ? " copies and has not waited for"
                    : seen == SharedWrites::Seen::no_fence
                        ? " wrote, which has made no fence_proxy_async since the store, or since it waited for the copy"
                        : " wrote and made a fence_proxy_async for, but no barrier has come since that fence"));
  }
  if (!processor.shared().as_noted(place)) {
    fail(call,
         "reads what was stored by no function of ptx/, so that nobody knows whether a fence_proxy_async has come "
         "since: "
         "store it by st_shared_32, 64 or 128");
  }
  sanitizer::reads(place, count);
  std::copy_n(place, count, bytes);
}

void copy_async_commit() { Multiprocessor::current().scheduler().current().copies.commit(); }

void copy_async_wait(size_t pending_groups) {
  Multiprocessor::current().scheduler().current().copies.wait(pending_groups);
}

void polled(const Call& call, bool unchanged) {
  Multiprocessor& processor = Multiprocessor::current();
  if (!unchanged) {
    processor.made_progress();
  } else if (processor.polls_in_vain()) {
    fail(
        call,
        "the block's threads only poll: they wait for another block, but no block of a GPU may count on another to run "
        "beside it");
  } else {
    processor.scheduler().yield();
  }
}

}  // namespace moe::simt::machine
