#include "gpu/gemm/kernels.h"

#include <algorithm>
#include <string>

namespace moe::gpu {
namespace {

#define MOE_ROW(NAME) &NAME,
constexpr const GemmKernel* kKernels[] = {MOE_GEMM_KERNELS(MOE_ROW)};
#undef MOE_ROW

// Formats of tokens may differ in their scales alone.
bool same_codes(TokenFormat a, TokenFormat b) { return a == b || (is_fp8(a) && is_fp8(b)); }

bool takes(const GemmKernel& kernel, const RowKind& rows, const WeightFormat& format) {
  const bool in_groups = rows.codes.coded() && !rows.codes.scales_rows();
  if (in_groups && (kernel.takes_x_scales == nullptr || !kernel.takes_x_scales(format))) return false;
  if (kernel.takes_codes()) return same_codes(kernel.codes, rows.codes.format);
  return std::find(kernel.tokens.begin(), kernel.tokens.end(), rows.dtype) != kernel.tokens.end();
}

// The first row of the table for which fits(row) is true.
template <class Fits>
const GemmKernel* first_row(const WeightFormat& format, const DeviceTraits& traits, Fits&& fits) {
  for (const GemmKernel* kernel : kKernels) {
    if (!kernel->formats.include(format) || !run_on(kernel->runs_on, traits)) continue;
    if (fits(*kernel)) return kernel;
  }
  return nullptr;
}

void append(std::string& list, const std::string& name) { list += (list.empty() ? "" : ", ") + name; }

std::string version(int capability) { return std::to_string(capability / 10) + "." + std::to_string(capability % 10); }

std::string words(const ComputeCapabilities& range) {
  const std::string first = version(range.first);
  if (range.last == INT_MAX) return first + " or later";
  return range.last == range.first ? first : first + " to " + version(range.last);
}

std::string words(std::span<const ComputeCapabilities> runs_on) {
  std::string list;
  for (const ComputeCapabilities& range : runs_on) append(list, words(range));
  return "compute capability " + list;
}

std::string names_of_tokens(const GemmKernel& kernel) {
  if (kernel.takes_codes()) return std::string(name_of(kernel.codes)) + " codes";
  std::string names;
  for (const DType dtype : kernel.tokens) append(names, info(dtype).name);
  return names;
}

// The device option that allows it.
std::string option_of(Rounding rounding) { return rounding == Rounding::tf32 ? "tf32" : "fp8Sums"; }

// The tokens for which this kernel is chosen, with weights of the format that stands for all that it reads.
std::string chosen_for(const GemmKernel& kernel, const DeviceTraits& traits) {
  std::string chosen;
  const auto append_if_chosen = [&](const RowKind& rows, const std::string& name) {
    const auto is_chosen = [&](const AllowedRoundings& allowed) {
      return choose_gemm_kernel({.tokens = rows, .format = kernel.formats.example, .allowed = allowed}, traits) ==
             &kernel;
    };
    if (is_chosen({})) {
      append(chosen, name);
    } else if (is_chosen({.tf32 = true, .fp8_sums = true})) {
      append(chosen, name + " with " + option_of(kernel.rounds));
    }
  };
  if (kernel.takes_codes()) append_if_chosen({DType::bf16, {.format = kernel.codes}}, names_of_tokens(kernel));
  for (const DType tokens : kernel.tokens) append_if_chosen(tokens, info(tokens).name);
  return chosen;
}

}  // namespace

std::span<const GemmKernel* const> gemm_kernels() { return kKernels; }

const GemmKernel* best_gemm_kernel(const WeightFormat& format, const DeviceTraits& traits) {
  return first_row(format, traits, [](const GemmKernel& kernel) { return !kernel.takes_codes(); });
}

const GemmKernel* choose_gemm_kernel(const GemmChoice& choice, const DeviceTraits& traits) {
  const GemmKernel* best = best_gemm_kernel(*choice.format, traits);
  return first_row(*choice.format, traits, [&](const GemmKernel& kernel) {
    return kernel.layout == best->layout && takes(kernel, choice.tokens, *choice.format) &&
           choice.allowed.include(kernel.rounds);
  });
}

Status find_best_gemm_kernel(const WeightFormat& format, const DeviceTraits& traits, const GemmKernel** kernel) {
  *kernel = best_gemm_kernel(format, traits);
  if (*kernel != nullptr) return {};
  std::string known;
  for (const GemmKernel* each : kKernels) {
    if (each == best_gemm_kernel(*each->formats.example, traits)) append(known, each->formats.words);
  }
  return {Code::unsupported_dtype, "this device has no kernel for experts' weights in " + std::string(format.name) +
                                       ": store them in one of " + known};
}

Status find_gemm_kernel(const GemmChoice& choice, const DeviceTraits& traits, const GemmKernel** kernel) {
  MOE_TRY(find_best_gemm_kernel(*choice.format, traits, kernel));
  *kernel = choose_gemm_kernel(choice, traits);
  if (*kernel != nullptr) return {};
  return {Code::unsupported_dtype, "this device has no kernel for " + std::string(info(choice.tokens.dtype).name) +
                                       " tokens and experts' weights in " + choice.format->name +
                                       ": pass the tokens in another dtype"};
}

std::vector<KernelDescription> describe_kernels(const char* device, const DeviceTraits* traits) {
  std::vector<KernelDescription> rows;
  for (const GemmKernel* kernel : kKernels) {
    rows.push_back({.device = device,
                    .name = kernel->name,
                    .tokens = names_of_tokens(*kernel),
                    .format = kernel->formats.words,
                    .layout = kernel->layout->id,
                    .needs = words(kernel->runs_on),
                    .numbers = kernel->numbers,
                    .chosen = traits == nullptr ? "" : chosen_for(*kernel, *traits)});
  }
  return rows;
}

}  // namespace moe::gpu
