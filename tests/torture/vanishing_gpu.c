/* headlens/tests: a GPU that vanishes. Preloaded into the command, this counts the launches of kernels, and after the one numbered
 * HEADLENS_VANISH_AFTER puts a kernel behind it that traps: the context dies, as it does when a card is lost, and every later call
 * of CUDA fails. Without the variable nothing dies; the count goes to the file HEADLENS_VANISH_COUNT at the end.
 *   cc -shared -fPIC -O1 -o vanishing_gpu.so vanishing_gpu.c -ldl */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* As in cuda_runtime.h and cuda.h, which need not be here. */
typedef struct {
  unsigned x, y, z;
} Dim;
typedef int Launch(const void*, Dim, Dim, void**, size_t, void*);
typedef struct {
  Dim grid, block;
  size_t shared;
  void *stream, *attributes;
  unsigned count;
} Config;
typedef int LaunchExC(const Config*, const void*, void**);
typedef int GraphLaunch(void*, void*);

static const char kTrap[] =
    ".version 6.4\n.target sm_75\n.address_size 64\n.visible .entry vanish()\n{\n  trap;\n}\n";

static atomic_long launches;
static atomic_int ready; /* 1: somebody prepares, 2: done */
static void* trap_kernel;
static int (*cu_launch)(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void*, void**, void**);

static void give_up(const char* what, int status) {
  fprintf(stderr, "vanishing_gpu: %s: %d\n", what, status);
  abort();
}

static void* symbol(void* library, const char* name) {
  void* found = dlsym(library, name);
  if (found == NULL) give_up(name, 0);
  return found;
}

/* Loads the kernel; the runtime has made its context the thread's by then. */
static void prepare(void) {
  void* driver = dlopen("libcuda.so.1", RTLD_NOW);
  if (driver == NULL) give_up(dlerror(), 0);
  int (*load)(void**, const void*) = (int (*)(void**, const void*))symbol(driver, "cuModuleLoadData");
  int (*get)(void**, void*, const char*) = (int (*)(void**, void*, const char*))symbol(driver, "cuModuleGetFunction");
  void* module = NULL;
  int status = load(&module, kTrap);
  if (status != 0) give_up("cuModuleLoadData", status);
  status = get(&trap_kernel, module, "vanish");
  if (status != 0) give_up("cuModuleGetFunction", status);
  *(void**)&cu_launch = symbol(driver, "cuLaunchKernel");
}

/* After each launch: with the first the trap is made ready (not later: a recording would not allow it). */
static int launched(int status, void* stream) {
  const char* after = getenv("HEADLENS_VANISH_AFTER");
  const long number = atomic_fetch_add(&launches, 1) + 1;
  if (after == NULL || status != 0) return status;
  int nobody = 0;
  if (atomic_compare_exchange_strong(&ready, &nobody, 1)) {
    prepare();
    atomic_store(&ready, 2);
  }
  if (number < atol(after) || atomic_load(&ready) != 2) return status;
  cu_launch(trap_kernel, 1, 1, 1, 1, 1, 1, 0, stream, NULL, NULL);
  return status;
}

#define NEXT(type, name)                                     \
  static type* next;                                         \
  if (next == NULL) *(void**)&next = symbol(RTLD_NEXT, name)

#define LAUNCHES_AS(name)                                                                     \
  int name(const void* kernel, Dim grid, Dim block, void** args, size_t shared, void* stream) { \
    NEXT(Launch, #name);                                                                      \
    return launched(next(kernel, grid, block, args, shared, stream), stream);                 \
  }
LAUNCHES_AS(__cudaLaunchKernel) /* what nvcc 13 makes of <<<>>>, */
LAUNCHES_AS(cudaLaunchKernel)   /* and what older ones make of it */
LAUNCHES_AS(cudaLaunchCooperativeKernel)

int cudaLaunchKernelExC(const Config* config, const void* kernel, void** args) {
  NEXT(LaunchExC, "cudaLaunchKernelExC");
  return launched(next(config, kernel, args), config->stream);
}

int cudaGraphLaunch(void* graph, void* stream) {
  NEXT(GraphLaunch, "cudaGraphLaunch");
  return launched(next(graph, stream), stream);
}

__attribute__((destructor)) static void write_count(void) {
  const char* path = getenv("HEADLENS_VANISH_COUNT");
  FILE* file = path != NULL ? fopen(path, "w") : NULL;
  if (file == NULL) return;
  fprintf(file, "%ld\n", atomic_load(&launches));
  fclose(file);
}
