#include "simt/warp.h"

#include <bit>

#include "simt/multiprocessor.h"
#include "simt/report.h"
#include "simt/sanitizer.h"

namespace moe::simt::machine {

void Warp::start(unsigned number, uint32_t lanes) {
  number_ = number;
  lanes_ = lanes;
  waiting_ = 0;
  products_.start(number);
}

void Warp::meet(Scheduler& scheduler, const Collective& collective, const std::source_location& where, uint32_t mask,
                void* operand) {
  Thread& self = scheduler.current();
  const unsigned lane = self.lane();
  const uint32_t bit = 1u << lane;
  const Call call{collective.name, where};
  if ((mask & bit) == 0) fail(call, "the lane that calls, " + std::to_string(lane) + ", is not in " + mask_text(mask));
  if (const uint32_t gone = mask & ~lanes_; gone != 0) {
    fail(call, mask_text(mask) + " names lanes that have exited or never were: " + lanes_text(gone));
  }

  const unsigned leader = join(call, collective, mask, lane);
  Meeting& meeting = meetings_[leader];
  void* const key = &keys_[meeting.serial % keys_.size()];
  if (collective.orders_memory) sanitizer::release(key);
  operands_[lane] = operand;
  meeting.present |= bit;
  if (meeting.present == mask) {
    if (collective.perform != nullptr) collective.perform(call, mask, operands_.data());
    waiting_ &= ~mask;
    scheduler.wake(number_, mask & ~bit);
  } else {
    self.call = call;
    self.mask = mask;
    waiting_ |= bit;
    scheduler.suspend();
  }
  if (collective.orders_memory) sanitizer::acquire(key);
}

// Finds the meeting that this call belongs to: one that others wait in, or a new one.
unsigned Warp::join(const Call& call, const Collective& collective, uint32_t mask, unsigned lane) {
  for (uint32_t others = waiting_ & mask; others != 0; others &= others - 1) {
    const unsigned other = static_cast<unsigned>(std::countr_zero(others));
    const unsigned leader = meeting_of_[other];
    const Meeting& meeting = meetings_[leader];
    if (meeting.mask == mask) {
      const bool same_place =
          meeting.call.where.line() == call.where.line() && meeting.call.where.column() == call.where.column();
      if (meeting.collective != &collective || (collective.aligned && !same_place)) {
        fail(call, "lane " + std::to_string(other) + " of the same " + mask_text(mask) + " is in another call, " +
                       call_text(meeting.call));
      }
      meeting_of_[lane] = static_cast<uint8_t>(leader);
      return leader;
    }
    // If each waits for the other, neither can continue. Otherwise the other may still arrive.
    if ((meeting.mask >> lane & 1) != 0) {
      fail(call, "called with " + mask_text(mask) + ", but lane " + std::to_string(other) + ", which is in it, is in " +
                     call_text(meeting.call) + " with " + mask_text(meeting.mask));
    }
  }
  meetings_[lane] = {&collective, call, mask, 0, serial_++};
  meeting_of_[lane] = static_cast<uint8_t>(lane);
  return lane;
}

void Warp::exit(Scheduler& scheduler, unsigned lane) {
  products_.exit();
  lanes_ &= ~(1u << lane);
  for (uint32_t others = waiting_; others != 0; others &= others - 1) {
    const unsigned other = static_cast<unsigned>(std::countr_zero(others));
    const Thread& thread = scheduler.thread(number_, other);
    if ((thread.mask >> lane & 1) != 0) {
      fail(thread.call,
           "this thread exits, but lane " + std::to_string(other) + " waits for it with " + mask_text(thread.mask));
    }
  }
}

void meet(const Collective& collective, const std::source_location& where, uint32_t mask, void* operand) {
  Multiprocessor& processor = Multiprocessor::current();
  processor.warp().meet(processor.scheduler(), collective, where, mask, operand);
}

}  // namespace moe::simt::machine
