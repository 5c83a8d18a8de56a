// headlens/kernels: which passes give the figures that were asked for.
#include "attention_stats_parts.h"

namespace headlens {
namespace {

size_t padded(size_t bytes) {
  return (bytes + 255) / 256 * 256;
}

}  // namespace

size_t attention_stats_workspace(const AttentionStatsParams& p) {
  return padded(segment_tiles_bytes(p)) + padded(rows_workspace(p));
}

cudaError_t launch_attention_stats(const AttentionStatsParams& p, cudaStream_t stream) {
  unsigned char* rows_space =
      static_cast<unsigned char*>(p.workspace) + padded(segment_tiles_bytes(p));
  cudaError_t status = cudaErrorNotSupported;
  if (attention_stats_fits_wgmma(p)) status = launch_attention_stats_wgmma(p, stream);
  if (status == cudaErrorNotSupported) {
    status = launch_attention_stats_rows(p, rows_plan(p, true, rows_space), stream);
  } else if (status == cudaSuccess && p.top_k > 0) {
    AttentionStatsParams top = p;
    top.segments = nullptr;
    status = launch_attention_stats_rows(top, rows_plan(top, false, rows_space), stream);
  }
  if (status == cudaSuccess && (p.offset_count > 0 || p.key_sets != nullptr)) {
    status = launch_attention_stats_keys(p, stream);
  }
  return status;
}

}  // namespace headlens
