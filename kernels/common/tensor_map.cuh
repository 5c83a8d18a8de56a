// headlens/kernels: descriptions of tensors for the engine that copies boxes of them.
#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "common/dtype.h"

namespace headlens {

/// The encoder of tensor maps is the driver's; found at run time, so that nothing links with it.
using EncodeTiled = decltype(&cuTensorMapEncodeTiled);
inline EncodeTiled find_encoder() {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result{};
  if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault,
                                       &result) != cudaSuccess ||
      result != cudaDriverEntryPointSuccess) {
    return nullptr;
  }
  return reinterpret_cast<EncodeTiled>(found);
}

inline EncodeTiled encoder() {
  static const EncodeTiled found = find_encoder();
  return found;
}

/// x [batch, pos, head, d] in boxes of 64 channels x `box` positions of one head; 0 past the ends.
/// `stride` of batch, position and head, in elements of 2 bytes.
inline bool encode_boxes(CUtensorMap* map, const void* x, KernelDtype dtype, int d, int heads,
                         int positions, int batch, const int64_t (&stride)[3], int box) {
  if (encoder() == nullptr) return false;
  const int sizes[4] = {d, heads, positions, batch};
  cuuint64_t size[4], bytes[3];
  for (int i = 0; i < 4; ++i) size[i] = static_cast<cuuint64_t>(sizes[i]);
  for (int i = 0; i < 3; ++i) {  // the stride of a single one is never used, but checked
    bytes[i] = sizes[i + 1] == 1 ? 16 : static_cast<cuuint64_t>(stride[2 - i]) * 2;
  }
  const cuuint32_t boxes[4] = {64, 1, static_cast<cuuint32_t>(box), 1}, ones[4] = {1, 1, 1, 1};
  const auto type = dtype == KernelDtype::Float16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16
                                                  : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
  return encoder()(map, type, 4, const_cast<void*>(x), size, bytes, boxes, ones,
                   CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                   CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                   CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

/// Whether x may be copied by boxes: rows start at multiples of 16 bytes.
inline bool starts_even(const void* x, const int64_t (&stride)[3]) {
  bool even = reinterpret_cast<uintptr_t>(x) % 16 == 0;
  for (const int64_t step : stride) even = even && step % 8 == 0 && step > 0;
  return even;
}

}  // namespace headlens
