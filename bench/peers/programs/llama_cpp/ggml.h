#pragma once

#include <dlfcn.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <stdexcept>
#include <string>

// The part of ggml's C interface that this program uses, declared here because node-llama-cpp's package has libraries
// but no headers. Tensors and all else stay opaque, so that no layout but that of InitOptions matters.

struct GgmlContext;
struct GgmlTensor;
struct GgmlGraph;
struct GgmlGraphAllocator;
struct GgmlThreadPool;
struct GgmlBackend;
struct GgmlBuffer;
struct GgmlBufferType;
struct GgmlDevice;
struct GgmlRegistration;

/** A type of tensors: its number in ggml, and what ggml should say of it. */
struct GgmlType {
  int number;
  const char* name;
  std::int64_t block_elements;
  std::size_t block_bytes;
};

namespace ggml_types {
constexpr GgmlType f32{0, "f32", 1, 4};
constexpr GgmlType i32{26, "i32", 1, 4};
constexpr GgmlType bf16{30, "bf16", 1, 2};
constexpr GgmlType q4_0{2, "q4_0", 32, 18};
constexpr GgmlType q8_0{8, "q8_0", 32, 34};
constexpr GgmlType q2_k{10, "q2_K", 256, 84};
constexpr GgmlType q3_k{11, "q3_K", 256, 110};
constexpr GgmlType q4_k{12, "q4_K", 256, 144};
constexpr GgmlType q5_k{13, "q5_K", 256, 176};
constexpr GgmlType q6_k{14, "q6_K", 256, 210};
constexpr GgmlType iq2_xxs{16, "iq2_xxs", 256, 66};
constexpr GgmlType iq4_nl{20, "iq4_nl", 32, 18};
constexpr GgmlType iq3_s{21, "iq3_s", 256, 110};
constexpr GgmlType iq4_xs{23, "iq4_xs", 256, 136};
constexpr GgmlType mxfp4{39, "mxfp4", 32, 17};
constexpr GgmlType all[] = {f32,  i32,  bf16,    q4_0,   q8_0,  q2_k,   q3_k, q4_k,
                            q5_k, q6_k, iq2_xxs, iq4_nl, iq3_s, iq4_xs, mxfp4};
}  // namespace ggml_types

/** A function of a library. */
template <class Signature>
class Function {
 public:
  Function(void* library, const char* name) : address_(reinterpret_cast<Signature*>(dlsym(library, name))) {
    if (address_ == nullptr) throw std::runtime_error(std::string("this ggml has no function ") + name);
  }
  operator Signature*() const { return address_; }

 private:
  Signature* address_;
};

/** The functions of ggml in node-llama-cpp's folder of libraries, without those of its backends. */
class Ggml {
  using Context = GgmlContext*;
  using Tensor = GgmlTensor*;

  void* const library_;

 public:
  struct InitOptions {
    std::size_t bytes;
    void* memory;
    bool without_data;
  };
  using Log = void(int level, const char* text, void* data);

  explicit Ggml(const std::string& folder) : library_(open(folder)) { check(); }
  Ggml(const Ggml&) = delete;
  Ggml& operator=(const Ggml&) = delete;

  // What it is.
  const Function<const char*()> version{library_, "ggml_version"};
  const Function<const char*(int type)> type_name{library_, "ggml_type_name"};
  const Function<std::size_t(int type)> type_size{library_, "ggml_type_size"};
  const Function<std::int64_t(int type)> block_size{library_, "ggml_blck_size"};
  const Function<void(Log*, void* data)> log_set{library_, "ggml_log_set"};

  // Contexts, which hold descriptions of tensors and graphs.
  const Function<Context(InitOptions)> init{library_, "ggml_init"};
  const Function<void(Context)> free{library_, "ggml_free"};
  const Function<std::size_t(Context)> get_mem_size{library_, "ggml_get_mem_size"};
  const Function<bool(Context)> get_no_alloc{library_, "ggml_get_no_alloc"};
  const Function<std::size_t()> tensor_overhead{library_, "ggml_tensor_overhead"};
  const Function<std::size_t(std::size_t nodes, bool gradients)> graph_overhead{library_, "ggml_graph_overhead_custom"};

  // Tensors; sizes from the innermost on.
  const Function<Tensor(Context, int type, std::int64_t, std::int64_t)> new_2d{library_, "ggml_new_tensor_2d"};
  const Function<Tensor(Context, int type, std::int64_t, std::int64_t, std::int64_t)> new_3d{library_,
                                                                                             "ggml_new_tensor_3d"};
  const Function<std::size_t(const GgmlTensor*)> bytes_of{library_, "ggml_nbytes"};
  const Function<Tensor(Context, Tensor, std::int64_t, std::int64_t)> reshape_2d{library_, "ggml_reshape_2d"};
  const Function<Tensor(Context, Tensor, std::int64_t, std::int64_t, std::int64_t)> reshape_3d{library_,
                                                                                               "ggml_reshape_3d"};
  const Function<Tensor(Context, Tensor, std::int64_t, std::int64_t, std::size_t row_stride, std::size_t offset)>
      view_2d{library_, "ggml_view_2d"};

  // Operations; the results are nodes of graphs.
  const Function<Tensor(Context, Tensor)> soft_max{library_, "ggml_soft_max"};
  const Function<Tensor(Context, Tensor, int count)> top_k{library_, "ggml_argsort_top_k"};
  const Function<Tensor(Context, Tensor, Tensor rows)> get_rows{library_, "ggml_get_rows"};
  const Function<Tensor(Context, Tensor)> sum_rows{library_, "ggml_sum_rows"};
  const Function<Tensor(Context, Tensor, Tensor)> add{library_, "ggml_add"};
  const Function<Tensor(Context, Tensor, Tensor)> multiply{library_, "ggml_mul"};
  const Function<Tensor(Context, Tensor, Tensor)> divide{library_, "ggml_div"};
  const Function<Tensor(Context, Tensor gate, Tensor up)> swiglu{library_, "ggml_swiglu_split"};
  const Function<Tensor(Context, Tensor matrices, Tensor rows, Tensor ids)> multiply_chosen{library_,
                                                                                            "ggml_mul_mat_id"};
  const Function<GgmlGraph*(Context, std::size_t nodes, bool gradients)> new_graph{library_, "ggml_new_graph_custom"};
  const Function<void(GgmlGraph*, Tensor result)> expand{library_, "ggml_build_forward_expand"};

  // Buffers, which hold the data of tensors.
  const Function<GgmlBuffer*(Context, GgmlBufferType*)> allocate_tensors{library_,
                                                                         "ggml_backend_alloc_ctx_tensors_from_buft"};
  const Function<void(GgmlBuffer*)> free_buffer{library_, "ggml_backend_buffer_free"};
  const Function<void(Tensor, const void*, std::size_t offset, std::size_t bytes)> write{library_,
                                                                                         "ggml_backend_tensor_set"};
  const Function<void(const GgmlTensor*, void*, std::size_t offset, std::size_t bytes)> read{library_,
                                                                                             "ggml_backend_tensor_get"};
  const Function<GgmlGraphAllocator*(GgmlBufferType*)> new_graph_allocator{library_, "ggml_gallocr_new"};
  const Function<bool(GgmlGraphAllocator*, GgmlGraph*)> allocate_graph{library_, "ggml_gallocr_alloc_graph"};
  const Function<void(GgmlGraphAllocator*)> free_graph_allocator{library_, "ggml_gallocr_free"};

  // Backends.
  const Function<void(const char* folder)> load_backends{library_, "ggml_backend_load_all_from_path"};
  const Function<GgmlDevice*(const char* name)> device_by_name{library_, "ggml_backend_dev_by_name"};
  const Function<GgmlBufferType*(GgmlDevice*)> buffer_type{library_, "ggml_backend_dev_buffer_type"};
  const Function<bool(GgmlDevice*, const GgmlTensor*)> supports{library_, "ggml_backend_dev_supports_op"};
  const Function<GgmlRegistration*(GgmlDevice*)> registration{library_, "ggml_backend_dev_backend_reg"};
  const Function<void*(GgmlRegistration*, const char* name)> find{library_, "ggml_backend_reg_get_proc_address"};
  const Function<GgmlBackend*(GgmlDevice*, const char* options)> new_backend{library_, "ggml_backend_dev_init"};
  const Function<int(GgmlBackend*, GgmlGraph*)> compute{library_, "ggml_backend_graph_compute"};
  const Function<void(void* options, int threads)> thread_pool_options{library_, "ggml_threadpool_params_init"};

 private:
  /** Opens the library that the others register with; its name has llama.cpp's version in it. */
  static void* open(const std::string& folder) {
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      if (entry.path().filename().string().rfind("libggml.", 0) != 0) continue;
      void* library = dlopen(entry.path().c_str(), RTLD_NOW | RTLD_LOCAL);
      if (library == nullptr) throw std::runtime_error(dlerror());
      return library;
    }
    throw std::runtime_error(folder + ": expected a library libggml.*");
  }

  /** Whether ggml agrees with what is declared here. */
  void check() const {
    const auto refuse = [&](const std::string& what) {
      throw std::runtime_error("ggml " + std::string(version()) + " is not as this program expects it: " + what);
    };
    for (const GgmlType& type : ggml_types::all) {
      const char* name = type_name(type.number);
      if (name == nullptr || std::string(name) != type.name) {
        refuse("type " + std::to_string(type.number) + " is " + (name ? name : "none") + " instead of " + type.name);
      }
      if (block_size(type.number) != type.block_elements || type_size(type.number) != type.block_bytes) {
        refuse(std::string(type.name) + " has blocks of " + std::to_string(block_size(type.number)) + " elements in " +
               std::to_string(type_size(type.number)) + " bytes");
      }
    }
    constexpr std::size_t bytes = 1 << 16;
    for (const bool without_data : {false, true}) {
      const Context context = init({bytes, nullptr, without_data});
      if (get_mem_size(context) != bytes || get_no_alloc(context) != without_data)
        refuse("ggml_init has other options");
      free(context);
    }
  }
};
