#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "../common/config.h"
#include "team.h"

/** The rows that each expert computes: (token, slot) pairs sorted by expert. */
class Routing {
 public:
  Routing(const Config& config, std::size_t tokens)
      : config_(config),
        ids_(tokens * config.top_k),
        weights(tokens * config.top_k),
        row_of(tokens * config.top_k),
        token_of(tokens * config.top_k),
        offsets(config.experts + 1) {}

  /** Softmax, top-k and sort; called by all threads. */
  void route(Team& team, int thread, const float* logits) {
    team.share(thread, ids_.size() / config_.top_k, [&](std::size_t token) {
      choose(logits + token * config_.experts, &ids_[token * config_.top_k], &weights[token * config_.top_k]);
    });
    team.barrier();
    if (thread == 0) sort();
    team.barrier();
  }

 private:
  /** The largest logits; of equal ones the first. */
  void choose(const float* logits, int* ids, float* chosen) const {
    const std::size_t k = config_.top_k;
    std::size_t found = 0;
    for (std::size_t expert = 0; expert < config_.experts; ++expert) {
      if (found == k && !(logits[expert] > logits[ids[k - 1]])) continue;
      std::size_t at = found < k ? found++ : k - 1;
      for (; at > 0 && logits[expert] > logits[ids[at - 1]]; --at) ids[at] = ids[at - 1];
      ids[at] = static_cast<int>(expert);
    }
    const float largest = logits[ids[0]];
    float sum = 0;
    for (std::size_t slot = 0; slot < k; ++slot) sum += chosen[slot] = std::exp(logits[ids[slot]] - largest);
    if (!config_.normalize) {
      sum = 0;
      for (std::size_t expert = 0; expert < config_.experts; ++expert) sum += std::exp(logits[expert] - largest);
    }
    for (std::size_t slot = 0; slot < k; ++slot) chosen[slot] /= sum;
  }

  void sort() {
    std::fill(offsets.begin(), offsets.end(), 0);
    for (const int id : ids_) ++offsets[id + 1];
    for (std::size_t expert = 0; expert < config_.experts; ++expert) offsets[expert + 1] += offsets[expert];
    std::vector<std::size_t> next(offsets.begin(), offsets.end() - 1);
    for (std::size_t slot = 0; slot < ids_.size(); ++slot) {
      const std::size_t row = next[ids_[slot]]++;
      row_of[slot] = row;
      token_of[row] = slot / config_.top_k;
    }
  }

  const Config config_;
  std::vector<int> ids_;

 public:
  /** By (token, slot). */
  std::vector<float> weights;
  std::vector<std::size_t> row_of;
  /** By row. */
  std::vector<std::size_t> token_of;
  /** The first row of each expert. */
  std::vector<std::size_t> offsets;
};
