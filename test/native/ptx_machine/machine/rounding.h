// How results of floats are rounded, flushed and clamped.
#pragma once

#include <cfenv>
#include <type_traits>

#include "floats.h"
#include "lanes.h"

namespace ptx_machine {

// Rounded in another direction than to the nearest.
template <int kRounding, class Operation>
struct Rounded {
  template <class... T>
  auto operator()(T... values) const {
    std::fesetround(kRounding);
    volatile auto result = Operation{}(here(values)...);
    std::fesetround(FE_TONEAREST);
    return static_cast<std::common_type_t<T...>>(result);
  }

 private:
  // Volatile, or the compiler moves the operation out from between the calls.
  template <class T>
  static T here(T value) {
    volatile T kept = value;
    return kept;
  }
};

// Subnormal numbers are zero, before and after the operation.
template <class Operation>
struct Flushed {
  template <class... T>
  float operator()(T... values) const {
    return flush(Operation{}(flush(values)...));
  }
};

// Between 0 and 1, and 0 for NaN.
template <class Operation>
struct Saturated {
  template <class... T>
  auto operator()(T... values) const {
    const auto result = Operation{}(values...);
    return !(result > 0) ? decltype(result){0} : result < 1 ? result : decltype(result){1};
  }
};

// An operation of T with the rounding that the words say.
template <class Operation, class T, class... Sources>
void build_rounded(Building& b) {
  if (b.words.take("rm")) return build_lanes<Rounded<FE_DOWNWARD, Operation>, T, Sources...>(b);
  if (b.words.take("rp")) return build_lanes<Rounded<FE_UPWARD, Operation>, T, Sources...>(b);
  if (b.words.take("rz")) return build_lanes<Rounded<FE_TOWARDZERO, Operation>, T, Sources...>(b);
  b.words.take("rn");
  if constexpr (std::is_same_v<T, float>) {
    const bool flushes = b.words.take("ftz"), saturates = b.words.take("sat");
    if (flushes && saturates) return build_lanes<Saturated<Flushed<Operation>>, T, Sources...>(b);
    if (flushes) return build_lanes<Flushed<Operation>, T, Sources...>(b);
    if (saturates) return build_lanes<Saturated<Operation>, T, Sources...>(b);
  }
  build_lanes<Operation, T, Sources...>(b);
}

// The same with as many sources as the operation has, of f32 or f64.
template <class Operation, size_t kSources>
void build_floats(Building& b, Type type) {
  const auto build = [&]<class T>(T) {
    if constexpr (kSources == 1) build_rounded<Operation, T, T>(b);
    if constexpr (kSources == 2) build_rounded<Operation, T, T, T>(b);
    if constexpr (kSources == 3) build_rounded<Operation, T, T, T, T>(b);
  };
  if (type == Type::f32) return build(float{});
  if (type == Type::f64) return build(double{});
  b.words.unknown();
}

}  // namespace ptx_machine
