#include "simt/options.h"

#include <cstdlib>
#include <string_view>

#include "core/whole_number.h"

namespace moe::simt {

Status read_environment(Options* options) {
  if (const char* text = std::getenv("MOE_SIMT_SEED"); text != nullptr) {
    if (!read_whole_number(text, &options->seed)) {
      return {Code::invalid_argument,
              std::string("MOE_SIMT_SEED must be a whole number from 0 to 2^64 - 1, got \"") + text + "\""};
    }
  }
  if (const char* text = std::getenv("MOE_SIMT_ASYNC"); text != nullptr) {
    const std::string_view view = text;
    if (view != "late" && view != "early") {
      return {Code::invalid_argument, "MOE_SIMT_ASYNC must be late or early, got \"" + std::string(view) + "\""};
    }
    options->async = view == "late" ? AsyncMode::late : AsyncMode::early;
  }
  if (const char* text = std::getenv("MOE_SIMT_STREAM"); text != nullptr) {
    const std::string_view view = text;
    if (view != "now" && view != "late") {
      return {Code::invalid_argument, "MOE_SIMT_STREAM must be now or late, got \"" + std::string(view) + "\""};
    }
    options->late_work = view == "late";
  }
  if (const char* text = std::getenv("MOE_SIMT_BANK_CONFLICTS"); text != nullptr) {
    const std::string_view view = text;
    if (view != "0" && view != "1") {
      return {Code::invalid_argument, "MOE_SIMT_BANK_CONFLICTS must be 0 or 1, got \"" + std::string(view) + "\""};
    }
    options->bank_conflicts = view == "1";
  }
  return {};
}

std::string describe(const Options& options) {
  return "MOE_SIMT_SEED=" + std::to_string(options.seed) +
         " MOE_SIMT_ASYNC=" + (options.async == AsyncMode::late ? "late" : "early") +
         (options.late_work ? " MOE_SIMT_STREAM=late" : "");
}

}  // namespace moe::simt
