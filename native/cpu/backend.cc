#include "cpu/backend.h"

#include <cstring>

#include "cpu/gemm/panels.h"
#include "cpu/gemm/weight_reader.h"
#include "cpu/isa/isa.h"
#include "cpu/layer/layer.h"
#include "cpu/runtime/mapping.h"
#include "cpu/runtime/topology.h"

namespace moe::cpu {

Status CpuBackend::open(const DeviceOptions& options, std::unique_ptr<Backend>* backend) {
  const Kernels* kernels = nullptr;
  MOE_TRY(select_kernels(options.variables, &kernels));
  std::unique_ptr<CpuBackend> made(new CpuBackend(*kernels, options));
  made->context_.team.pool->start(made->context_.team.threads);
  *backend = std::move(made);
  return {};
}

CpuBackend::CpuBackend(const Kernels& kernels, const DeviceOptions& options)
    : context_(kernels, options.threads > 0 ? options.threads : usable_cpus(), options.poison, warnings),
      description_(cpu_model() + ", " + kernels.name + ", " + std::to_string(context_.team.threads) +
                   (context_.team.threads == 1 ? " thread" : " threads")) {}

Status CpuBackend::allocate(size_t bytes, void** data) { return cpu::allocate(bytes, context_.poison, data); }

void CpuBackend::release(void* data, size_t) { cpu::release(data); }

Status CpuBackend::write(void* device, const void* host, size_t bytes) {
  std::memcpy(device, host, bytes);
  return {};
}

Status CpuBackend::read(void* host, const void* device, size_t bytes) {
  std::memcpy(host, device, bytes);
  return {};
}

Status CpuBackend::packed_experts(const ExpertProduct& weights, int64_t rows, std::unique_ptr<PackedExperts>* packed) {
  std::unique_ptr<CpuPackedExperts> made;
  const bool once = rows != kManyProducts, empty = weights.rows == 0 || weights.columns == 0;
  if (once && !empty && weights.format->plain() && are_few_blocks(rows, weights.experts, weights.columns)) {
    MOE_TRY(CpuPackedExperts::borrowing(weights, context_.kernels, context_.team, &made));
  } else {
    MOE_TRY(CpuPackedExperts::create(weights, context_.kernels, context_.team, context_.poison, &made));
  }
  *packed = std::move(made);
  return {};
}

Status CpuBackend::layer(const LayerDescription& description, const OffloadOptions* offload,
                         std::unique_ptr<Layer>* layer) {
  if (offload != nullptr) {
    return {Code::unsupported_operation,
            "offload: on cpu the experts must be in a cache file: load the "
            "layer from a model directory, with the option cache"};
  }
  return CpuLayer::create(description, context_, layer);
}

std::string CpuBackend::weight_layout(const LayerDescription& d) const {
  std::string name = "cpu";
  const auto add = [&](const char* role, const WeightFormat* format) {
    name += std::string("-") + role + "." + layout_id(context_.kernels, *format);
  };
  add("router", d.formats.router);
  if (d.shared_gate != SharedGate::none) add("shared_gate", d.formats.shared_gate);
  for (const ExpertGroup& group : d.groups()) {
    const ExpertFormats& formats = group.formats;
    if (group.experts.first > 0) name += "-shared";
    if (is_gated(d.activation)) add("gate", formats.gate);
    add("up", formats.up);
    if (d.multiplier) add("multiplier", formats.multiplier);
    add("down", formats.down);
  }
  return name;
}

Status CpuBackend::map_file(int descriptor, std::string path, size_t bytes, std::shared_ptr<MappedFile>* file) {
  return Mapping::open(descriptor, std::move(path), bytes, file);
}

Status CpuBackend::stored_layer(const LayerDescription& description, const std::vector<WeightPart>& parts,
                                const OffloadOptions* offload, std::unique_ptr<Layer>* layer) {
  return CpuLayer::over(parts, description, offload, context_, layer);
}

}  // namespace moe::cpu
