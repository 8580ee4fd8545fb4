// The calling thread on a GPU, beside captures of streams by others.
#pragma once

#include <ptx/launch.cuh>

namespace moe::cuda {

// The calling thread's mode for captures of streams, if it is wanted, until the end of the scope. While a stream is
// captured in CUDA's default mode, no thread in that mode may make a call that is not put on a stream, such as one that
// allocates, waits or loads a kernel: the call fails, and so does the capture.
class CaptureMode {
 public:
  explicit CaptureMode(cudaStreamCaptureMode mode, bool wanted = true)
      : mode_(mode), set_(wanted && cudaThreadExchangeStreamCaptureMode(&mode_) == cudaSuccess) {}
  ~CaptureMode() {
    if (set_) cudaThreadExchangeStreamCaptureMode(&mode_);
  }
  CaptureMode(const CaptureMode&) = delete;
  CaptureMode& operator=(const CaptureMode&) = delete;

 private:
  cudaStreamCaptureMode mode_;  // while this one is set, that of before
  const bool set_;
};

// Makes a GPU the calling thread's, and lets captures of others alone until the end of the scope: no call fails because
// of one, or ends it. The thread stays on the GPU, and gets its mode back. In an inner scope the thread's mode stays as
// it is, so that a recording of the device's own can be strict.
class OnGpu {
 public:
  explicit OnGpu(int device)
      : error_(cudaSetDevice(device)),
        outermost_(error_ == cudaSuccess && !inside_),
        // Only now, because this call makes the thread's GPU one that the process uses.
        mode_(cudaStreamCaptureModeRelaxed, outermost_) {
    if (outermost_) inside_ = true;
  }
  ~OnGpu() {
    if (outermost_) inside_ = false;
  }
  OnGpu(const OnGpu&) = delete;
  OnGpu& operator=(const OnGpu&) = delete;

  cudaError_t error() const { return error_; }
  Status status() const { return cuda_status(error_, "cudaSetDevice"); }

 private:
  static inline thread_local bool inside_ = false;

  const cudaError_t error_;
  const bool outermost_;
  CaptureMode mode_;
};

}  // namespace moe::cuda
