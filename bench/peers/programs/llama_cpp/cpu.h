#pragma once

#include <iostream>
#include <vector>

#include "ggml.h"

/** ggml's backend for CPUs, in the variant that ggml chooses for this one, with threads that live as long as it. */
class Cpu {
 public:
  Cpu(const Ggml& ggml, const std::string& folder) : ggml(ggml) {
    ggml.log_set(log, nullptr);
    ggml.load_backends(folder.c_str());
    device_ = ggml.device_by_name("CPU");
    if (device_ == nullptr) throw std::runtime_error(folder + ": expected a library libggml-cpu-* for this CPU");
    backend_ = ggml.new_backend(device_, nullptr);
    const auto extra = find<GgmlBufferType**(GgmlDevice*)>("ggml_backend_dev_get_extra_bufts");
    for (GgmlBufferType** type = extra(device_); *type != nullptr; ++type) buffer_types_.push_back(*type);
    buffer_types_.push_back(ggml.buffer_type(device_));
  }
  Cpu(const Cpu&) = delete;
  Cpu& operator=(const Cpu&) = delete;

  void use_threads(int threads) {
    // Its own options, larger than any version has had them.
    alignas(std::max_align_t) char options[8192];
    ggml.thread_pool_options(options, threads);
    GgmlThreadPool* pool = find<GgmlThreadPool*(void*)>("ggml_threadpool_new")(options);
    if (pool == nullptr) throw std::runtime_error("ggml cannot start its threads");
    find<void(GgmlBackend*, int)>("ggml_backend_set_n_threads")(backend_, threads);
    find<void(GgmlBackend*, GgmlThreadPool*)>("ggml_backend_cpu_set_threadpool")(backend_, pool);
  }

  /** Types of buffers for weights, the best first: those that reorder them, then plain memory. */
  const std::vector<GgmlBufferType*>& buffer_types() const { return buffer_types_; }
  GgmlBufferType* plain_memory() const { return buffer_types_.back(); }
  bool supports(const GgmlTensor* operation) const { return ggml.supports(device_, operation); }

  void compute(GgmlGraph* graph) const {
    const int status = ggml.compute(backend_, graph);
    if (status != 0) throw std::runtime_error("ggml cannot compute a graph: status " + std::to_string(status));
  }

  /** The variant, such as "cascadelake": what its library is called after "libggml-cpu-". */
  std::string variant() const {
    Dl_info info{};
    const auto function = find<void(GgmlBackend*, int)>("ggml_backend_set_n_threads");
    if (dladdr(reinterpret_cast<void*>(function), &info) == 0)
      throw std::runtime_error("no library of the CPU backend");
    const std::string stem = std::filesystem::path(info.dli_fname).stem().string();
    return stem.substr(stem.rfind('-') + 1);
  }

  const Ggml& ggml;

 private:
  /** A function of the backend. */
  template <class Signature>
  Signature* find(const char* name) const {
    void* address = ggml.find(ggml.registration(device_), name);
    if (address == nullptr) throw std::runtime_error(std::string("the CPU backend of this ggml has no ") + name);
    return reinterpret_cast<Signature*>(address);
  }

  /** Passes warnings and errors on. */
  static void log(int level, const char* text, void*) {
    constexpr int warning = 3, error = 4;
    if (level == warning || level == error) std::cerr << text;
  }

  GgmlDevice* device_ = nullptr;
  GgmlBackend* backend_ = nullptr;
  std::vector<GgmlBufferType*> buffer_types_;
};
