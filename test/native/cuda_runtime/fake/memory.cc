// The GPUs' memory, and what of the host's they can read and write.
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "state.h"

using namespace fake;

namespace fake {
namespace {

// Whether memory belongs to a GPU.
bool on_gpu(const void* data) {
  const char* place = static_cast<const char*>(data);
  return std::any_of(state().blocks.begin(), state().blocks.end(),
                     [&](const auto& each) { return place >= each.first && place < each.first + each.second.bytes; });
}

// At the time when a copy is done.
void access(const void* data, size_t bytes) {
  if (on_gpu(data)) return use(data, bytes);
  const char* begin = static_cast<const char*>(data);
  const bool pinned = std::any_of(state().pinned.begin(), state().pinned.end(), [&](const auto& each) {
    return begin >= each.first && begin + bytes <= each.first + each.second;
  });
  if (!pinned) problem("a copy uses memory of the host that is not pinned");
}

}  // namespace
}  // namespace fake

cudaError_t cudaMemPoolCreate(cudaMemPool_t* pool, const cudaMemPoolProps* properties) {
  FAKE_CALL();
  *pool = new CUmemPoolHandle_st{properties->location.id};
  s.pools.insert(*pool);
  return cudaSuccess;
}

cudaError_t cudaMemPoolDestroy(cudaMemPool_t pool) {
  FAKE_CALL();
  return fake::destroy(s.pools, pool);
}

cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, int, void*) {
  FAKE_CALL();
  return cudaSuccess;
}

// Gives back what is released.
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t pool, size_t) {
  FAKE_CALL();
  if (breaks_capture()) return cudaErrorStreamCaptureUnsupported;
  size_t& used = s.used[static_cast<size_t>(pool->device)];
  used = 0;
  for (const auto& [data, block] : s.blocks) {
    if (block.device == pool->device && (!block.released || block.usable)) used += block.bytes;
  }
  return cudaSuccess;
}

cudaError_t cudaMallocFromPoolAsync(void** data, size_t bytes, cudaMemPool_t pool, cudaStream_t stream) {
  FAKE_CALL();
  const auto device = static_cast<size_t>(pool->device);
  if (bytes == 0) return cudaErrorInvalidValue;
  if (s.used[device] + bytes > s.gpus[device].memory) return cudaErrorMemoryAllocation;
  if (stream->captured) problem("memory is allocated in a capture");
  char* made = new char[bytes];
  s.blocks[made] = {.bytes = bytes, .device = pool->device};
  // The stream's next work may use it; that of other streams must wait for this.
  const cudaError_t failed = enqueue(stream, [made] { state().blocks[made].usable = true; });
  if (failed != cudaSuccess) {
    s.blocks.erase(made);
    delete[] made;
    return failed;
  }
  s.used[device] += bytes;
  *data = made;
  return cudaSuccess;
}

cudaError_t cudaFreeAsync(void* data, cudaStream_t stream) {
  FAKE_CALL();
  const auto found = s.blocks.find(static_cast<char*>(data));
  if (found == s.blocks.end() || found->second.released) {
    problem("memory of the GPU is released that it does not have");
    return cudaErrorInvalidValue;
  }
  found->second.released = true;
  return enqueue(stream, [made = static_cast<char*>(data)] {
    Block& block = state().blocks[made];
    if (!block.usable) problem("memory of the GPU is released before it is allocated");
    block.usable = false;
    std::memset(made, 0xdd, block.bytes);
  });
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  FAKE_CALL();
  const auto device = static_cast<size_t>(current_device);
  *total = s.gpus[device].memory;
  *free = *total - s.used[device];
  return cudaSuccess;
}

cudaError_t cudaMallocHost(void** data, size_t bytes) {
  FAKE_CALL();
  if (breaks_capture()) return cudaErrorStreamCaptureUnsupported;
  char* made = new char[bytes];
  s.pinned[made] = bytes;
  *data = made;
  return cudaSuccess;
}

cudaError_t cudaFreeHost(void* data) {
  FAKE_CALL();
  char* made = static_cast<char*>(data);
  if (s.pinned.erase(made) == 0) return cudaErrorInvalidValue;
  delete[] made;
  return cudaSuccess;
}

cudaError_t cudaHostRegister(void* data, size_t bytes, unsigned) {
  FAKE_CALL();
  if (breaks_capture()) return cudaErrorStreamCaptureUnsupported;
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  if (reinterpret_cast<uintptr_t>(data) % page != 0 || bytes % page != 0) problem("a part of a page is pinned");
  if (!s.pinned.emplace(static_cast<char*>(data), bytes).second) return cudaErrorHostMemoryAlreadyRegistered;
  return cudaSuccess;
}

cudaError_t cudaHostUnregister(void* data) {
  FAKE_CALL();
  return s.pinned.erase(static_cast<char*>(data)) == 0 ? cudaErrorHostMemoryNotRegistered : cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  FAKE_CALL();
  return enqueue(stream, [=] {
    access(to, bytes);
    access(from, bytes);
    std::memcpy(to, from, bytes);
  });
}

cudaError_t cudaMemsetAsync(void* data, int value, size_t bytes, cudaStream_t stream) {
  FAKE_CALL();
  return enqueue(stream, [=] {
    access(data, bytes);
    std::memset(data, value, bytes);
  });
}
