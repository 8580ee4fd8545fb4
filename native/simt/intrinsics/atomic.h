// CUDA's atomic functions: relaxed, on shared or global memory. They return the old value.
#pragma once

#include <atomic>
#include <concepts>
#include <source_location>
#include <type_traits>

#include "simt/machine.h"

namespace moe::simt {

namespace machine {

// Integers wrap.
template <class T>
T sum(T a, T b) {
  if constexpr (std::integral<T>) {
    using Unsigned = std::make_unsigned_t<T>;
    return static_cast<T>(static_cast<Unsigned>(a) + static_cast<Unsigned>(b));
  } else {
    return a + b;
  }
}
template <std::integral T>
T difference(T a, T b) {
  using Unsigned = std::make_unsigned_t<T>;
  return static_cast<T>(static_cast<Unsigned>(a) - static_cast<Unsigned>(b));
}

// Replaces the value at `address` by function(value), and returns the old one.
template <class T, class Function>
T update(const char* name, T* address, const std::source_location& where, Function function) {
  const Call call{name, where};
  check_atomic(call, address, sizeof(T));
  const std::atomic_ref<T> atomic(*address);
  T old = atomic.load(std::memory_order_relaxed);
  T replaced = function(old);
  while (!atomic.compare_exchange_weak(old, replaced, std::memory_order_relaxed)) replaced = function(old);
  polled(call, replaced == old);
  return old;
}

}  // namespace machine

template <class T>
concept AtomicInteger = std::same_as<T, int> || std::same_as<T, unsigned> || std::same_as<T, unsigned long long>;

template <class T>
  requires AtomicInteger<T> || std::floating_point<T>
T atomicAdd(T* address, std::type_identity_t<T> value, std::source_location where = std::source_location::current()) {
  return machine::update("atomicAdd", address, where, [value](T old) { return machine::sum(old, value); });
}
template <AtomicInteger T>
T atomicSub(T* address, std::type_identity_t<T> value, std::source_location where = std::source_location::current()) {
  return machine::update("atomicSub", address, where, [value](T old) { return machine::difference(old, value); });
}
template <AtomicInteger T>
T atomicOr(T* address, std::type_identity_t<T> value, std::source_location where = std::source_location::current()) {
  return machine::update("atomicOr", address, where, [value](T old) { return old | value; });
}
template <AtomicInteger T>
T atomicAnd(T* address, std::type_identity_t<T> value, std::source_location where = std::source_location::current()) {
  return machine::update("atomicAnd", address, where, [value](T old) { return old & value; });
}
template <AtomicInteger T>
T atomicMax(T* address, std::type_identity_t<T> value, std::source_location where = std::source_location::current()) {
  return machine::update("atomicMax", address, where, [value](T old) { return old < value ? value : old; });
}
template <AtomicInteger T>
T atomicMin(T* address, std::type_identity_t<T> value, std::source_location where = std::source_location::current()) {
  return machine::update("atomicMin", address, where, [value](T old) { return value < old ? value : old; });
}
template <class T>
  requires AtomicInteger<T> || std::same_as<T, float>
T atomicExch(T* address, std::type_identity_t<T> value, std::source_location where = std::source_location::current()) {
  return machine::update("atomicExch", address, where, [value](T) { return value; });
}
template <AtomicInteger T>
T atomicCAS(T* address, std::type_identity_t<T> expected, std::type_identity_t<T> value,
            std::source_location where = std::source_location::current()) {
  return machine::update("atomicCAS", address, where, [=](T old) { return old == expected ? value : old; });
}

}  // namespace moe::simt
