// Which of a thread's writes to shared memory the asynchronous proxy sees, by which wgmma reads. Known are the copies
// that the thread has waited for, and its stores by functions of ptx/.
#pragma once

#include <cstdint>

namespace moe::simt::machine {

class SharedWrites {
 public:
  enum class Seen { yes, no_fence, no_barrier };

  void clear() { *this = {}; }
  // The number of another write, from 1 on.
  uint32_t next() { return ++last_; }
  // fence.proxy.async, behind so many barriers of the block.
  void publish(uint32_t barriers) {
    if (barriers != barriers_) earlier_ = published_;
    barriers_ = barriers;
    published_ = last_;
  }
  // What a product behind so many barriers sees of a write. Other warps than the writer's need a barrier behind its
  // fence; any of the block's counts, also one of other warps.
  Seen seen(uint32_t number, uint32_t barriers, bool own_warp) const {
    if (number > published_) return Seen::no_fence;
    return own_warp || number <= earlier_ || barriers != barriers_ ? Seen::yes : Seen::no_barrier;
  }

 private:
  uint32_t last_ = 0;
  uint32_t published_ = 0;  // the last write before the last fence,
  uint32_t earlier_ = 0;    // and before the last one behind fewer barriers
  uint32_t barriers_ = 0;   // before the last fence
};

}  // namespace moe::simt::machine
