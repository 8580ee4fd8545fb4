#include "background.h"

#include <algorithm>

#include "warp.h"

namespace ptx_machine {
namespace {

// In registers whose values are still being computed: NaN.
constexpr uint32_t kHidden = ~0u;

std::vector<uint32_t> values_of(Warp& warp, std::span<const uint32_t> registers) {
  std::vector<uint32_t> values;
  for (const uint32_t place : registers) {
    const uint32_t* lanes = warp.at<uint32_t>(place);
    values.insert(values.end(), lanes, lanes + kLanes);
  }
  return values;
}

std::span<const uint32_t> registers_of_a(const Product& product) {
  return {product.a_registers, product.a_registers == nullptr ? size_t{0} : size_t{4}};
}

}  // namespace

void RunningProducts::fence(Warp& warp, const std::set<uint32_t>& registers) {
  for (const uint32_t place : registers) note_fenced(warp, place);
  is_fenced_ = true;
}

void RunningProducts::note_fenced(Warp& warp, uint32_t place) {
  std::copy_n(warp.at<uint32_t>(place), kLanes, fenced_[place].begin());
}

void RunningProducts::check_fenced(Warp& warp, std::span<const uint32_t> registers) const {
  for (const uint32_t place : registers) {
    const auto& fenced = fenced_.at(place);
    if (!std::equal(fenced.begin(), fenced.end(), warp.at<uint32_t>(place))) {
      warp.fault("a product's registers have changed since the wgmma.fence before it");
    }
  }
}

// The sums of these registers, which then hold nothing that could be used.
RunningProducts::Sums& RunningProducts::hide(Warp& warp, std::span<const uint32_t> registers) {
  for (Sums& each : sums_) {
    if (std::ranges::equal(each.registers, registers)) return each;
    if (std::ranges::find_first_of(each.registers, registers) != each.registers.end()) {
      warp.fault("products that run have some of these registers of sums, but not all");
    }
  }
  check_fenced(warp, registers);
  sums_.push_back({registers, values_of(warp, registers)});
  for (const uint32_t place : registers) std::fill_n(warp.at<uint32_t>(place), kLanes, kHidden);
  return sums_.back();
}

void RunningProducts::begin(Warp& warp, Product product) {
  if (!is_fenced_) warp.fault("a product without a wgmma.fence since the last wait, or at all");
  check_fenced(warp, registers_of_a(product));
  ++hide(warp, product.sums).products;
  std::vector<uint32_t> a = values_of(warp, registers_of_a(product));
  groups_.add({product, std::move(a)});
}

void RunningProducts::wait(Warp& warp, size_t newest) {
  groups_.wait(newest, [&](const Begun& begun) { finish(warp, begun); });
}

void RunningProducts::finish(Warp& warp, const Begun& begun) {
  const Product& product = begun.product;
  if (values_of(warp, registers_of_a(product)) != begun.a) warp.fault("A has changed while a product was running");
  const auto sums =
      std::ranges::find_if(sums_, [&](const Sums& each) { return std::ranges::equal(each.registers, product.sums); });
  product.multiply(warp, product, sums->values.data());
  if (--sums->products > 0) return;
  const uint32_t* values = sums->values.data();
  for (const uint32_t place : sums->registers) {
    uint32_t* lanes = warp.at<uint32_t>(place);
    const bool hidden = std::all_of(lanes, lanes + kLanes, [](uint32_t value) { return value == kHidden; });
    if (!hidden) warp.fault("sums have changed while a product was running");
    std::copy_n(values, kLanes, lanes);
    note_fenced(warp, place);
    values += kLanes;
  }
  sums_.erase(sums);
}

}  // namespace ptx_machine
