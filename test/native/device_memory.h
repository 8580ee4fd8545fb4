// Memory of a device, for tests.
#pragma once

#include <vector>

#include "check.h"
#include "core/backend.h"

namespace moe::test {

class DeviceMemory {
 public:
  DeviceMemory(Backend& backend, size_t bytes) : backend_(backend), bytes_(bytes) {
    MOE_CHECK(backend.allocate(bytes, &data_).ok());
  }
  ~DeviceMemory() { backend_.release(data_, bytes_); }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  void* data() const { return data_; }
  void write(const void* values) { MOE_CHECK(backend_.write(data_, values, bytes_).ok()); }
  std::vector<char> read() const {
    std::vector<char> values(bytes_);
    MOE_CHECK(backend_.read(values.data(), data_, bytes_).ok());
    return values;
  }

 private:
  Backend& backend_;
  size_t bytes_;
  void* data_ = nullptr;
};

}  // namespace moe::test
