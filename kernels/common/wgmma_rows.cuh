// headlens/kernels: warpgroup products whose rows are in registers (sm_90a).
#pragma once

#include "common/wgmma.cuh"

namespace headlens {

#ifdef HEADLENS_HAS_WGMMA

/// Describes a tile [k][64 columns] in shared memory, its rows 128 bytes, swizzled by 128, for a
/// product that reads it transposed; 64 columns more lie `panel` bytes further.
__device__ __forceinline__ uint64_t columns_descriptor(const void* tile, uint32_t panel) {
  const uint64_t address = (shared_address(tile) & 0x3ffff) >> 4;
  return address | (static_cast<uint64_t>(panel >> 4) << 16) | (64ull << 32) | (1ull << 62);
}

/// acc [64 x N] += A [64 x 16] B over a warpgroup, A in registers as the fragment of common/mma.cuh
/// (two neighbouring accumulators, packed). B is [N x 16], or, where kColumns, [16 x N]
/// (columns_descriptor). acc as Wgmma has it.
template <typename T, int N, bool kColumns>
struct WgmmaRows;

#define HEADLENS_ACC8(a, i)                                                                   \
  "+f"(a[i]), "+f"(a[i + 1]), "+f"(a[i + 2]), "+f"(a[i + 3]), "+f"(a[i + 4]), "+f"(a[i + 5]), \
      "+f"(a[i + 6]), "+f"(a[i + 7])
#define HEADLENS_ACC32(a, i) \
  HEADLENS_ACC8(a, i), HEADLENS_ACC8(a, i + 8), HEADLENS_ACC8(a, i + 16), HEADLENS_ACC8(a, i + 24)
#define HEADLENS_UNPACK(...) __VA_ARGS__

// `outs` lists N / 2 accumulators, `ins` the operands after them.
#define HEADLENS_WGMMA_ROWS(type, name, columns, outs, ins, accs)                                  \
  template <bool kColumns>                                                                         \
  struct WgmmaRows<type, columns, kColumns> {                                                      \
    static __device__ __forceinline__ void step(float (&acc)[columns / 2], const uint32_t (&a)[4], \
                                                uint64_t b) {                                      \
      asm volatile(                                                                                \
          "{\n.reg .pred p;\nsetp.eq.b32 p, 0, 0;\n"                                               \
          "wgmma.mma_async.sync.aligned.m64n" #columns "k16.f32." name "." name " {" outs          \
          "}, " ins ";\n}\n"                                                                       \
          : accs                                                                                   \
          : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(kColumns ? 1 : 0));            \
    }                                                                                              \
  };
#define HEADLENS_OUTS8 "%0, %1, %2, %3, %4, %5, %6, %7"
#define HEADLENS_OUTS32                                                                   \
  HEADLENS_OUTS8                                                                          \
  ", %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, " \
  "%25, %26, %27, %28, %29, %30, %31"
#define HEADLENS_OUTS64                                                                     \
  HEADLENS_OUTS32                                                                           \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, " \
  "%49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define HEADLENS_ROWS_OF(type, name)                                                               \
  HEADLENS_WGMMA_ROWS(type, name, 16, HEADLENS_OUTS8, "{%8, %9, %10, %11}, %12, p, 1, 1, %13",     \
                      HEADLENS_ACC8(acc, 0))                                                       \
  HEADLENS_WGMMA_ROWS(type, name, 64, HEADLENS_OUTS32, "{%32, %33, %34, %35}, %36, p, 1, 1, %37",  \
                      HEADLENS_ACC32(acc, 0))                                                      \
  HEADLENS_WGMMA_ROWS(type, name, 128, HEADLENS_OUTS64, "{%64, %65, %66, %67}, %68, p, 1, 1, %69", \
                      HEADLENS_UNPACK(HEADLENS_ACC32(acc, 0), HEADLENS_ACC32(acc, 32)))

HEADLENS_ROWS_OF(__nv_bfloat16, "bf16")
HEADLENS_ROWS_OF(__half, "f16")

#undef HEADLENS_ROWS_OF
#undef HEADLENS_OUTS64
#undef HEADLENS_OUTS32
#undef HEADLENS_OUTS8
#undef HEADLENS_WGMMA_ROWS
#undef HEADLENS_UNPACK
#undef HEADLENS_ACC32
#undef HEADLENS_ACC8

#endif  // HEADLENS_HAS_WGMMA

}  // namespace headlens
