// Barriers, fences and the end of threads.
#include "lanes.h"

namespace ptx_machine {
namespace {

void build_bar(Building& b) {
  b.words.take("cta");
  if (b.words.take("warp")) {
    b.words.expect({"sync"});
    b.take_members(0);
    b.instruction.step = nothing;
    return;
  }
  const bool waits = b.words.take_one({"sync", "arrive"}) == "sync";
  b.words.take("aligned");
  b.instruction.flow = waits ? Flow::barrier : Flow::arrive;
  b.add(0, 32);
  if (!waits || b.count() > 1) b.add(1, 32);
}

// All memory is in order here.
void build_fence(Building& b) {
  for (std::string_view word : {"acq_rel", "sc", "cta", "gpu", "sys", "gl", "proxy", "async", "shared::cta"}) {
    b.words.take(word);
  }
  b.instruction.step = nothing;
}

void build_leave(Building& b) {
  b.words.take("uni");
  b.instruction.flow = Flow::leave;
}

void trap(Warp& warp, const Instruction&, Mask) { warp.fault("a trap"); }
void build_trap(Building& b) { b.instruction.step = trap; }

}  // namespace

void add_waits(Builders& builders) {
  builders["bar"] = build_bar;
  builders["barrier"] = build_bar;
  builders["fence"] = build_fence;
  builders["membar"] = build_fence;
  builders["ret"] = build_leave;
  builders["exit"] = build_leave;
  builders["trap"] = build_trap;
}

}  // namespace ptx_machine
