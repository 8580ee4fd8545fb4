// Scores, log-sum-exp and entropy of one token's logits. See kernels.h here.

// For an infinite largest logit: +infinity takes everything, in equal shares if there are several.
inline SoftmaxRow infinite_softmax(const float* logits, int64_t experts, float top, float* scores) {
  const bool none = top == -INFINITY;
  const auto count = none ? 0.0f : static_cast<float>(std::count(logits, logits + experts, top));
  for (int64_t e = 0; e < experts && scores != nullptr; ++e) scores[e] = logits[e] == top && !none ? 1 / count : 0.0f;
  return {top, none ? 0.0 : std::log(static_cast<double>(count))};
}

SoftmaxRow softmax_scores(const float* logits, int64_t experts, float* scores) {
  const float top = largest_of(logits, experts);
  if (!(std::fabs(top) < INFINITY)) return infinite_softmax(logits, experts, top, scores);
  const Vector shift = Vector::broadcast(top), least = Vector::broadcast(kLeastExponent);
  // The sum of e^(logit - top), and of the same terms times their distance from the top.
  LaneSum shares, distances;
  for_each_vector(logits, experts, -INFINITY, [&](Vector logit, int64_t first, int64_t count) {
    const Vector difference = logit - shift;
    const Vector share = Exponential::apply(difference);
    shares.add(share);
    distances.add(share * (Vector::zero() - Vector::max(difference, least)));
    if (scores != nullptr) share.store_first(scores + first, count);
  });
  const double sum = shares.total(), logarithm = std::log(sum);
  if (scores != nullptr) divide_row(scores, experts, static_cast<float>(sum));
  return {top + logarithm, logarithm + distances.total() / sum};
}

void sigmoid_scores(const float* logits, int64_t experts, bool normalize, float* scores) {
  LaneSum sum;
  for_each_vector(logits, experts, -INFINITY, [&](Vector logit, int64_t first, int64_t count) {
    const Vector score = Sigmoid::apply(logit);
    if (normalize) sum.add(score);
    score.store_first(scores + first, count);
  });
  const auto divisor = normalize ? static_cast<float>(sum.total()) : 1.0f;
  if (normalize && divisor > 0) divide_row(scores, experts, divisor);
}
