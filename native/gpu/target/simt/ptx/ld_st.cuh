// Loads and stores of 4, 8 and 16 bytes, checked as by the hardware: the address must be a multiple of the size, and in
// the instruction's state space.
#pragma once

#include <cstdint>
#include <cstring>
#include <source_location>

#include "ptx/device.cuh"

namespace moe::simt::machine {

template <class T>
T load(const void* address) {
  T value;
  memcpy(&value, address, sizeof value);
  return value;
}

}  // namespace moe::simt::machine

namespace moe::simt::ptx {

inline uint4 ld_global_128(const void* address, std::source_location where = std::source_location::current()) {
  machine::check_global({"ld_global_128", where}, address, 16);
  return machine::load<uint4>(address);
}
inline uint2 ld_global_64(const void* address, std::source_location where = std::source_location::current()) {
  machine::check_global({"ld_global_64", where}, address, 8);
  return machine::load<uint2>(address);
}
inline uint32_t ld_global_32(const void* address, std::source_location where = std::source_location::current()) {
  machine::check_global({"ld_global_32", where}, address, 4);
  return machine::load<uint32_t>(address);
}

inline uint4 ld_shared_128(const void* address, std::source_location where = std::source_location::current()) {
  machine::check_shared({"ld_shared_128", where}, address, 16);
  return machine::load<uint4>(address);
}
inline uint2 ld_shared_64(const void* address, std::source_location where = std::source_location::current()) {
  machine::check_shared({"ld_shared_64", where}, address, 8);
  return machine::load<uint2>(address);
}
inline uint32_t ld_shared_32(const void* address, std::source_location where = std::source_location::current()) {
  machine::check_shared({"ld_shared_32", where}, address, 4);
  return machine::load<uint32_t>(address);
}

inline void st_global_128(void* address, uint4 value, std::source_location where = std::source_location::current()) {
  machine::check_global({"st_global_128", where}, address, 16);
  memcpy(address, &value, sizeof value);
}
inline void st_global_64(void* address, uint2 value, std::source_location where = std::source_location::current()) {
  machine::check_global({"st_global_64", where}, address, 8);
  memcpy(address, &value, sizeof value);
}
inline void st_global_32(void* address, uint32_t value, std::source_location where = std::source_location::current()) {
  machine::check_global({"st_global_32", where}, address, 4);
  memcpy(address, &value, sizeof value);
}

inline void st_shared_128(void* address, uint4 value, std::source_location where = std::source_location::current()) {
  machine::check_shared({"st_shared_128", where}, address, 16);
  memcpy(address, &value, sizeof value);
  machine::note_write(address);
}
inline void st_shared_64(void* address, uint2 value, std::source_location where = std::source_location::current()) {
  machine::check_shared({"st_shared_64", where}, address, 8);
  memcpy(address, &value, sizeof value);
  machine::note_write(address);
}
inline void st_shared_32(void* address, uint32_t value, std::source_location where = std::source_location::current()) {
  machine::check_shared({"st_shared_32", where}, address, 4);
  memcpy(address, &value, sizeof value);
  machine::note_write(address);
}

}  // namespace moe::simt::ptx
