#include "warp.h"

#include <algorithm>
#include <cstdio>

namespace ptx_machine {
namespace {

template <class T>
void fill(T* lanes, T value) {
  std::fill(lanes, lanes + kLanes, value);
}

uint32_t special_value(const SpecialRegister& special, const Block& block, unsigned thread) {
  const size_t axis = special.axis;
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
  const unsigned threads = block_.threads, first = index_ * kLanes;
  live_ = threads - first >= kLanes ? kAll : (Mask{1} << (threads - first)) - 1;
  state_ = State::ready;
  groups_ = {{0, live_}};
  local_.assign(block_.kernel.program->local_bytes * kLanes, std::byte{0xff});
  copies_ = {};
  products_ = {};
  products_begun_ = 0;
  steps_ = 0;
  for (const SpecialRegister& special : block_.kernel.program->specials) {
    for (unsigned lane = 0; lane < kLanes; ++lane) {
      at<uint32_t>(special.place)[lane] = special_value(special, block_, first + lane);
    }
  }
}

std::byte* Warp::find_global(uint64_t address, size_t bytes) {
  const auto access = [&] { return "an access of " + std::to_string(bytes) + " bytes at "; };
  if (address % bytes != 0) fault(access() + std::to_string(address % 256) + " modulo 256 is not aligned");
  for (const std::vector<uint64_t>& table : block_.kernel.program->tables) {
    const auto begin = reinterpret_cast<uint64_t>(table.data());
    if (is_inside(address, bytes, begin, begin + 8 * table.size())) return reinterpret_cast<std::byte*>(address);
  }
  const std::span<const Range> all = block_.memory;
  const auto after = std::upper_bound(all.begin(), all.end(), address, [](uint64_t place, const Range& range) {
    return place < reinterpret_cast<uint64_t>(range.data);
  });
  if (after == all.begin()) fault(access() + "address " + std::to_string(address) + ", below all memory");
  const Range& range = *(after - 1);
  const auto begin = reinterpret_cast<uint64_t>(range.data);
  if (!is_inside(address, bytes, begin, begin + range.bytes)) {
    fault(access() + std::to_string(address - begin) + " of the nearest memory below, which has " +
          std::to_string(range.bytes));
  }
  range_begin_ = begin;
  range_end_ = begin + range.bytes;
  return reinterpret_cast<std::byte*>(address);
}

void Warp::check_access(const char* memory, uint64_t address, size_t bytes, size_t begin, size_t end) const {
  const bool inside = is_inside(address, bytes, begin, end);
  if (inside && address % bytes == 0) return;
  const std::string access = "an access of " + std::to_string(bytes) + " bytes at " +
                             std::to_string(static_cast<int64_t>(address)) + " of " + memory;
  if (inside) fault(access + " is not aligned");
  fault(access + ", which is from " + std::to_string(begin) + " to " + std::to_string(end));
}

std::byte* Warp::shared(uint64_t address, size_t bytes) {
  check_access("shared memory", address, bytes, kSharedBegin, kSharedBegin + block_.shared.size());
  return block_.shared.data() + (address - kSharedBegin);
}

std::byte* Warp::local(unsigned lane, uint64_t address, size_t bytes) {
  const size_t all = block_.kernel.program->local_bytes;
  check_access("local memory", address, bytes, 0, all);
  return local_.data() + lane * all + address;
}

const std::byte* Warp::parameter(uint64_t address, size_t bytes) const {
  check_access("the parameters", address, bytes, 0, block_.kernel.parameter_bytes);
  return block_.launch.parameters.data() + address;
}

void Warp::add_copy(const Copy& copy) {
  if (block_.launch.background == Background::early) return copy.run();
  copies_.add(copy);
}

void Warp::wait_for_copies(size_t newest) {
  copies_.wait(newest, [](const Copy& copy) { copy.run(); });
}

void Warp::fence_products() { products_.fence(*this, block_.kernel.program->product_registers); }

void Warp::begin_product(Product product) {
  for (const uint64_t part :
       {reinterpret_cast<uint64_t>(product.details), product.a, product.b, uint64_t{product.adds}}) {
    products_begun_ = (products_begun_ ^ part) * 0x9e3779b97f4a7c15u + 1;
  }
  products_.begin(*this, product);
  if (block_.launch.background == Background::late) return;
  products_.commit();
  products_.wait(*this, 0);
}

void Warp::fault(const std::string& what) const {
  const Program& program = *block_.kernel.program;
  std::string text = what + ", in block (" + std::to_string(block_.index[0]) + ", " + std::to_string(block_.index[1]) +
                     ", " + std::to_string(block_.index[2]) + "), warp " + std::to_string(index_);
  if (current_ != nullptr) {
    char lanes[16];
    std::snprintf(lanes, sizeof lanes, "%08x", current_lanes_);
    text += ", lanes " + std::string(lanes) +
            ", at: " + program.lines[static_cast<size_t>(current_ - program.instructions.data())];
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

// The group that is furthest behind, so that it can reach the others.
Warp::Group* Warp::next_group() {
  if (groups_.size() > 1) merge();
  for (Group& group : groups_) {
    if (!group.waits) return &group;
  }
  return nullptr;
}

Warp::State Warp::run(uint64_t instructions) {
  const uint64_t until = steps_ + instructions;
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
  if (steps_ > block_.launch.most_steps) fault("the kernel does not end");
  return state_;
}

bool Warp::step(Group& group) {
  const Instruction& in = block_.kernel.program->instructions[group.at];
  ++steps_;
  Mask lanes = group.lanes;
  if (in.guard != 0) lanes &= in.guard_negated ? ~predicate(in.guard) : predicate(in.guard);
  current_ = &in;
  current_lanes_ = lanes;
  if (lanes == 0) {
    ++group.at;
    return true;
  }
  switch (in.flow) {
    case Flow::next:
      in.step(*this, in, lanes);
      ++group.at;
      return true;
    case Flow::branch: return branch(group, in, lanes);
    case Flow::leave: return leave(group, lanes);
    case Flow::together:
    case Flow::barrier:
    case Flow::arrive: return together(group, in, lanes);
  }
  return false;
}

bool Warp::branch(Group& group, const Instruction& in, Mask lanes) {
  if (lanes == group.lanes) {
    group.at = in.target;
    return groups_.size() == 1;
  }
  group.lanes &= ~lanes;
  ++group.at;
  groups_.push_back({in.target, lanes});
  return false;
}

bool Warp::leave(Group& group, Mask lanes) {
  live_ &= ~lanes;
  group.lanes &= ~lanes;
  ++group.at;
  if (live_ == 0) wait_for_copies(0);
  if (!products_.none()) fault("threads leave while a product is running");
  std::erase_if(groups_, [](const Group& each) { return each.lanes == 0; });
  // Those that waited for these lanes do so no longer.
  for (Group& each : groups_) each.waits = false;
  block_.leave();
  return false;
}

// What some lanes do together, once all of them are here.
bool Warp::together(Group& group, const Instruction& in, Mask lanes) {
  const auto first = static_cast<unsigned>(std::countr_zero(lanes));
  // Barriers are for those that have not left, everything else without a mask for the whole warp.
  const Mask all = in.flow == Flow::together ? kAll : live_;
  const Mask members = in.members != 0 ? at<uint32_t>(in.members)[first] : all;
  if ((members & ~live_) != 0) fault("an instruction for lanes that have left or never were");
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

}  // namespace ptx_machine
