# What the cuda and the simt device are both compiled from, in this folder. Plans know no device and are compiled once.
set(MOE_GPU_SOURCES
  accumulate.cu
  backend.cu
  capacity.cu
  column_sums.cu
  combine.cu
  data_errors.cu
  expert_choice.cu
  hierarchical_gating.cu
  gating.cu
  grouped_gemm.cu
  grouped_gemm_fma.cu
  grouped_gemm_mma.cu
  layer.cu
  load_balance.cu
  noisy_top_k.cu
  pack.cu
  packed_experts.cu
  permute.cu
  random.cu
  router_projection.cu
  router_scores.cu
  sched/tile_map.cu
  shared_slots.cu
  softmax_rows.cu
  sort.cu
  statistics.cu)
set(MOE_GPU_PLAN_SOURCES capacity_plan.cc plan.cc plan_text.cc)
list(TRANSFORM MOE_GPU_SOURCES PREPEND ${CMAKE_CURRENT_LIST_DIR}/)
list(TRANSFORM MOE_GPU_PLAN_SOURCES PREPEND ${CMAKE_CURRENT_LIST_DIR}/)
