#include "simt/options.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "core/whole_number.h"

namespace moe::simt {

namespace {

constexpr std::array<std::string_view, 3> kAsyncNames{"late", "early", "mixed"};  // by AsyncMode

}  // namespace

Status read_variables(const Variables& variables, Options* options) {
  if (const std::string* text = variables.find("MOE_SIMT_SEED")) {
    if (!read_whole_number(*text, &options->seed)) {
      return {Code::invalid_argument, "MOE_SIMT_SEED must be a whole number from 0 to 2^64 - 1, got \"" + *text + "\""};
    }
  }
  if (const std::string* text = variables.find("MOE_SIMT_ASYNC")) {
    const auto found = std::find(kAsyncNames.begin(), kAsyncNames.end(), *text);
    if (found == kAsyncNames.end()) {
      return {Code::invalid_argument, "MOE_SIMT_ASYNC must be late, early or mixed, got \"" + *text + "\""};
    }
    options->async = static_cast<AsyncMode>(found - kAsyncNames.begin());
  }
  if (const std::string* text = variables.find("MOE_SIMT_STREAM")) {
    if (*text != "now" && *text != "late") {
      return {Code::invalid_argument, "MOE_SIMT_STREAM must be now or late, got \"" + *text + "\""};
    }
    options->late_work = *text == "late";
  }
  if (const std::string* text = variables.find("MOE_SIMT_BANK_CONFLICTS")) {
    if (*text != "0" && *text != "1") {
      return {Code::invalid_argument, "MOE_SIMT_BANK_CONFLICTS must be 0 or 1, got \"" + *text + "\""};
    }
    options->bank_conflicts = *text == "1";
  }
  return {};
}

std::string describe(const Options& options) {
  return "MOE_SIMT_SEED=" + std::to_string(options.seed) +
         " MOE_SIMT_ASYNC=" + std::string(kAsyncNames[static_cast<size_t>(options.async)]) +
         (options.late_work ? " MOE_SIMT_STREAM=late" : "");
}

}  // namespace moe::simt
