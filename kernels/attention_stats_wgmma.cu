// headlens/kernels: the figures of all rows in one pass, on Hopper's warpgroup products.
#include "attention_stats_wgmma.cuh"
#include "common/tensor_map.cuh"

namespace headlens {
namespace {

template <typename T, int kWidth, bool kSegments>
__global__ void __launch_bounds__(StatsShape<kWidth>::kThreads, 1)
    stats_kernel(const __grid_constant__ AttentionStatsParams p,
                 const __grid_constant__ SegmentTiles segments,
                 const __grid_constant__ CUtensorMap q_map,
                 const __grid_constant__ CUtensorMap k_map) {
#ifdef HEADLENS_HAS_WGMMA
  using S = StatsShape<kWidth>;
  extern __shared__ unsigned char raw[];
  __shared__ uint64_t barriers[StatsMemory<S>::kBarriers];
  const StatsMemory<S> memory(raw, barriers);
  if (threadIdx.x == 0) {
    for (int i = 0; i < S::kQueryTiles; ++i) {
      barrier_init(&memory.query_full[i], 1);
      barrier_init(&memory.query_free[i], 4 * S::kGroups);  // a warp at a time
    }
    for (int i = 0; i < S::kStages; ++i) {
      barrier_init(&memory.key_full[i], 1);
      barrier_init(&memory.key_free[i], 4 * S::kGroups);
    }
    barrier_init_done();
  }
  __syncthreads();
  // Made uniform over the warp, so that the compiler knows that a role is.
  const int group = __shfl_sync(kFull, static_cast<int>(threadIdx.x) / 128, 0);
  if (group == S::kGroups) {
    setmaxnreg_dec<S::kCopyRegisters>();
    if (threadIdx.x % 128 == 0) copy_items<S>(p, q_map, k_map, memory);
  } else {
    setmaxnreg_inc<S::kFoldRegisters>();
    StatsGroup<T, S, kSegments> rows(p, segments, memory, group);
    for (int round = 0; round < rounds_of<S>(p); ++round) {
      if (item_of<S>(p, round, rows.item)) rows.run_item();
    }
  }
#endif
}

template <typename T, int kWidth>
cudaError_t launch(const AttentionStatsParams& p, int processors, cudaStream_t stream) {
  using S = StatsShape<kWidth>;
  CUtensorMap q_map, k_map;
  if (!encode_boxes(&q_map, p.q, p.dtype, p.d_head, p.heads, p.queries, p.batch, p.q_stride, 64) ||
      !encode_boxes(&k_map, p.k, p.dtype, p.d_head, p.kv_heads, p.keys, p.batch, p.k_stride,
                    S::kKeys)) {
    return cudaErrorNotSupported;
  }
  const auto kernel = p.segments ? stats_kernel<T, kWidth, true> : stats_kernel<T, kWidth, false>;
  // Code for another target than sm_90a has no body, and so no barriers.
  cudaFuncAttributes attributes{};
  cudaError_t status = cudaFuncGetAttributes(&attributes, kernel);
  if (status == cudaSuccess && attributes.sharedSizeBytes == 0) return cudaErrorNotSupported;
  if (status == cudaSuccess) {
    status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, S::kShared);
  }
  const SegmentTiles segments = segment_tiles_of(p, S::kKeys);
  if (status == cudaSuccess && p.segments != nullptr) {
    status = launch_segment_tiles(p, segments, S::kKeys, stream);
  }
  if (status != cudaSuccess) return status;
  const int64_t items = items_of<S>(p);
  if (items == 0) return cudaSuccess;
  const unsigned blocks = static_cast<unsigned>(items < processors ? items : processors);
  kernel<<<blocks, S::kThreads, S::kShared, stream>>>(p, segments, q_map, k_map);
  return cudaGetLastError();
}

}  // namespace

bool attention_stats_fits_wgmma(const AttentionStatsParams& p) {
  int device = 0, major = 0;
  if (cudaGetDevice(&device) != cudaSuccess ||
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) != cudaSuccess) {
    return false;
  }
  // Few rows over many keys want the keys split between blocks, which this pass does not do.
  const bool many = p.queries >= 64 || p.keys <= 512;
  return major == 9 && many && p.dtype != KernelDtype::Float32 && p.rows == nullptr &&
         p.d_head % 8 == 0 && p.d_head <= 256 && p.scale > 0 && starts_even(p.q, p.q_stride) &&
         starts_even(p.k, p.k_stride);
}

cudaError_t launch_attention_stats_wgmma(const AttentionStatsParams& p, cudaStream_t stream) {
  int device = 0, processors = 0;
  cudaError_t status = cudaGetDevice(&device);
  if (status == cudaSuccess) {
    status = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
  }
  if (status != cudaSuccess) return status;
  const auto pick = [&](auto t) {
    using T = decltype(t);
    if (p.d_head <= 64) return launch<T, 64>(p, processors, stream);
    if (p.d_head <= 128) return launch<T, 128>(p, processors, stream);
    return launch<T, 256>(p, processors, stream);
  };
  return p.dtype == KernelDtype::Float16 ? pick(__half()) : pick(__nv_bfloat16());
}

}  // namespace headlens
