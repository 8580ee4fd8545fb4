#include "cpu/isa/isa.h"

#include <algorithm>
#include <string_view>
#include <utility>
#include <vector>

#include "core/formats/find_format.h"
#include "cpu/isa/features.h"
#include "cpu/isa/tiles/permission.h"

#if defined(MOE_MODELS)
#include "extension/cpu/amx_model.h"
#include "extension/cpu/avx2_vnni_model.h"
#endif

namespace moe::cpu {

namespace {

// Never freed: threads compute while the process exits.
std::span<const GemmKernel> kept(std::vector<GemmKernel> rows) { return *new std::vector<GemmKernel>(std::move(rows)); }

// These rows, then the others whose names they do not have.
std::vector<GemmKernel> followed_by(std::span<const GemmKernel> rows, std::span<const GemmKernel> others) {
  std::vector<GemmKernel> all(rows.begin(), rows.end());
  for (const GemmKernel& row : others) {
    const auto has_its_name = [&](const GemmKernel& other) { return std::string_view(other.name) == row.name; };
    if (std::ranges::none_of(rows, has_its_name)) all.push_back(row);
  }
  return all;
}

// An instruction set's kernels under another name, with rows of a further one before its own.
Kernels extended(Kernels all, const char* name, const char* needs, std::span<const GemmKernel> rows) {
  all.name = name;
  all.needs = needs;
  all.gemm = kept(followed_by(rows, all.gemm));
  return all;
}

// The same with rows for products of bytes, then those for tokens of floats: integers are codes that these would read
// too.
[[maybe_unused]] Kernels with_bytes(const Kernels& others, const char* name, const char* needs,
                                    std::span<const GemmKernel> bytes, std::span<const GemmKernel> floats,
                                    PeakLoop int8_peak) {
  Kernels all = extended(others, name, needs, followed_by(bytes, floats));
  all.int8_peak = int8_peak;
  return all;
}

// The same with products in tile registers. Weights are packed once for all tokens, so other rows read those panels
// too. Not used by builds without x86 and the tests' extension.
[[maybe_unused]] Kernels with_tiles(Kernels all, const char* name, const char* needs, std::span<const GemmKernel> tiles,
                                    PeakLoop bf16_peak, PeakLoop int8_peak) {
  std::vector<GemmKernel> others(all.gemm.begin(), all.gemm.end());
  for (GemmKernel& row : others) {
    if (row.takes(kBF16Format)) row.panels = bf16_tile_panels;
  }
  all.gemm = others;
  all.bf16_peak = bf16_peak;
  all.int8_peak = int8_peak;
  return extended(all, name, needs, tiles);
}

struct InstructionSet {
  const Kernels* kernels;
  std::string missing = {};  // why it is not available, in words; empty: it is

  bool available() const { return missing.empty(); }
};

#if defined(MOE_X86)
// Adapts the kernels to the processor's maker, without a change of results. Intel's bring more lines at once if they
// are asked for in several streams, and multiply float32 faster while x stays in the first-level cache, so blocks of k
// are short enough for a tile's rows to fit there. AMD's have slow stores and read one panel faster than several at
// once. Past the caches they read plain weights up to a tenth faster, and the last-level cache keeps what the rest of
// the program needs between two layers. Zen 5, which brought AVX-VNNI, does so with codes as well; before it, codes are
// read faster in the order of memory where a tile uses them up faster than memory delivers.
[[maybe_unused]] Kernels fitted(Kernels all) {
  constexpr int64_t kLongestK = 512, kPastCaches = 4096;
  const bool intel = __builtin_cpu_is("intel"), amd = __builtin_cpu_is("amd");
  const bool zen5 = lacking(kForAvx2Vnni).empty();
  std::vector<GemmKernel> rows(all.gemm.begin(), all.gemm.end());
  for (GemmKernel& row : rows) {
    if (intel) {
      row.streams = kPrefetchStreams;
      row.ahead = row.sum_segments == nullptr;
      if (row.arithmetic == Arithmetic::f32) row.blocking.longest_k = std::min(row.blocking.longest_k, kLongestK);
    }
    if (!amd) continue;
    if (row.in_parts.unpack != nullptr) row.unpacked = row.in_parts;
    if (row.tile_in_parts[1] != nullptr) row.tile = row.tile_in_parts;
    row.wide_tile = {};
    if (!zen5 && row.arithmetic == Arithmetic::i8_quads) row.in_order_rows = 1;
    if (zen5 || row.sum_segments == nullptr) row.past_caches = kPastCaches;
  }
  all.gemm = kept(std::move(rows));
  return all;
}

// Keeps the units of grids in panels where VBMI looks up points.
[[maybe_unused]] Kernels with_grids(Kernels all) {
  if (!lacking(kForAvx512Vbmi).empty()) return all;
  std::vector<GemmKernel> rows(all.gemm.begin(), all.gemm.end());
  for (GemmKernel& row : rows) {
    if (row.panels == coded_panels) row.panels = grid_panels;
  }
  all.gemm = kept(std::move(rows));
  all.expand_grids = avx512_vbmi::expand_grids;
  all.expand_odd4 = avx512_vbmi::expand_odd4;
  return all;
}

#if !defined(MOE_NO_AVX512_VNNI)
Kernels with_avx512_vnni(const char* name, const char* needs, std::span<const GemmKernel> floats) {
  return fitted(with_bytes(avx512::kKernels, name, needs, avx512_vnni::kGemm, floats, avx512_vnni::kPeak));
}
#endif

// A set that this build lacks, see instruction_sets.cmake, has a name alone.
[[maybe_unused]] Kernels left_out(const char* name, const char* needs) {
  return extended(portable::kKernels, name, needs, {});
}
[[maybe_unused]] constexpr const char* kLeftOut =
    "this build lacks it: it was built for another processor (MOE_INSTRUCTION_SETS=native), or the assembler did not "
    "know its instructions";

InstructionSet avx2_set() {
#if defined(MOE_NO_AVX2)
  static const Kernels kernels = left_out("avx2", "AVX2, BMI, FMA and F16C");
  return {&kernels, kLeftOut};
#else
  return {&avx2::kKernels, lacking(kForAvx2)};
#endif
}

InstructionSet avx512_set() {
#if defined(MOE_NO_AVX512)
  static const Kernels kernels = left_out("avx512", "AVX-512 F, BW, DQ and VL");
  return {&kernels, kLeftOut};
#else
  static const Kernels kernels = with_grids(fitted(avx512::kKernels));
  return {&kernels, lacking(kForAvx512)};
#endif
}

InstructionSet avx512_vnni_set() {
  constexpr const char *kName = "avx512_vnni", *kNeeds = "AVX-512 F, BW, DQ, VL and VNNI";
#if defined(MOE_NO_AVX512_VNNI)
  static const Kernels kernels = left_out(kName, kNeeds);
  return {&kernels, kLeftOut};
#else
  static const Kernels kernels = with_grids(with_avx512_vnni(kName, kNeeds, avx512_vnni::kDigitGemm));
  return {&kernels, lacking(kForAvx512Vnni)};
#endif
}

InstructionSet avx512_bf16_set() {
  constexpr const char *kName = "avx512_bf16", *kNeeds = "AVX-512 F, BW, DQ, VL, VNNI, VBMI and BF16";
#if defined(MOE_NO_AVX512_BF16)
  static const Kernels kernels = left_out(kName, kNeeds);
  return {&kernels, kLeftOut};
#else
  static const Kernels kernels = [] {
    // Pairs of bfloat16 first: digits are for other tokens.
    const std::vector<GemmKernel> floats = followed_by(avx512_bf16::kGemm, avx512_vnni::kDigitGemm);
    Kernels all = with_avx512_vnni(kName, kNeeds, floats);
    all.bf16_peak = avx512_bf16::kPeak;
    return with_grids(std::move(all));
  }();
  return {&kernels, lacking(kForAvx512Bf16)};
#endif
}

InstructionSet avx2_vnni_set() {
  constexpr const char *kName = "avx2_vnni", *kNeeds = "AVX2, BMI, FMA, F16C and AVX-VNNI";
#if defined(MOE_NO_AVX2_VNNI)
  static const Kernels kernels = left_out(kName, kNeeds);
  return {&kernels, kLeftOut};
#else
  static const Kernels kernels =
      with_bytes(avx2::kKernels, kName, kNeeds, avx2_vnni::kGemm, avx2_vnni::kDigitGemm, avx2_vnni::kPeak);
  return {&kernels, lacking(kForAvx2Vnni)};
#endif
}

InstructionSet amx_set() {
  constexpr const char *kName = "amx", *kNeeds = "AVX-512 F, BW, DQ, VL and VNNI, and AMX-TILE, AMX-BF16 and AMX-INT8";
#if defined(MOE_NO_AMX)
  static const Kernels kernels = left_out(kName, kNeeds);
  return {&kernels, kLeftOut};
#else
  static const Kernels vnni = with_avx512_vnni("", "", {});
  static const Kernels kernels =
      with_grids(with_tiles(vnni, kName, kNeeds, amx::kGemm, amx::kBf16Peak, amx::kInt8Peak));
  const TilePermission& tiles = tile_permission();
  return {&kernels, tiles.granted ? lacking(kForAvx512Vnni) : tiles.reason};
#endif
}
#endif

#if defined(MOE_AARCH64)
InstructionSet neon_dotprod_set() {
  static const Kernels kernels = with_bytes(neon::kKernels, "neon_dotprod", "AArch64 with DotProd", neon_dotprod::kGemm,
                                            neon_dotprod::kDigitGemm, neon_dotprod::kPeak);
  return {&kernels, lacking(kForDotProducts)};
}
#endif

#if defined(MOE_MODELS)
#if defined(MOE_X86)
InstructionSet avx2_vnni_model_set() {
  static const Kernels kernels =
      with_bytes(avx2::kKernels, "avx2_vnni_model", "AVX2, BMI, FMA and F16C: a model of AVX-VNNI, for tests",
                 avx2_vnni_model::kGemm, avx2_vnni_model::kDigitGemm, avx2_vnni_model::kPeak);
  return {&kernels, lacking(kForAvx2)};
}
#endif

InstructionSet amx_model_set() {
  static const Kernels kernels = [] {
    constexpr const char *kName = "amx_model", *kNeeds = "nothing: a model of tile registers, for tests";
#if defined(MOE_X86)
    if (avx512_set().available()) {
      return with_grids(with_tiles(avx512::kKernels, kName, kNeeds, amx_model_avx512::kGemm,
                                   amx_model_avx512::kBf16Peak, amx_model_avx512::kInt8Peak));
    }
#endif
    return with_tiles(portable::kKernels, kName, kNeeds, amx_model_portable::kGemm, amx_model_portable::kBf16Peak,
                      amx_model_portable::kInt8Peak);
  }();
  return {&kernels};
}
#endif

// Fastest first, by what the CPU is, not by measurements: so bits and the names of cached weights are the same on every
// start. `vdpbf16ps` multiplies twice as fast as float32 on AMD's processors (Zen 4 and 5), and half as fast on Intel's
// (Sapphire Rapids to Granite Rapids), which have tiles instead.
std::vector<InstructionSet> instruction_sets() {
  std::vector<InstructionSet> sets;
#if defined(MOE_X86)
  const bool bf16_is_slow = __builtin_cpu_is("intel");
  sets.push_back(amx_set());
  if (!bf16_is_slow) sets.push_back(avx512_bf16_set());
  sets.push_back(avx512_vnni_set());
  if (bf16_is_slow) sets.push_back(avx512_bf16_set());
  sets.push_back(avx512_set());
  sets.push_back(avx2_vnni_set());
  sets.push_back(avx2_set());
#elif defined(MOE_AARCH64)
  sets.push_back(neon_dotprod_set());
  sets.push_back({&neon::kKernels});
#endif
  sets.push_back({&portable::kKernels});
#if defined(MOE_MODELS)
#if defined(MOE_X86)
  sets.push_back(avx2_vnni_model_set());
#endif
  sets.push_back(amx_model_set());
#endif
  return sets;
}

std::string names_of(TokenDTypes tokens) {
  std::string names;
  for (int i = 0; i < kDTypeCount; ++i) {
    if ((tokens & tokens_of(static_cast<DType>(i))) == 0) continue;
    names += (names.empty() ? "" : ", ") + std::string(kDTypes[i].name);
  }
  return names;
}

std::string names_of_codes(TokenFormat codes) { return std::string(name_of(codes)) + " codes"; }

// The tokens for which this row of the table is the one chosen, with weights of some format.
std::string chosen_for(std::span<const GemmKernel> rows, const GemmKernel& row) {
  TokenDTypes chosen = 0;
  for (const WeightFormat* format : sample_formats()) {
    if (row.codes != TokenFormat::none) {
      if (choose_gemm(rows, {DType::bf16, row.codes}, *format) == &row) return names_of_codes(row.codes);
      continue;
    }
    for (int i = 0; i < kDTypeCount; ++i) {
      const DType dtype = static_cast<DType>(i);
      if (choose_gemm(rows, dtype, *format) == &row) chosen |= tokens_of(dtype);
    }
  }
  return names_of(chosen);
}

std::string panels_id(const Kernels& kernels, const char* id) {
  return std::string(id) + "x" + std::to_string(kernels.panel_columns);
}

}  // namespace

std::vector<const Kernels*> all_kernels() {
  std::vector<const Kernels*> kernels;
  for (const InstructionSet& set : instruction_sets()) kernels.push_back(set.kernels);
  return kernels;
}

std::vector<const Kernels*> available_kernels() {
  std::vector<const Kernels*> kernels;
  for (const InstructionSet& set : instruction_sets()) {
    if (set.available()) kernels.push_back(set.kernels);
  }
  return kernels;
}

std::vector<MissingKernels> missing_kernels() {
  std::vector<MissingKernels> missing;
  for (const InstructionSet& set : instruction_sets()) {
    if (!set.available()) missing.push_back({set.kernels, set.missing});
  }
  return missing;
}

std::vector<KernelDescription> describe_kernels(const Variables& variables) {
  const Kernels* selected = nullptr;
  const bool any = select_kernels(variables, &selected).ok();
  std::vector<KernelDescription> rows;
  for (const Kernels* kernels : all_kernels()) {
    for (const GemmKernel& row : kernels->gemm) {
      const bool codes = row.codes != TokenFormat::none;
      rows.push_back({.device = "cpu",
                      .name = std::string(kernels->name) + " " + row.name,
                      .tokens = codes ? names_of_codes(row.codes) : names_of(row.tokens),
                      .format = row.formats,
                      .layout = panels_id(*kernels, row.panels({}).id),
                      .needs = kernels->needs,
                      .numbers = row.numbers,
                      .chosen = any && kernels == selected ? chosen_for(kernels->gemm, row) : ""});
    }
  }
  return rows;
}

std::string layout_id(const Kernels& kernels, const WeightFormat& format) {
  const GemmKernel* row = choose_gemm(kernels.gemm, DType::f32, format);
  if (row == nullptr) return "none";
  return (format.plain() ? "" : format.name + std::string(".")) + panels_id(kernels, row->panels(format).id);
}

Status select_kernels(const Variables& variables, const Kernels** kernels) {
  const std::vector<const Kernels*> available = available_kernels();
  *kernels = available.front();
  const std::string* wanted = variables.find("MOE_CPU_ISA");
  if (wanted == nullptr || wanted->empty()) return {};
  std::string names;
  for (const Kernels* candidate : available) {
    if (*wanted == candidate->name) {
      *kernels = candidate;
      return {};
    }
    names += (names.empty() ? "" : ", ") + std::string(candidate->name);
  }
  return {Code::device_unavailable, "MOE_CPU_ISA: expected one of " + names + " on this CPU, got \"" + *wanted + "\""};
}

}  // namespace moe::cpu
