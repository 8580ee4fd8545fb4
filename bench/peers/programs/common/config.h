#pragma once

#include <cstddef>

#include "json.h"

/** Sizes of a layer. */
struct Config {
  std::size_t hidden, intermediate, experts, top_k;
  bool normalize;

  explicit Config(const Json& json)
      : hidden(json.integer("hiddenSize")),
        intermediate(json.integer("intermediateSize")),
        experts(json.integer("numExperts")),
        top_k(json.integer("topK")),
        normalize(json.flag("normalize")) {}
};
