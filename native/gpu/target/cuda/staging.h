// Copies of the host's own memory to a GPU and back.
#pragma once

#include <sys/resource.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <span>
#include <vector>

#include <ptx/launch.cuh>

#include "gpu/runtime/runtime.h"
#include "gpu/target/cuda/messages.h"

namespace moe::cuda {

// Of a call that pins memory of the host: where that runs out, the GPU's need not.
inline Status pin_status(cudaError_t error, const char* what, size_t bytes) {
  const Status status = cuda_status(error, what);
  if (status.ok()) return status;
  rlimit limit{RLIM_INFINITY, RLIM_INFINITY};
  getrlimit(RLIMIT_MEMLOCK, &limit);
  const uint64_t most = limit.rlim_cur == RLIM_INFINITY ? UINT64_MAX : limit.rlim_cur;
  return {status.code, pin_problem(bytes, most, status.message)};
}

// Pinned host memory that copies pass through in pieces, so that the host's own memory need not be pinned and can be
// reused immediately.
class Staging {
 public:
  explicit Staging(size_t buffers) : buffers_(buffers) {}
  // Waits for the copies: nobody may have waited for the stream, which its owner may capture.
  ~Staging() {
    for (const Buffer& buffer : buffers_) {
      if (buffer.copied != nullptr) cudaEventSynchronize(buffer.copied);
      if (buffer.copied != nullptr) cudaEventDestroy(buffer.copied);
      if (buffer.data != nullptr) cudaFreeHost(buffer.data);
    }
  }

  // Returns once `host` has been read; the copies continue in the background.
  Status upload(void* device, const void* host, size_t bytes, cudaStream_t stream) {
    const std::lock_guard lock(mutex_);
    for (size_t offset = 0; offset < bytes; offset += kPiece) {
      const size_t piece = bytes - offset < kPiece ? bytes - offset : kPiece;
      Buffer& buffer = buffers_[next_++ % buffers_.size()];
      MOE_TRY(prepare(buffer));
      MOE_TRY(cuda_status(cudaEventSynchronize(buffer.copied), "upload"));
      std::memcpy(buffer.data, static_cast<const char*>(host) + offset, piece);
      MOE_TRY(enqueue(buffer, static_cast<char*>(device) + offset, buffer.data, piece, stream));
    }
    return {};
  }

  // Returns once all has been written. One piece is copied out while the next is in transit.
  Status download(std::span<const Download> downloads, cudaStream_t stream) {
    const std::lock_guard lock(mutex_);
    std::vector<Download> pieces;
    for (const Download& each : downloads) {
      for (size_t offset = 0; offset < each.bytes; offset += kPiece) {
        pieces.push_back({static_cast<char*>(each.host) + offset, static_cast<const char*>(each.device) + offset,
                          std::min(each.bytes - offset, kPiece)});
      }
    }
    const auto begin = [&](size_t index) -> Status {
      if (index >= pieces.size()) return {};
      Buffer& buffer = buffers_[index % buffers_.size()];
      MOE_TRY(prepare(buffer));
      return enqueue(buffer, buffer.data, pieces[index].device, pieces[index].bytes, stream);
    };
    MOE_TRY(begin(0));
    for (size_t index = 0; index < pieces.size(); ++index) {
      MOE_TRY(begin(index + 1));
      const Buffer& buffer = buffers_[index % buffers_.size()];
      MOE_TRY(cuda_status(cudaEventSynchronize(buffer.copied), "work enqueued earlier"));
      std::memcpy(pieces[index].host, buffer.data, pieces[index].bytes);
    }
    return {};
  }

 private:
  static constexpr size_t kPiece = size_t{4} << 20;

  struct Buffer {
    void* data = nullptr;
    cudaEvent_t copied = nullptr;
  };

  static Status prepare(Buffer& buffer) {
    if (buffer.copied == nullptr) {
      MOE_TRY(cuda_status(cudaEventCreateWithFlags(&buffer.copied, cudaEventDisableTiming), "cudaEventCreate"));
    }
    if (buffer.data != nullptr) return {};
    return pin_status(cudaMallocHost(&buffer.data, kPiece), "cudaMallocHost", kPiece);
  }

  static Status enqueue(const Buffer& buffer, void* to, const void* from, size_t bytes, cudaStream_t stream) {
    MOE_TRY(cuda_status(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream), "cudaMemcpyAsync"));
    return cuda_status(cudaEventRecord(buffer.copied, stream), "cudaEventRecord");
  }

  std::mutex mutex_;
  std::vector<Buffer> buffers_;
  size_t next_ = 0;
};

}  // namespace moe::cuda
