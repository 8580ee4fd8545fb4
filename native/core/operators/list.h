// Every operator. Each device implements them all (core/backend.h), and the binding offers them all to JavaScript.
#pragma once

#include "core/operators/activation.h"
#include "core/operators/capacity.h"
#include "core/operators/experts.h"
#include "core/operators/experts_gradients.h"
#include "core/operators/formats.h"
#include "core/operators/noise.h"
#include "core/operators/noise_gradients.h"
#include "core/operators/norms.h"
#include "core/operators/optimizers.h"
#include "core/operators/routing.h"
#include "core/operators/routing_gradients.h"
#include "core/operators/shared_slots.h"
#include "core/operators/statistics.h"
#include "core/operators/statistics_gradients.h"

// The tests' own operators.
#if defined(MOE_EXTENSION)
#include "extension/core/operators.h"
#else
#define MOE_EXTENSION_OPERATORS(OPERATOR)
#endif

#define MOE_OPERATORS(OPERATOR)        \
  OPERATOR(RouterProjection)           \
  OPERATOR(RouterProjectionBackward)   \
  OPERATOR(Gating)                     \
  OPERATOR(GatingWeights)              \
  OPERATOR(GatingBackward)             \
  OPERATOR(HierarchicalGating)         \
  OPERATOR(HierarchicalGatingBackward) \
  OPERATOR(LookUpExperts)              \
  OPERATOR(LimitCapacity)              \
  OPERATOR(LimitCapacityBackward)      \
  OPERATOR(ExpertSlots)                \
  OPERATOR(ExpertChoice)               \
  OPERATOR(SharedSlots)                \
  OPERATOR(SharedSlotsBackward)        \
  OPERATOR(Sort)                       \
  OPERATOR(Permute)                    \
  OPERATOR(Unpermute)                  \
  OPERATOR(GroupedGemm)                \
  OPERATOR(Activate)                   \
  OPERATOR(ActivationBackward)         \
  OPERATOR(GroupedGemmWeightBackward)  \
  OPERATOR(Combine)                    \
  OPERATOR(CombineBackward)            \
  OPERATOR(CopyMatrix)                 \
  OPERATOR(RmsNorm)                    \
  OPERATOR(RmsNormBackward)            \
  OPERATOR(Quantize)                   \
  OPERATOR(Dequantize)                 \
  OPERATOR(QuantizationError)          \
  OPERATOR(RouterScores)               \
  OPERATOR(RouterScoresBackward)       \
  OPERATOR(ExpertTotals)               \
  OPERATOR(ExpertTotalsBackward)       \
  OPERATOR(ColumnMeans)                \
  OPERATOR(ColumnMeansBackward)        \
  OPERATOR(BalanceLoss)                \
  OPERATOR(BalanceLossBackward)        \
  OPERATOR(Imbalance)                  \
  OPERATOR(CvSquaredBackward)          \
  OPERATOR(UpdateSelectionBias)        \
  OPERATOR(Accumulate)                 \
  OPERATOR(Random)                     \
  OPERATOR(Jitter)                     \
  OPERATOR(NoisyLogits)                \
  OPERATOR(NoisyLogitsBackward)        \
  OPERATOR(ExpertLoad)                 \
  OPERATOR(ExpertLoadBackward)         \
  OPERATOR(SumOfSquares)               \
  OPERATOR(AdamW)                      \
  OPERATOR(Sgd)                        \
  MOE_EXTENSION_OPERATORS(OPERATOR)

namespace moe {

// visit.operator()<Operator>() for every operator.
template <class Visit>
constexpr void for_each_operator(Visit&& visit) {
#define MOE_OPERATOR(Operator) visit.template operator()<Operator>();
  MOE_OPERATORS(MOE_OPERATOR)
#undef MOE_OPERATOR
}

}  // namespace moe
