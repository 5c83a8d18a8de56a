// headlens/kernels: causal softmax attention with the figures of its rows, in one pass.
#include "attention_fused.cuh"
#include "common/tensor_map.cuh"

namespace headlens {
namespace {

template <typename T, int kWidth, bool kSegments>
__global__ void __launch_bounds__(FusedShape<kWidth>::kThreads, 1)
    fused_kernel(const __grid_constant__ AttentionFusedParams p,
                 const __grid_constant__ FusedPlan plan, const __grid_constant__ CUtensorMap q_map,
                 const __grid_constant__ CUtensorMap k_map,
                 const __grid_constant__ CUtensorMap v_map,
                 const __grid_constant__ CUtensorMap ones_map) {
#ifdef HEADLENS_HAS_WGMMA
  using S = FusedShape<kWidth>;
  extern __shared__ unsigned char raw[];
  __shared__ uint64_t barriers[FusedMemory<S>::kBarriers];
  __shared__ int items[S::kQueryTiles];
  const FusedMemory<S> memory(raw, barriers, items);
  if (threadIdx.x == 0) {
    for (int i = 0; i < FusedMemory<S>::kBarriers; ++i) {
      const bool is_full = i < S::kQueryTiles || (i >= 2 * S::kQueryTiles &&
                                                  (i - 2 * S::kQueryTiles) / S::kStages % 2 == 0);
      barrier_init(&barriers[i], is_full ? 1 : 4 * S::kGroups);  // freed by a warp at a time
    }
    barrier_init_done();
  }
  __syncthreads();
  // Made uniform over the warp, so that the compiler knows that a role is.
  const int group = __shfl_sync(kFull, static_cast<int>(threadIdx.x) / 128, 0);
  if (group == S::kGroups) {
    setmaxnreg_dec<S::kCopyRegisters>();
    if (threadIdx.x % 128 == 0) {
      FusedCopies<S, kSegments>{p, plan, memory, q_map, k_map, v_map, ones_map}.run();
    }
  } else {
    setmaxnreg_inc<S::kFoldRegisters>();
    FusedGroup<T, kWidth, kSegments>(p, plan, memory, group).run();
  }
#endif
}

/// The ones of each key's segment, a thread a pair of keys; and no item taken yet.
template <typename T>
__global__ void ones_kernel(const __grid_constant__ AttentionFusedParams p,
                            const __grid_constant__ FusedPlan plan) {
  const int pair = blockIdx.x * blockDim.x + threadIdx.x, list = blockIdx.y;
  if (pair == 0 && list == 0) *plan.next = 0;
  if (2 * pair >= plan.padded) return;
  const int64_t* ids = p.segments + list * p.segment_stride;
  const int64_t low = 2 * pair < p.positions ? ids[2 * pair] : -1;
  const int64_t high = 2 * pair + 1 < p.positions ? ids[2 * pair + 1] : -1;
  uint32_t* to = static_cast<uint32_t*>(plan.ones) +
                 static_cast<int64_t>(list) * kFusedSegments * (plan.padded / 2) + pair;
  for (int segment = 0; segment < kFusedSegments; ++segment) {
    const bool named = segment < p.num_segments;
    to[static_cast<int64_t>(segment) * (plan.padded / 2)] =
        pack_pair<T>(named && low == segment ? 1.0f : 0.0f, named && high == segment ? 1.0f : 0.0f);
  }
}

FusedPlan plan_of(const AttentionFusedParams& p, int rows) {
  constexpr int64_t kCache = int64_t{32} << 20;  // of what the device's cache holds
  FusedPlan plan{};
  plan.next = static_cast<int*>(p.workspace);
  plan.ones = static_cast<unsigned char*>(p.workspace) + 256;
  plan.padded = (p.positions + 127) / 128 * 128;
  plan.lists = p.segment_stride == 0 ? 1 : p.batch;
  plan.row_blocks = (p.positions + rows - 1) / rows;
  plan.items = plan.row_blocks * p.batch * p.heads;
  const int64_t kv_bytes = int64_t{4} * p.positions * p.d_head;
  const int64_t kv_heads = kCache / kv_bytes > 1 ? kCache / kv_bytes : 1;
  const int64_t maps = kv_heads * (p.heads / p.kv_heads), all = int64_t{p.batch} * p.heads;
  plan.maps_at_once = static_cast<int>(maps < all ? maps : all);
  return plan;
}

template <typename T, int kWidth, bool kSegments>
cudaError_t launch(const AttentionFusedParams& p, cudaStream_t stream) {
  using S = FusedShape<kWidth>;
  int device = 0, processors = 0;
  cudaError_t status = cudaGetDevice(&device);
  if (status == cudaSuccess) {
    status = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
  }
  if (status != cudaSuccess) return status;
  const FusedPlan plan = plan_of(p, S::kRows);
  CUtensorMap q_map, k_map, v_map, ones_map;
  if (!encode_boxes(&q_map, p.q, p.dtype, p.d_head, p.heads, p.positions, p.batch, p.q_stride,
                    64) ||
      !encode_boxes(&k_map, p.k, p.dtype, p.d_head, p.kv_heads, p.positions, p.batch, p.k_stride,
                    S::kKeys) ||
      !encode_boxes(&v_map, p.v, p.dtype, p.d_head, p.kv_heads, p.positions, p.batch, p.v_stride,
                    S::kKeys)) {
    return cudaErrorNotSupported;
  }
  ones_map = q_map;
  if (kSegments) {
    const int64_t stride[3] = {int64_t{kFusedSegments} * plan.padded, plan.padded, 0};
    if (!encode_boxes(&ones_map, plan.ones, p.dtype, plan.padded, 1, kFusedSegments, plan.lists,
                      stride, kFusedSegments)) {
      return cudaErrorNotSupported;
    }
  }
  const auto kernel = fused_kernel<T, kWidth, kSegments>;
  constexpr int kShared = S::kShared + (kSegments ? S::kSharedOnes : 0);
  status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kShared);
  if (status != cudaSuccess) return status;
  if (kSegments) {
    const dim3 blocks((plan.padded / 2 + 255) / 256, plan.lists);
    ones_kernel<T><<<blocks, 256, 0, stream>>>(p, plan);
    status = cudaGetLastError();
  } else {
    status = cudaMemsetAsync(plan.next, 0, sizeof(int), stream);
  }
  if (status != cudaSuccess || plan.items == 0) return status;
  const unsigned blocks = static_cast<unsigned>(plan.items < processors ? plan.items : processors);
  kernel<<<blocks, S::kThreads, kShared, stream>>>(p, plan, q_map, k_map, v_map, ones_map);
  return cudaGetLastError();
}

/// Code for another target than sm_90a has no body, and so no barriers.
template <typename Kernel>
bool has_body(Kernel* kernel) {
  cudaFuncAttributes attributes{};
  return cudaFuncGetAttributes(&attributes, kernel) == cudaSuccess &&
         attributes.sharedSizeBytes > 0;
}

}  // namespace

bool attention_fused_fits(const AttentionFusedParams& p) {
  int device = 0, major = 0;
  if (cudaGetDevice(&device) != cudaSuccess ||
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) != cudaSuccess) {
    return false;
  }
  return major == 9 && p.dtype != KernelDtype::Float32 && p.d_head % 8 == 0 && p.d_head <= 128 &&
         starts_even(p.q, p.q_stride) && starts_even(p.k, p.k_stride) &&
         starts_even(p.v, p.v_stride) && encoder() != nullptr &&
         has_body(fused_kernel<__nv_bfloat16, 128, false>);
}

size_t attention_fused_workspace(const AttentionFusedParams& p) {
  if (p.segments == nullptr) return 256;
  const FusedPlan plan = plan_of(p, 128);
  return 256 + static_cast<size_t>(plan.lists) * kFusedSegments * plan.padded * 2;
}

cudaError_t launch_attention_fused(const AttentionFusedParams& p, cudaStream_t stream) {
  const auto pick = [&](auto t) {
    using T = decltype(t);
    const bool segments = p.segments != nullptr;
    if (p.d_head <= 64) {
      return segments ? launch<T, 64, true>(p, stream) : launch<T, 64, false>(p, stream);
    }
    return segments ? launch<T, 128, true>(p, stream) : launch<T, 128, false>(p, stream);
  };
  return p.dtype == KernelDtype::Float16 ? pick(__half()) : pick(__nv_bfloat16());
}

}  // namespace headlens
