// CUDA's atomic functions: relaxed, on shared or global memory. They return the old value.
#pragma once

#include <atomic>
#include <concepts>
#include <source_location>
#include <type_traits>

#include "simt/machine.h"

namespace moe::simt {

namespace machine {

template <class T>
std::atomic_ref<T> atomic_at(const char* name, T* address, const std::source_location& where) {
  check_aligned({name, where}, address, sizeof(T));
  return std::atomic_ref<T>(*address);
}

// Replaces the value with function(value).
template <class T, class Function>
T update(std::atomic_ref<T> atomic, Function function) {
  T old = atomic.load(std::memory_order_relaxed);
  while (!atomic.compare_exchange_weak(old, function(old), std::memory_order_relaxed)) {
  }
  return old;
}

}  // namespace machine

template <class T>
concept AtomicInteger = std::same_as<T, int> || std::same_as<T, unsigned> || std::same_as<T, unsigned long long>;

template <class T>
  requires AtomicInteger<T> || std::floating_point<T>
T atomicAdd(T* address, std::type_identity_t<T> value, std::source_location where = std::source_location::current()) {
  return machine::atomic_at("atomicAdd", address, where).fetch_add(value, std::memory_order_relaxed);
}
template <AtomicInteger T>
T atomicSub(T* address, std::type_identity_t<T> value, std::source_location where = std::source_location::current()) {
  return machine::atomic_at("atomicSub", address, where).fetch_sub(value, std::memory_order_relaxed);
}
template <AtomicInteger T>
T atomicOr(T* address, std::type_identity_t<T> value, std::source_location where = std::source_location::current()) {
  return machine::atomic_at("atomicOr", address, where).fetch_or(value, std::memory_order_relaxed);
}
template <AtomicInteger T>
T atomicAnd(T* address, std::type_identity_t<T> value, std::source_location where = std::source_location::current()) {
  return machine::atomic_at("atomicAnd", address, where).fetch_and(value, std::memory_order_relaxed);
}
template <AtomicInteger T>
T atomicMax(T* address, std::type_identity_t<T> value, std::source_location where = std::source_location::current()) {
  return machine::update(machine::atomic_at("atomicMax", address, where),
                         [value](T old) { return old < value ? value : old; });
}
template <AtomicInteger T>
T atomicMin(T* address, std::type_identity_t<T> value, std::source_location where = std::source_location::current()) {
  return machine::update(machine::atomic_at("atomicMin", address, where),
                         [value](T old) { return value < old ? value : old; });
}
template <class T>
  requires AtomicInteger<T> || std::same_as<T, float>
T atomicExch(T* address, std::type_identity_t<T> value, std::source_location where = std::source_location::current()) {
  return machine::atomic_at("atomicExch", address, where).exchange(value, std::memory_order_relaxed);
}
template <AtomicInteger T>
T atomicCAS(T* address, std::type_identity_t<T> expected, std::type_identity_t<T> value,
            std::source_location where = std::source_location::current()) {
  machine::atomic_at("atomicCAS", address, where).compare_exchange_strong(expected, value, std::memory_order_relaxed);
  return expected;
}

}  // namespace moe::simt
