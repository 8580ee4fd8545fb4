// The memory pools of the devices that are open in this process. They keep what is released; here it is given back to a
// GPU whose memory has run out.
#pragma once

#include <mutex>
#include <vector>

#include <ptx/launch.cuh>

namespace moe::cuda {

// Whether somebody records work on a stream, which may not be waited for then. Also of the legacy stream, which may not
// be used at all while a stream is recorded that it would wait for.
inline bool is_captured(cudaStream_t stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  const cudaError_t error = cudaStreamIsCapturing(stream, &status);
  return error == cudaErrorStreamCaptureImplicit || (error == cudaSuccess && status != cudaStreamCaptureStatusNone);
}

class Pools {
 public:
  static Pools& of_process() {
    // Never destroyed: a device may be closed while the process exits.
    static Pools& all = *new Pools;
    return all;
  }
  // Memory of the pool is released on this stream.
  void add(int device, cudaMemPool_t pool, cudaStream_t stream) {
    const std::lock_guard lock(mutex_);
    pools_.push_back({device, pool, stream});
  }
  // From here on on this one. Nobody waits for the one before any more.
  void move(cudaMemPool_t pool, cudaStream_t stream) noexcept {
    const std::lock_guard lock(mutex_);
    for (Pool& each : pools_) {
      if (each.pool == pool) each.stream = stream;
    }
  }
  void remove(cudaMemPool_t pool) noexcept {
    const std::lock_guard lock(mutex_);
    std::erase_if(pools_, [pool](const Pool& each) { return each.pool == pool; });
  }
  // Gives back to a GPU what its pools keep. CUDA counts what is released as used until somebody has waited for that.
  // False if it cannot.
  bool trim(int device) {
    const std::lock_guard lock(mutex_);
    bool trimmed = true;
    for (const Pool& each : pools_) {
      if (each.device != device) continue;
      if (!is_captured(each.stream)) trimmed = cudaStreamSynchronize(each.stream) == cudaSuccess && trimmed;
      trimmed = cudaMemPoolTrimTo(each.pool, 0) == cudaSuccess && trimmed;
    }
    return trimmed;
  }

 private:
  struct Pool {
    int device;
    cudaMemPool_t pool;
    cudaStream_t stream;
  };

  std::mutex mutex_;
  std::vector<Pool> pools_;
};

// The result of a call of CUDA's that takes memory of a GPU. Where that has run out, pools give back what they keep,
// and the call is made again: CUDA does not take it from them, neither for another pool nor for kernels and graphs.
template <class Call>
cudaError_t with_memory(int device, Call&& call) {
  const cudaError_t error = call();
  return error == cudaErrorMemoryAllocation && Pools::of_process().trim(device) ? call() : error;
}

}  // namespace moe::cuda
