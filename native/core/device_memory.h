// Memory of a device, released at the end of its scope, in order with the device's work.
#pragma once

#include "core/backend.h"

namespace moe {

class DeviceMemory {
 public:
  explicit DeviceMemory(Backend& device) : device_(device) {}
  ~DeviceMemory() {
    if (data_ != nullptr) device_.release(data_, bytes_);
  }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  // Memory for a tensor of this shape, once.
  Status reserve(const TensorView& shape, TensorView* tensor) {
    bytes_ = static_cast<size_t>(shape.bytes());
    MOE_TRY(device_.allocate(bytes_, &data_));
    *tensor = shape;
    tensor->data = data_;
    return {};
  }

 private:
  Backend& device_;
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace moe
