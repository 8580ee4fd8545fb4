#include "binding/machine.h"

#include <memory>
#include <utility>

#include "binding/arguments.h"
#include "binding/devices.h"
#include "binding/errors.h"
#include "binding/pool_work.h"
#include "binding/variables.h"
#include "core/device_name.h"
#include "cpu/isa/isa.h"
#include "cpu/runtime/ceilings.h"
#include "cpu/runtime/topology.h"

#define MOE_TEXT_OF(...) #__VA_ARGS__
#define MOE_TEXT(...) MOE_TEXT_OF(__VA_ARGS__)

namespace moe::binding {

namespace {

// The instruction set in use.
const cpu::Kernels& selected_kernels(Napi::Env env) {
  const cpu::Kernels* kernels = nullptr;
  check(env, cpu::select_kernels(variables_of(env), &kernels));
  return *kernels;
}

// A promise of what `function` measures with info[0] threads for info[1] seconds.
template <class Result>
Napi::Value measure(const Napi::CallbackInfo& info, Status (*function)(const cpu::Kernels&, int, double, Result*),
                    Napi::Value (*to_value)(const Result&, Napi::Env)) {
  const Napi::Env env = info.Env();
  const int64_t threads = integer(env, info[0], "threads");
  if (threads < 1 || threads > 4096) throw_error(env, {Code::invalid_argument, "threads: expected from 1 to 4096"});
  const double time = info[1].IsNumber() ? info[1].As<Napi::Number>().DoubleValue() : 0;
  if (!(time > 0)) throw_error(env, {Code::invalid_argument, "seconds: expected a number > 0"});
  const cpu::Kernels& kernels = selected_kernels(env);
  const auto measured = std::make_shared<Result>();
  return run_on_pool(
      env, "moe-kernels ceilings",
      [=, &kernels] { return function(kernels, static_cast<int>(threads), time, measured.get()); },
      [=](Napi::Env own) { return to_value(*measured, own); });
}

}  // namespace

Napi::Value load_device_library(const Napi::CallbackInfo& info) {
  check(info.Env(), load_device(info[0].ToString(), info[1].ToString()));
  return info.Env().Undefined();
}

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
  result.Set("cuda", cuda_toolkit());
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
  const auto to_object = [](const cpu::Ceilings& ceilings, Napi::Env env) -> Napi::Value {
    Napi::Object result = Napi::Object::New(env);
    result.Set("fmaGflops", ceilings.f32_flops * 1e-9);
    result.Set("bf16Gflops", ceilings.bf16_flops * 1e-9);
    result.Set("int8Gops", ceilings.int8_ops * 1e-9);
    result.Set("readGBs", ceilings.read_bytes * 1e-9);
    return result;
  };
  return measure<cpu::Ceilings>(info, cpu::measure_ceilings, to_object);
}

Napi::Value read_rate(const Napi::CallbackInfo& info) {
  const auto to_number = [](const double& bytes_per_second, Napi::Env env) -> Napi::Value {
    return Napi::Number::New(env, bytes_per_second * 1e-9);
  };
  return measure<double>(info, cpu::measure_read_rate, to_number);
}

}  // namespace moe::binding
