// The meetings of a warp's lanes: a shuffle, vote or matrix product happens once every lane in its mask has arrived.
#pragma once

#include <array>
#include <cstdint>

#include "simt/async_products.h"
#include "simt/machine.h"
#include "simt/scheduler.h"

namespace moe::simt::machine {

class Warp {
 public:
  void start(unsigned number, uint32_t lanes);
  // The running thread takes part in a collective; returns when it has completed.
  void meet(Scheduler& scheduler, const Collective& collective, const std::source_location& where, uint32_t mask,
            void* operand);
  AsyncProducts& products() { return products_; }
  // Called when a lane ends; fails if others wait for it, or if there are products that nobody waited for.
  void exit(Scheduler& scheduler, unsigned lane);

 private:
  // Stored at the index of the lane that arrived first.
  struct Meeting {
    const Collective* collective = nullptr;
    Call call;
    uint32_t mask = 0;
    uint32_t present = 0;
    unsigned serial = 0;
  };

  unsigned join(const Call& call, const Collective& collective, uint32_t mask, unsigned lane);

  unsigned number_ = 0;
  uint32_t lanes_ = 0;    // existing lanes that have not ended
  uint32_t waiting_ = 0;  // lanes in some meeting
  unsigned serial_ = 0;
  std::array<Meeting, kWarpLanes> meetings_{};
  std::array<uint8_t, kWarpLanes> meeting_of_{};
  std::array<void*, kWarpLanes> operands_{};
  // ThreadSanitizer keys for the ordering by meetings, used in turn: a lane slow to leave must not be ordered by the
  // next meeting.
  std::array<char, 64> keys_{};
  AsyncProducts products_;
};

}  // namespace moe::simt::machine
