#include "warp.h"

#include <algorithm>

namespace ptx_machine {
namespace {

// How long a warp runs before others do, in case it waits for them in a loop.
constexpr uint64_t kTurn = 100'000;
// More than any kernel of a test needs.
constexpr uint64_t kMostSteps = uint64_t{1} << 34;

template <class T>
void fill(T* lanes, T value) {
  std::fill(lanes, lanes + kLanes, value);
}

unsigned product(const std::array<unsigned, 3>& sizes) { return sizes[0] * sizes[1] * sizes[2]; }

uint32_t special_value(const SpecialRegister& special, const Block& block, unsigned thread) {
  const auto axis = static_cast<size_t>(special.axis);
  const auto& sizes = block.launch.block;
  switch (special.which) {
    case Special::thread:
      return axis == 0 ? thread % sizes[0] : axis == 1 ? thread / sizes[0] % sizes[1] : thread / sizes[0] / sizes[1];
    case Special::threads: return sizes[axis];
    case Special::block: return block.index[axis];
    case Special::blocks: return block.launch.grid[axis];
    case Special::lane: return thread % kLanes;
    case Special::warp: return thread / kLanes;
    case Special::lanes_below: return (Mask{1} << thread % kLanes) - 1;
  }
  return 0;
}

}  // namespace

Warp::Warp(Block& block, unsigned index) : block_(block), index_(index) {
  const Program& program = *block.kernel.program;
  const size_t bytes = (program.register_bytes + 63) / 64 * 64;
  registers_.reset(static_cast<std::byte*>(std::aligned_alloc(64, bytes)));
  std::memset(registers_.get(), 0xff, bytes);
  for (const Constant& constant : program.constants) {
    switch (constant.bits) {
      case 1: predicate(constant.place) = constant.value != 0 ? kAll : 0; break;
      case 16: fill(at<uint16_t>(constant.place), static_cast<uint16_t>(constant.value)); break;
      case 32: fill(at<uint32_t>(constant.place), static_cast<uint32_t>(constant.value)); break;
      default: fill(at<uint64_t>(constant.place), constant.value);
    }
  }
}

void Warp::begin() {
  const unsigned threads = product(block_.launch.block), first = index_ * kLanes;
  live_ = threads - first >= kLanes ? kAll : (Mask{1} << (threads - first)) - 1;
  state_ = State::ready;
  groups_ = {{0, live_}};
  local_.assign(block_.kernel.program->local_bytes * kLanes, std::byte{0xff});
  copies_.assign(1, {});
  steps_ = 0;
  for (const SpecialRegister& special : block_.kernel.program->specials) {
    for (unsigned lane = 0; lane < kLanes; ++lane) {
      at<uint32_t>(special.place)[lane] = special_value(special, block_, first + lane);
    }
  }
}

const std::byte* Warp::parameters() const { return block_.launch.parameters.data(); }
size_t Warp::parameter_bytes() const { return block_.kernel.parameter_bytes; }

std::byte* Warp::find_global(uint64_t address, size_t bytes) {
  for (const std::vector<uint64_t>& table : block_.kernel.program->tables) {
    const auto begin = reinterpret_cast<uint64_t>(table.data());
    if (address >= begin && address + bytes <= begin + 8 * table.size()) return reinterpret_cast<std::byte*>(address);
  }
  const std::span<const Range> all = block_.memory;
  const auto after = std::upper_bound(all.begin(), all.end(), address, [](uint64_t place, const Range& range) {
    return place < reinterpret_cast<uint64_t>(range.data);
  });
  if (after != all.begin()) {
    const Range& range = *(after - 1);
    const auto begin = reinterpret_cast<uint64_t>(range.data);
    if (address + bytes <= begin + range.bytes) {
      range_begin_ = begin;
      range_end_ = begin + range.bytes;
      if (address % bytes == 0) return reinterpret_cast<std::byte*>(address);
      fault("an access of " + std::to_string(bytes) + " bytes at " + std::to_string(address % 256) +
            " modulo 256 is not aligned");
    }
    fault("an access of " + std::to_string(bytes) + " bytes at " + std::to_string(address - begin) +
          " of the nearest memory below, which has " + std::to_string(range.bytes));
  }
  fault("an access of " + std::to_string(bytes) + " bytes at address " + std::to_string(address) +
        ", below all memory");
}

std::byte* Warp::shared(uint64_t address, size_t bytes) {
  const size_t end = kSharedBegin + block_.shared.size();
  if (address < kSharedBegin || address + bytes > end) {
    fault("an access of " + std::to_string(bytes) + " bytes at " + std::to_string(address) +
          " of shared memory, which is from " + std::to_string(kSharedBegin) + " to " + std::to_string(end));
  }
  if (address % bytes != 0) {
    fault("an access of " + std::to_string(bytes) + " bytes of shared memory at " + std::to_string(address) +
          " is not aligned");
  }
  return block_.shared.data() + (address - kSharedBegin);
}

std::byte* Warp::local(unsigned lane, uint64_t address, size_t bytes) {
  const size_t all = block_.kernel.program->local_bytes;
  if (address + bytes > all || address % bytes != 0) {
    fault("an access of " + std::to_string(bytes) + " bytes at " + std::to_string(address) + " of local memory, which has " +
          std::to_string(all));
  }
  return local_.data() + lane * all + address;
}

void Warp::wait_for_copies(size_t groups) {
  // The last one is open: copies that no commit has closed.
  while (copies_.size() > groups + 1) {
    for (const Copy& copy : copies_.front()) {
      std::memcpy(copy.to, copy.from, copy.bytes);
      std::memset(copy.to + copy.bytes, 0, copy.filled);
    }
    copies_.erase(copies_.begin());
  }
}

void Warp::fault(const std::string& what) const {
  const Program& program = *block_.kernel.program;
  std::string text = what + ", in block (" + std::to_string(block_.index[0]) + ", " + std::to_string(block_.index[1]) +
                     ", " + std::to_string(block_.index[2]) + "), warp " + std::to_string(index_);
  if (current_ != nullptr) {
    char lanes[16];
    std::snprintf(lanes, sizeof lanes, "%08x", current_lanes_);
    text += ", lanes " + std::string(lanes) + ", at: " + program.lines[current_->line];
  }
  throw Fault(text + ", of " + block_.kernel.name);
}

// Groups at the same instruction become one.
void Warp::merge() {
  std::sort(groups_.begin(), groups_.end(), [](const Group& a, const Group& b) { return a.at < b.at; });
  size_t kept = 0;
  for (size_t i = 1; i < groups_.size(); ++i) {
    if (groups_[i].at == groups_[kept].at) {
      groups_[kept].lanes |= groups_[i].lanes;
      groups_[kept].waits = false;
    } else {
      groups_[++kept] = groups_[i];
    }
  }
  groups_.resize(std::min(groups_.size(), kept + 1));
}

// The one that is furthest behind: others may be where it will come to.
Warp::Group* Warp::next_group() {
  if (groups_.size() > 1) merge();
  for (Group& group : groups_) {
    if (!group.waits) return &group;
  }
  return nullptr;
}

Warp::State Warp::run() {
  const uint64_t until = steps_ + kTurn;
  while (state_ == State::ready && steps_ < until) {
    if (groups_.empty()) return state_ = State::done;
    Group* group = next_group();
    if (group == nullptr) fault("lanes wait for each other at different instructions");
    // No group begins before `next`, where this one may have to join another.
    const auto after = group - groups_.data() + 1;
    const uint32_t next = after < static_cast<ptrdiff_t>(groups_.size()) ? groups_[static_cast<size_t>(after)].at : ~0u;
    while (step(*group) && group->at < next && steps_ < until) {
    }
  }
  if (groups_.empty()) state_ = State::done;
  if (steps_ > kMostSteps) fault("the kernel does not end");
  return state_;
}

// False where another group has to be chosen.
bool Warp::step(Group& group) {
  const Program& program = *block_.kernel.program;
  const Instruction& in = program.instructions[group.at];
  ++steps_;
  Mask lanes = group.lanes;
  if (in.guard != 0) lanes &= in.guard_negated ? ~predicate(in.guard) : predicate(in.guard);
  current_ = &in;
  current_lanes_ = lanes;
  switch (in.flow) {
    case Flow::next:
      if (lanes != 0) in.step(*this, in, lanes);
      ++group.at;
      return true;
    case Flow::branch: {
      const uint32_t from = group.at;
      if (lanes == group.lanes) {
        group.at = in.target;
        // Backwards, others may be ahead of it, and forwards, behind.
        return groups_.size() == 1;
      }
      group.at = from + 1;
      if (lanes == 0) return true;
      group.lanes &= ~lanes;
      groups_.push_back({in.target, lanes});
      return false;
    }
    case Flow::leave:
      live_ &= ~lanes;
      group.lanes &= ~lanes;
      ++group.at;
      if (live_ == 0) wait_for_copies(0);
      if (group.lanes == 0) std::erase_if(groups_, [](const Group& each) { return each.lanes == 0; });
      block_.leave();
      return false;
    case Flow::together:
    case Flow::barrier:
    case Flow::arrive: {
      if (lanes == 0) {
        ++group.at;
        return true;
      }
      const auto first = static_cast<unsigned>(std::countr_zero(lanes));
      const Mask members = in.members != 0 ? at<uint32_t>(in.members)[first] : live_;
      if ((members & ~live_) != 0) fault("an instruction for lanes that have left");
      if ((members & lanes) != members) {
        group.waits = true;
        return false;
      }
      if (members != lanes) fault("lanes outside the instruction's mask");
      ++group.at;
      if (in.flow == Flow::together) {
        in.step(*this, in, lanes);
        return true;
      }
      const unsigned barrier = at<uint32_t>(in.operands[0])[first];
      const unsigned threads = in.count > 1 ? at<uint32_t>(in.operands[1])[first] : 0;
      const bool waits = in.flow == Flow::barrier;
      if (waits) state_ = State::waits;
      block_.arrive(*this, barrier, threads, waits);
      return state_ == State::ready;
    }
  }
  return false;
}

Block::Block(const Kernel& k, const Launch& l, std::span<const Range> m) : kernel(k), launch(l), memory(m) {
  const size_t begin = k.program->dynamic_shared - kSharedBegin;
  shared.resize(std::max(k.static_shared_bytes, begin + l.dynamic_shared_bytes));
  const unsigned threads = product(l.block);
  for (unsigned warp = 0; warp * kLanes < threads; ++warp) warps.emplace_back(*this, warp);
}

void Block::run(std::array<unsigned, 3> which) {
  index = which;
  // What a kernel must not read before it has written it: NaN, whatever the type.
  std::fill(shared.begin(), shared.end(), std::byte{0xff});
  barriers = {};
  for (Warp& warp : warps) warp.begin();
  while (true) {
    bool runs = false, done = true;
    for (Warp& warp : warps) {
      if (warp.state() == Warp::State::ready) {
        warp.run();
        runs = true;
      }
      done = done && warp.state() == Warp::State::done;
    }
    if (done) return;
    if (!runs) break;
  }
  for (Warp& warp : warps) {
    if (warp.state() == Warp::State::waits) warp.fault("warps wait at a barrier that others do not come to");
  }
}

unsigned Block::live_threads() const {
  unsigned threads = 0;
  for (const Warp& warp : warps) threads += warp.live() != 0 ? kLanes : 0;
  return threads;
}

void Block::arrive(Warp& warp, unsigned barrier, unsigned threads, bool waits) {
  if (barrier >= barriers.size()) warp.fault("there is no barrier " + std::to_string(barrier));
  if (threads % kLanes != 0) warp.fault("a barrier of " + std::to_string(threads) + " threads is not one of warps");
  Barrier& at = barriers[barrier];
  if (at.arrived != 0 && at.expected != threads) warp.fault("warps expect other numbers of threads at a barrier");
  at.expected = threads;
  at.arrived += kLanes;
  if (waits) at.waiting.push_back(&warp);
  release(at);
}

// Barriers of the whole block are not for threads that have left.
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
