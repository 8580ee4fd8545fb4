#include "binding/devices.h"

#include <iterator>

#include "core/device_name.h"
#include "cpu/backend.h"
#include "cpu/isa/isa.h"
#include "cpu/runtime/topology.h"
#if defined(MOE_HAS_SIMT)
#include "gpu/target/simt/devices.h"
#endif
#if defined(MOE_HAS_CUDA)
#include "gpu/target/cuda/devices.h"
#endif
#include "missing_devices.h"

namespace moe::binding {

namespace {

DeviceSummary cpu_summary(const Variables& variables) {
  const cpu::Kernels* kernels = nullptr;
  const Status status = cpu::select_kernels(variables, &kernels);
  if (!status.ok()) return {"cpu", false, status.message};
  return {"cpu", true, cpu::cpu_model() + ", " + kernels->name};
}

}  // namespace

std::vector<DeviceSummary> list_devices(const Variables& variables) {
  std::vector<DeviceSummary> all = {cpu_summary(variables)};
#if defined(MOE_HAS_SIMT)
  for (DeviceSummary& device : simt::list_devices()) all.push_back(std::move(device));
#else
  all.push_back({"simt", false, "not part of this build: " MOE_SIMT_MISSING});
#endif
#if defined(MOE_HAS_CUDA)
  for (DeviceSummary& device : cuda::list_devices(variables)) all.push_back(std::move(device));
#else
  all.push_back({"cuda", false, "not part of this build: " MOE_CUDA_MISSING});
#endif
  return all;
}

std::vector<KernelDescription> list_kernels(const Variables& variables) {
  std::vector<KernelDescription> all = cpu::describe_kernels(variables);
  [[maybe_unused]] const auto append_rows = [&all](std::vector<KernelDescription> rows) {
    all.insert(all.end(), std::make_move_iterator(rows.begin()), std::make_move_iterator(rows.end()));
  };
#if defined(MOE_HAS_SIMT)
  append_rows(simt::list_kernels(variables));
#endif
#if defined(MOE_HAS_CUDA)
  append_rows(cuda::list_kernels(variables));
#endif
  return all;
}

Status open_device(const std::string& name, const DeviceOptions& options, std::unique_ptr<Backend>* backend) {
  const std::string kind = device_kind(name);
  int index = 0;
  MOE_TRY(device_index(name, &index));
  if (kind == "cpu") return cpu::CpuBackend::open(options, backend);
#if defined(MOE_HAS_SIMT)
  if (kind == "simt") return simt::open(index, options, backend);
#endif
#if defined(MOE_HAS_CUDA)
  if (kind == "cuda") return cuda::open(index, options, backend);
#endif
  for (const DeviceSummary& device : list_devices(options.variables)) {
    if (device_kind(device.name) == kind) return {Code::device_unavailable, name + ": " + device.detail};
  }
  return {Code::device_unavailable, name + ": no such device"};
}

}  // namespace moe::binding
