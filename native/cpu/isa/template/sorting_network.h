// Sorts vectors lane by lane, largest first. See kernels.h here.

// Orders elements i and i + kStep, for every other multiple i of kStep, starting at kFirst.
template <int kFirst, int kEnd, int kStep, class V>
[[gnu::always_inline]] inline void order_pairs(V* v) {
  if constexpr (kFirst + kStep < kEnd) {
    const V larger = V::max(v[kFirst], v[kFirst + kStep]);
    v[kFirst + kStep] = V::min(v[kFirst], v[kFirst + kStep]);
    v[kFirst] = larger;
    order_pairs<kFirst + 2 * kStep, kEnd, kStep>(v);
  }
}

// Batcher's odd-even merge of two sorted halves, over the elements kFirst, kFirst + kStep ... of kCount.
template <int kFirst, int kCount, int kStep, class V>
[[gnu::always_inline]] inline void merge_halves(V* v) {
  if constexpr (2 * kStep < kCount) {
    merge_halves<kFirst, kCount, 2 * kStep>(v);
    merge_halves<kFirst + kStep, kCount, 2 * kStep>(v);
    order_pairs<kFirst + kStep, kFirst + kCount, kStep>(v);
  } else {
    order_pairs<kFirst, kFirst + kCount, kStep>(v);
  }
}

// kCount is a power of two.
template <int kCount, int kFirst = 0, class V>
[[gnu::always_inline]] inline void sort_descending(V* v) {
  if constexpr (kCount > 1) {
    sort_descending<kCount / 2, kFirst>(v);
    sort_descending<kCount / 2, kFirst + kCount / 2>(v);
    merge_halves<kFirst, kCount, 1>(v);
  }
}
