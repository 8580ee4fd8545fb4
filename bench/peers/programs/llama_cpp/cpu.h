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
    void* extra = ggml.find(ggml.registration(device_), "ggml_backend_dev_get_extra_bufts");
    if (extra == nullptr) throw std::runtime_error("the CPU backend of this ggml has no list of types of buffers");
    GgmlBufferType** type = reinterpret_cast<GgmlBufferType** (*)(GgmlDevice*)>(extra)(device_);
    for (; *type != nullptr; ++type) buffer_types_.push_back(*type);
    buffer_types_.push_back(ggml.buffer_type(device_));
    Dl_info info{};
    if (dladdr(extra, &info) == 0) throw std::runtime_error("the CPU backend of this ggml is in no library");
    path_ = info.dli_fname;
    library_ = dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD);
    pause_ = Function<void(GgmlThreadPool*)>(library_, "ggml_threadpool_pause");
  }
  Cpu(const Cpu&) = delete;
  Cpu& operator=(const Cpu&) = delete;

  void use_threads(int threads) {
    // ggml's own options, which are smaller than this.
    alignas(std::max_align_t) char options[8192];
    ggml.thread_pool_options(options, threads);
    pool_ = Function<GgmlThreadPool*(void*)>(library_, "ggml_threadpool_new")(options);
    if (pool_ == nullptr) throw std::runtime_error("ggml cannot start its threads");
    Function<void(GgmlBackend*, int)>(library_, "ggml_backend_cpu_set_n_threads")(backend_, threads);
    Function<void(GgmlBackend*, GgmlThreadPool*)>(library_, "ggml_backend_cpu_set_threadpool")(backend_, pool_);
  }

  /** Lets the threads sleep until there is work: else they spin for a while, which would disturb the next contender. */
  void rest() const { pause_(pool_); }

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
    const std::string stem = std::filesystem::path(path_).stem().string();
    return stem.substr(stem.rfind('-') + 1);
  }

  const Ggml& ggml;

 private:
  /** Passes warnings and errors on. */
  static void log(int level, const char* text, void*) {
    constexpr int warning = 3, error = 4;
    if (level == warning || level == error) std::cerr << text;
  }

  GgmlDevice* device_ = nullptr;
  GgmlBackend* backend_ = nullptr;
  std::string path_;
  void* library_ = nullptr;
  void (*pause_)(GgmlThreadPool*) = nullptr;
  GgmlThreadPool* pool_ = nullptr;
  std::vector<GgmlBufferType*> buffer_types_;
};
