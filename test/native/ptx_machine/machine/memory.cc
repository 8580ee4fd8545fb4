// Loads, stores, atomics and copies.
#include <atomic>
#include <mutex>
#include <stdexcept>
#include <type_traits>

#include "lanes.h"

namespace ptx_machine {
namespace {

enum class Space { generic, global, shared, local, parameter };

Space take_space(Building& b) {
  if (b.words.take("global")) return Space::global;
  if (b.words.take("shared") || b.words.take("shared::cta")) return Space::shared;
  if (b.words.take("local")) return Space::local;
  if (b.words.take("param")) return Space::parameter;
  return Space::generic;
}

// An address: where its register is, and whether it has 64 bits.
uint64_t address(Warp& warp, uint32_t place, const Instruction& in, unsigned lane) {
  const uint64_t base = in.target == 64 ? warp.at<uint64_t>(place)[lane] : warp.at<uint32_t>(place)[lane];
  return base + static_cast<uint64_t>(in.immediate);
}

template <Space kSpace>
std::byte* find(Warp& warp, [[maybe_unused]] unsigned lane, uint64_t address, size_t bytes) {
  if constexpr (kSpace == Space::global) return warp.global(address, bytes);
  if constexpr (kSpace == Space::shared) return warp.shared(address, bytes);
  if constexpr (kSpace == Space::local) return warp.local(lane, address, bytes);
  if constexpr (kSpace == Space::parameter) warp.fault("parameters are not written");
  return warp.generic(address, bytes);
}

// The registers first, then the address.
template <Space kSpace, class Element, class Register>
void load(Warp& warp, const Instruction& in, Mask mask) {
  const size_t count = in.count - 1;
  for_lanes(mask, [&](unsigned lane) {
    const std::byte* from;
    if constexpr (kSpace == Space::parameter) {
      const uint64_t offset = address(warp, in.operands[count], in, lane);
      if (offset + count * sizeof(Element) > warp.parameter_bytes()) warp.fault("a load past the parameters");
      from = warp.parameters() + offset;
    } else {
      from = find<kSpace>(warp, lane, address(warp, in.operands[count], in, lane), count * sizeof(Element));
    }
    for (size_t i = 0; i < count; ++i) {
      Element value;
      std::memcpy(&value, from + i * sizeof value, sizeof value);
      warp.at<Register>(in.operands[i])[lane] = static_cast<Register>(value);
    }
  });
}

// The address first, then the registers.
template <Space kSpace, class Element, class Register>
void store(Warp& warp, const Instruction& in, Mask mask) {
  const size_t count = in.count - 1;
  for_lanes(mask, [&](unsigned lane) {
    std::byte* to = find<kSpace>(warp, lane, address(warp, in.operands[0], in, lane), count * sizeof(Element));
    for (size_t i = 0; i < count; ++i) {
      const auto value = static_cast<Element>(warp.at<Register>(in.operands[1 + i])[lane]);
      std::memcpy(to + i * sizeof value, &value, sizeof value);
    }
  });
}

// Calls `body` with values of the types of an element in memory and of the registers for it.
template <class Body>
void with_element(Building& b, Type type, unsigned bits, Body&& body) {
  const auto with_register = [&]<class Element>(Element element) {
    if (bits < 8 * sizeof(Element)) throw std::runtime_error("a register is too small");
    if (bits == 16) {
      if constexpr (sizeof(Element) <= 2) return body(element, uint16_t{});
    } else if (bits == 32) {
      if constexpr (sizeof(Element) <= 4) return body(element, uint32_t{});
    } else if (bits == 64) {
      return body(element, uint64_t{});
    }
    b.words.unknown();
  };
  switch (bits_of(type)) {
    case 8: return is_signed(type) ? with_register(int8_t{}) : with_register(uint8_t{});
    case 16: return is_signed(type) ? with_register(int16_t{}) : with_register(uint16_t{});
    case 32: return is_signed(type) ? with_register(int32_t{}) : with_register(uint32_t{});
    case 64: return with_register(uint64_t{});
    default: b.words.unknown();
  }
}

template <class Body>
void with_space(Space space, Body&& body) {
  switch (space) {
    case Space::generic: return body.template operator()<Space::generic>();
    case Space::global: return body.template operator()<Space::global>();
    case Space::shared: return body.template operator()<Space::shared>();
    case Space::local: return body.template operator()<Space::local>();
    case Space::parameter: return body.template operator()<Space::parameter>();
  }
}

// Words of one to four registers.
size_t take_count(Building& b) { return b.words.take("v4") ? 4 : b.words.take("v2") ? 2 : 1; }

unsigned register_bits(Building& b, const std::string& name, Type type) {
  const Operand operand = b.assembler.operand(name, std::max(16u, bits_of(type)));
  return operand.bits;
}

void build_ld(Building& b) {
  const Type type = b.words.take_type();
  const Space space = take_space(b);
  const size_t count = take_count(b);
  b.words.skip_memory_words();
  const auto& names = b.argument(0).parts;
  if (names.size() != count) throw std::runtime_error("a load of other registers than it says");
  const unsigned bits = register_bits(b, names[0], type);
  b.add_parts(0, bits);
  b.instruction.target = b.add_address(1);
  with_element(b, type, bits, [&]<class Element, class Register>(Element, Register) {
    with_space(space, [&]<Space kSpace>() { b.instruction.step = load<kSpace, Element, Register>; });
  });
}

void build_st(Building& b) {
  const Type type = b.words.take_type();
  const Space space = take_space(b);
  const size_t count = take_count(b);
  b.words.skip_memory_words();
  const auto& names = b.argument(1).parts;
  if (names.size() != count) throw std::runtime_error("a store of other registers than it says");
  const unsigned bits = register_bits(b, names[0], type);
  b.instruction.target = b.add_address(0);
  b.add_parts(1, bits);
  with_element(b, type, bits, [&]<class Element, class Register>(Element, Register) {
    with_space(space, [&]<Space kSpace>() { b.instruction.step = store<kSpace, Element, Register>; });
  });
}

struct AtomicAdd {
  template <class T>
  T operator()(T old, T value, T) const {
    return static_cast<T>(old + value);
  }
};
struct AtomicMinimum {
  template <class T>
  T operator()(T old, T value, T) const {
    return value < old ? value : old;
  }
};
struct AtomicMaximum {
  template <class T>
  T operator()(T old, T value, T) const {
    return old < value ? value : old;
  }
};
struct AtomicAnd {
  template <class T>
  T operator()(T old, T value, T) const {
    return old & value;
  }
};
struct AtomicOr {
  template <class T>
  T operator()(T old, T value, T) const {
    return old | value;
  }
};
struct AtomicExchange {
  template <class T>
  T operator()(T, T value, T) const {
    return value;
  }
};
struct AtomicCompareExchange {
  template <class T>
  T operator()(T old, T expected, T value) const {
    return old == expected ? value : old;
  }
};

// The result, unless there is none (place 0), the address and the values.
template <Space kSpace, class Operation, class T>
void atomic(Warp& warp, const Instruction& in, Mask mask) {
  for_lanes(mask, [&](unsigned lane) {
    std::byte* place = find<kSpace>(warp, lane, address(warp, in.operands[1], in, lane), sizeof(T));
    const T value = warp.at<T>(in.operands[2])[lane];
    const T other = in.count > 3 ? warp.at<T>(in.operands[3])[lane] : T{};
    const std::atomic_ref<T> memory(*reinterpret_cast<T*>(place));
    T old = memory.load();
    while (!memory.compare_exchange_weak(old, Operation{}(old, value, other))) {
    }
    if (in.operands[0] != 0) warp.at<T>(in.operands[0])[lane] = old;
  });
}

template <bool kReturns>
void build_atomic(Building& b) {
  const Type type = b.words.take_type();
  const Space space = take_space(b);
  b.words.skip_memory_words();
  const std::string name = b.words.take_one({"add", "min", "max", "and", "or", "exch", "cas"});
  const unsigned bits = bits_of(type);
  size_t next = 0;
  if (kReturns && b.argument(0).parts[0] != "_") {
    b.add(next++, bits);
  } else {
    b.operands.push_back(0);
    next = kReturns;
  }
  b.instruction.target = b.add_address(next++);
  for (; next < b.count(); ++next) b.add(next, bits);
  const auto build = [&]<class T>(T) {
    with_space(space, [&]<Space kSpace>() {
      if (name == "add") b.instruction.step = atomic<kSpace, AtomicAdd, T>;
      if (name == "min") b.instruction.step = atomic<kSpace, AtomicMinimum, T>;
      if (name == "max") b.instruction.step = atomic<kSpace, AtomicMaximum, T>;
      if (name == "exch") b.instruction.step = atomic<kSpace, AtomicExchange, T>;
      if (name == "cas") b.instruction.step = atomic<kSpace, AtomicCompareExchange, T>;
      if constexpr (std::is_integral_v<T>) {
        if (name == "and") b.instruction.step = atomic<kSpace, AtomicAnd, T>;
        if (name == "or") b.instruction.step = atomic<kSpace, AtomicOr, T>;
      }
    });
  };
  if (type == Type::f32) return build(float{});
  if (bits < 32) b.words.unknown();
  with_integer(b, type, build);
}

// The destination in shared memory, the source in global memory, and the bytes that are copied; the others of `target`'s
// bytes are zero.
template <bool kIgnores>
void copy(Warp& warp, const Instruction& in, Mask mask) {
  const auto bytes = static_cast<uint32_t>(in.immediate);
  for_lanes(mask, [&](unsigned lane) {
    uint32_t copied = bytes;
    if (in.count > 2) {
      if constexpr (kIgnores) {
        if (warp.predicate(in.operands[2]) >> lane & 1) copied = 0;
      } else {
        copied = warp.at<uint32_t>(in.operands[2])[lane];
        if (copied > bytes) warp.fault("a copy of more bytes than it says");
      }
    }
    std::byte* to = warp.shared(warp.at<uint32_t>(in.operands[0])[lane], bytes);
    const uint64_t from = warp.at<uint64_t>(in.operands[1])[lane];
    if (from % bytes != 0) warp.fault("a copy from an address that is not aligned");
    // Of fewer bytes, no more than those are read.
    const std::byte* source = nullptr;
    if (copied > 0) {
      source = warp.global(from, 1);
      warp.global(from + copied - 1, 1);
    }
    warp.add_copy({to, source, copied, bytes - copied});
  });
}

void commit(Warp& warp, const Instruction&, Mask mask) {
  if (mask != warp.live()) warp.fault("some lanes of a warp commit their copies alone");
  warp.commit_copies();
}
void wait(Warp& warp, const Instruction& in, Mask mask) {
  if (mask != warp.live()) warp.fault("some lanes of a warp wait for their copies alone");
  warp.wait_for_copies(static_cast<size_t>(in.immediate));
}

void build_cp(Building& b) {
  if (!b.words.take("async")) b.words.unknown();
  if (b.words.take("commit_group")) {
    b.instruction.step = commit;
    return;
  }
  if (b.words.take("wait_group")) {
    b.instruction.immediate = static_cast<int64_t>(b.assembler.operand(b.argument(0).parts[0], 32).value);
    b.instruction.step = wait;
    return;
  }
  b.words.skip_memory_words();
  if (!b.words.take("shared") && !b.words.take("shared::cta")) b.words.unknown();
  if (!b.words.take("global")) b.words.unknown();
  if (b.argument(0).parts.size() > 1 || b.argument(1).parts.size() > 1) b.words.unknown();
  b.add_address(0);
  b.add_address(1);
  b.instruction.immediate = static_cast<int64_t>(b.assembler.operand(b.argument(2).parts[0], 32).value);
  b.instruction.step = copy<false>;
  if (b.count() < 4) return;
  const std::string& last = b.argument(3).parts[0];
  const Operand operand = b.assembler.operand(last, 32);
  if (operand.bits == 1) {
    b.operands.push_back(operand.place);
    b.instruction.step = copy<true>;
  } else {
    b.add(3, 32);
  }
}

void nothing(Warp&, const Instruction&, Mask) {}

// All memory is in order here.
void build_fence(Building& b) {
  for (std::string_view word : {"acq_rel", "sc", "cta", "gpu", "sys", "gl", "proxy", "async", "shared::cta"}) {
    b.words.take(word);
  }
  b.instruction.step = nothing;
}

}  // namespace

void add_memory(std::map<std::string, Builder>& builders) {
  builders["ld"] = build_ld;
  builders["st"] = build_st;
  builders["atom"] = build_atomic<true>;
  builders["red"] = build_atomic<false>;
  builders["cp"] = build_cp;
  builders["fence"] = build_fence;
  builders["membar"] = build_fence;
}

}  // namespace ptx_machine
