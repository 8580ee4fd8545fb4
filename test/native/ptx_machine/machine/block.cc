// Runs the warps of a block, and its barriers.
#include <algorithm>
#include <numeric>
#include <random>

#include "warp.h"

namespace ptx_machine {
namespace {

// The order in which warps run, and for how many instructions. By chance, a warp that reads what another writes, with
// no barrier between, comes too early now and then.
class Turns {
 public:
  Turns(uint32_t seed, const std::array<unsigned, 3>& block, size_t warps)
      : by_chance_(seed != 0), chance_(seed + block[0] + 31 * block[1] + 997 * block[2]), order_(warps) {
    std::iota(order_.begin(), order_.end(), size_t{0});
  }

  const std::vector<size_t>& next_order() {
    if (by_chance_) std::shuffle(order_.begin(), order_.end(), chance_);
    return order_;
  }
  // Other warps have their turn at some time, in case this one waits for them in a loop.
  uint64_t instructions() { return by_chance_ ? 1 + chance_() % (1u << chance_() % 12) : 100'000; }

 private:
  bool by_chance_;
  std::minstd_rand chance_;
  std::vector<size_t> order_;
};

}  // namespace

Block::Block(const Kernel& k, const Launch& l, std::span<const Range> m)
    : kernel(k), launch(l), memory(m), threads(l.block[0] * l.block[1] * l.block[2]) {
  const size_t begin = k.program->dynamic_shared - kSharedBegin;
  shared.resize(std::max(k.static_shared_bytes, begin + l.dynamic_shared_bytes));
  for (unsigned warp = 0; warp * kLanes < threads; ++warp) warps.emplace_back(*this, warp);
}

void Block::run(std::array<unsigned, 3> which) {
  index = which;
  // Not zeros: what a kernel reads before it is written shall show. As floats of any type, these bytes are NaN.
  std::fill(shared.begin(), shared.end(), std::byte{0xff});
  barriers = {};
  for (Warp& warp : warps) warp.begin();
  Turns turns(launch.turns, which, warps.size());
  while (true) {
    bool runs = false, done = true;
    for (const size_t i : turns.next_order()) {
      Warp& warp = warps[i];
      if (warp.state() == Warp::State::ready) {
        warp.run(turns.instructions());
        runs = true;
      }
      done = done && warp.state() == Warp::State::done;
    }
    if (done) return check_warpgroups();
    if (!runs) break;
  }
  for (Warp& warp : warps) {
    if (warp.state() == Warp::State::waits) warp.fault("warps wait at a barrier that others do not come to");
  }
}

void Block::check_warpgroups() const {
  constexpr size_t kWarps = 4;
  for (size_t i = 0; i < warps.size(); ++i) {
    const size_t first = i / kWarps * kWarps;
    if (warps[i].products_begun() != warps[first].products_begun()) {
      warps[i].fault("other products of wgmma than the first warp of the warpgroup has begun");
    }
    if (warps[i].products_begun() != 0 && first + kWarps > warps.size()) {
      warps[i].fault("products of wgmma in a warpgroup that lacks warps");
    }
  }
}

unsigned Block::live_threads() const {
  unsigned threads = 0;
  for (const Warp& warp : warps) threads += warp.live() != 0 ? kLanes : 0;
  return threads;
}

void Block::arrive(Warp& warp, unsigned barrier, unsigned threads, bool waits) {
  if (barrier >= barriers.size()) warp.fault("there is no barrier " + std::to_string(barrier));
  if (threads % kLanes != 0)
    warp.fault("a barrier of " + std::to_string(threads) + " threads is not one of whole warps");
  Barrier& at = barriers[barrier];
  if (at.arrived != 0 && at.expected != threads) warp.fault("warps expect different numbers of threads at a barrier");
  at.expected = threads;
  at.arrived += kLanes;
  if (waits) at.waiting.push_back(&warp);
  release(at);
}

// Barriers of the whole block do not wait for threads that have left.
void Block::leave() {
  for (Barrier& barrier : barriers) {
    if (barrier.arrived != 0 && barrier.expected == 0) release(barrier);
  }
}

void Block::release(Barrier& barrier) {
  const unsigned expected = barrier.expected != 0 ? barrier.expected : live_threads();
  if (barrier.arrived < expected) return;
  for (Warp* warp : barrier.waiting) warp->pass_barrier();
  barrier = {};
}

}  // namespace ptx_machine
