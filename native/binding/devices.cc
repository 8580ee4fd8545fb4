#include "binding/devices.h"

#include <dlfcn.h>

#include <iterator>
#include <map>
#include <mutex>
#include <string_view>

#include "core/device_library.h"
#include "core/device_name.h"
#include "cpu/backend.h"
#include "cpu/isa/isa.h"
#include "cpu/runtime/topology.h"

namespace moe::binding {

namespace {

// Workers load libraries on threads of their own. Libraries stay loaded: devices may work while the process exits.
struct Libraries {
  std::mutex mutex;
  std::map<std::string, const DeviceLibrary*> by_kind;
};

Libraries& libraries() {
  static Libraries& all = *new Libraries;
  return all;
}

std::map<std::string, const DeviceLibrary*> loaded_libraries() {
  const std::lock_guard lock(libraries().mutex);
  return libraries().by_kind;
}

DeviceSummary cpu_summary(const Variables& variables) {
  const cpu::Kernels* kernels = nullptr;
  const Status status = cpu::select_kernels(variables, &kernels);
  if (!status.ok()) return {"cpu", false, status.message};
  return {"cpu", true, cpu::cpu_model() + ", " + kernels->name};
}

}  // namespace

Status load_device(const std::string& kind, const std::string& file) {
  const std::lock_guard lock(libraries().mutex);
  if (libraries().by_kind.contains(kind)) return {};
  void* const library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return {Code::device_unavailable, file + " does not load: " + dlerror()};
  const auto entry = reinterpret_cast<DeviceLibraryEntry*>(dlsym(library, kDeviceLibraryEntry));
  if (entry == nullptr) {
    return {Code::device_unavailable,
            file + " has no function " + kDeviceLibraryEntry + ": it is no library of devices"};
  }
  if (std::string_view(entry()->interface) != MOE_INTERFACE) {
    return {Code::device_unavailable, file + " was built from other sources than the addon: expected the interface " +
                                          MOE_INTERFACE + ", got " + entry()->interface +
                                          "; build or install both from one version"};
  }
  libraries().by_kind.emplace(kind, entry());
  return {};
}

std::string cuda_toolkit() {
  const auto libraries = loaded_libraries();
  const auto cuda = libraries.find("cuda");
  return cuda == libraries.end() ? "" : cuda->second->toolkit;
}

std::vector<DeviceSummary> list_devices(const Variables& variables) {
  std::vector<DeviceSummary> all = {cpu_summary(variables)};
  for (const auto& [kind, library] : loaded_libraries()) {
    for (DeviceSummary& device : library->list_devices(variables)) all.push_back(std::move(device));
  }
  return all;
}

std::vector<KernelDescription> list_kernels(const Variables& variables) {
  std::vector<KernelDescription> all = cpu::describe_kernels(variables);
  for (const auto& [kind, library] : loaded_libraries()) {
    std::vector<KernelDescription> rows = library->list_kernels(variables);
    all.insert(all.end(), std::make_move_iterator(rows.begin()), std::make_move_iterator(rows.end()));
  }
  return all;
}

Status open_device(const std::string& name, const DeviceOptions& options, std::unique_ptr<Backend>* backend) {
  const std::string kind = device_kind(name);
  int index = 0;
  MOE_TRY(device_index(name, &index));
  if (kind == "cpu") return cpu::CpuBackend::open(options, backend);
  const auto libraries = loaded_libraries();
  const auto library = libraries.find(kind);
  if (library == libraries.end()) return {Code::device_unavailable, name + ": no library of this device is loaded"};
  return library->second->open(index, options, backend);
}

}  // namespace moe::binding
