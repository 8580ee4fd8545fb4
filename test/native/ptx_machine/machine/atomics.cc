// Atomics.
#include <atomic>
#include <type_traits>

#include "addresses.h"
#include "lanes.h"

namespace ptx_machine {
namespace {

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

// The old value (place 0: nobody wants it), the address and one or two values.
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

template <Space kSpace, class T>
Step atomic_step(const std::string& name) {
  if (name == "add") return atomic<kSpace, AtomicAdd, T>;
  if (name == "exch") return atomic<kSpace, AtomicExchange, T>;
  if constexpr (std::is_integral_v<T>) {
    if (name == "min") return atomic<kSpace, AtomicMinimum, T>;
    if (name == "max") return atomic<kSpace, AtomicMaximum, T>;
    if (name == "and") return atomic<kSpace, AtomicAnd, T>;
    if (name == "or") return atomic<kSpace, AtomicOr, T>;
    if (name == "cas") return atomic<kSpace, AtomicCompareExchange, T>;
  }
  Words::unknown();
}

// atom returns the old value, red does not.
template <bool kReturns>
void build_atomic(Building& b) {
  const Type type = b.words.take_type();
  const Space space = take_space(b);
  b.words.skip_memory_words();
  const std::string name = b.words.take_one({"add", "min", "max", "and", "or", "exch", "cas"});
  const unsigned bits = bits_of(type);
  if (kReturns && b.text(0) != "_") {
    b.add(0, bits);
  } else {
    b.operands.push_back(0);
  }
  constexpr size_t kAddress = kReturns ? 1 : 0;
  b.add_address(kAddress);
  b.add(kAddress + 1, bits);
  if (name == "cas") b.add(kAddress + 2, bits);
  const auto build = [&]<class T>(T) {
    with_writable(space, [&]<Space kSpace>() { b.instruction.step = atomic_step<kSpace, T>(name); });
  };
  if (type == Type::f32) return build(float{});
  if (bits < 32) b.words.unknown();
  with_integer(b, type, build);
}

}  // namespace

void add_atomics(Builders& builders) {
  builders["atom"] = build_atomic<true>;
  builders["red"] = build_atomic<false>;
}

}  // namespace ptx_machine
