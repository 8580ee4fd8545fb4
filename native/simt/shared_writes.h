// Which of a thread's writes to shared memory the asynchronous proxy sees, through which wgmma reads. Only copies that
// the thread has waited for and stores through functions of ptx/ are tracked; it must not read others.
#pragma once

#include <cstdint>

namespace moe::simt::machine {

class SharedWrites {
 public:
  enum class Seen { yes, no_fence, no_barrier };

  void clear() { *this = {}; }
  // The number of another write, from 1 on.
  uint32_t next() { return ++last_; }
  // fence.proxy.async, after the block's first `barriers` barriers.
  void publish(uint32_t barriers) {
    if (barriers != barriers_) earlier_ = published_;
    barriers_ = barriers;
    published_ = last_;
  }
  // Whether a product after the block's first `barriers` barriers sees a write. A warp other than the writer's needs a
  // barrier after the fence; any of the block's will do, even one of other warps.
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
