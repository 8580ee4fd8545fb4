#include "binding/machine.h"

#include "binding/arguments.h"
#include "binding/devices.h"
#include "binding/errors.h"
#include "binding/variables.h"
#include "core/device_name.h"
#include "cpu/isa/isa.h"
#include "cpu/runtime/ceilings.h"
#include "cpu/runtime/topology.h"

#define MOE_TEXT_OF(...) #__VA_ARGS__
#define MOE_TEXT(...) MOE_TEXT_OF(__VA_ARGS__)

namespace moe::binding {

namespace {

// Measures on a worker thread, so that JavaScript keeps running.
class CeilingsWorker : public Napi::AsyncWorker {
 public:
  CeilingsWorker(Napi::Env env, const cpu::Kernels& kernels, int threads, double time)
      : AsyncWorker(env, "moe-kernels ceilings"),
        deferred_(Napi::Promise::Deferred::New(env)),
        kernels_(kernels),
        threads_(threads),
        time_(time) {}

  Napi::Promise promise() const { return deferred_.Promise(); }

 protected:
  void Execute() override {
    status_ = guarded([this] { return cpu::measure_ceilings(kernels_, threads_, time_, &ceilings_); });
  }
  void OnOK() override {
    // Fails only if the environment is ending.
    (void)guarded([this] {
      settle();
      return Status();
    });
  }

 private:
  void settle() {
    if (!status_.ok()) return deferred_.Reject(make_error(Env(), status_));
    Napi::Object result = Napi::Object::New(Env());
    result.Set("fmaGflops", ceilings_.f32_flops * 1e-9);
    result.Set("bf16Gflops", ceilings_.bf16_flops * 1e-9);
    result.Set("int8Gops", ceilings_.int8_ops * 1e-9);
    result.Set("readGBs", ceilings_.read_bytes * 1e-9);
    deferred_.Resolve(result);
  }

  Napi::Promise::Deferred deferred_;
  const cpu::Kernels& kernels_;
  int threads_;
  double time_;
  cpu::Ceilings ceilings_;
  Status status_;
};

// The instruction set in use.
const cpu::Kernels& selected_kernels(Napi::Env env) {
  const cpu::Kernels* kernels = nullptr;
  check(env, cpu::select_kernels(variables_of(env), &kernels));
  return *kernels;
}

}  // namespace

Napi::Value devices(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Napi::Array result = Napi::Array::New(env);
  for (const DeviceSummary& summary : list_devices(variables_of(env))) {
    Napi::Object device = Napi::Object::New(env);
    device.Set("name", summary.name);
    device.Set("kind", device_kind(summary.name));
    device.Set("available", summary.available);
    device.Set("detail", summary.detail);
    result.Set(result.Length(), device);
  }
  return result;
}

Napi::Value kernels(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Napi::Array result = Napi::Array::New(env);
  for (const KernelDescription& row : list_kernels(variables_of(env))) {
    Napi::Object kernel = Napi::Object::New(env);
    kernel.Set("device", row.device);
    kernel.Set("name", row.name);
    kernel.Set("tokens", row.tokens);
    kernel.Set("format", row.format);
    kernel.Set("layout", row.layout);
    kernel.Set("needs", row.needs);
    kernel.Set("numbers", row.numbers);
    kernel.Set("chosen", row.chosen);
    result.Set(result.Length(), kernel);
  }
  return result;
}

Napi::Value build_info(const Napi::CallbackInfo& info) {
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("compiler", MOE_TEXT(MOE_COMPILER));
  result.Set("buildType", MOE_TEXT(MOE_BUILD_TYPE));
  result.Set("sanitizers", MOE_TEXT(MOE_SANITIZERS));
  result.Set("cuda", MOE_TEXT(MOE_CUDA_VERSION));
  return result;
}

Napi::Value cpu_info(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Napi::Object result = Napi::Object::New(env);
  Napi::Array isas = Napi::Array::New(env);
  for (const cpu::Kernels* kernels : cpu::available_kernels()) isas.Set(isas.Length(), kernels->name);
  Napi::Array missing = Napi::Array::New(env);
  for (const cpu::MissingKernels& set : cpu::missing_kernels()) {
    Napi::Object entry = Napi::Object::New(env);
    entry.Set("isa", set.kernels->name);
    entry.Set("reason", set.reason);
    missing.Set(missing.Length(), entry);
  }
  result.Set("model", cpu::cpu_model());
  result.Set("usableCpus", cpu::usable_cpus());
  result.Set("isas", isas);
  result.Set("missingIsas", missing);
  result.Set("isa", selected_kernels(env).name);
  return result;
}

Napi::Value product_kernel(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const DType tokens = dtype(env, info[0]);
  const TokenFormat rounded = choice<TokenFormat>(env, info[1], "tokenFormat");
  const WeightFormat& weights = *weight_format(env, info[2]);
  const cpu::Kernels& kernels = selected_kernels(env);
  const cpu::RowKind rows = cpu::rows_of(tokens, token_scheme(rounded, weights));
  const cpu::GemmKernel* row = cpu::choose_gemm(kernels.gemm, rows, weights);
  if (row == nullptr) {
    const std::string product = std::string(moe::info(tokens).name) + " tokens by weights of " + weights.name;
    throw_error(env, {Code::unsupported_dtype, "the cpu device has no kernel that multiplies " + product});
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("name", std::string(kernels.name) + " " + row->name);
  result.Set("peak", std::string(name_of(cpu::peak_of(row->arithmetic))));
  result.Set("products", parts_of(row->arithmetic));
  return result;
}

Napi::Value ceilings(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int64_t threads = integer(env, info[0], "threads");
  if (threads < 1 || threads > 4096) throw_error(env, {Code::invalid_argument, "threads: expected from 1 to 4096"});
  const double time = info[1].IsNumber() ? info[1].As<Napi::Number>().DoubleValue() : 0;
  if (!(time > 0)) throw_error(env, {Code::invalid_argument, "seconds: expected a number > 0"});
  auto worker = std::make_unique<CeilingsWorker>(env, selected_kernels(env), static_cast<int>(threads), time);
  const Napi::Promise promise = worker->promise();
  worker->Queue();
  (void)worker.release();  // it destroys itself
  return promise;
}

}  // namespace moe::binding
