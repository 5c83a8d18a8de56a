/* headlens/tools: which kernels of ours a program has, and which of them it launched. Preloaded, it appends to the file
 * HEADLENS_KERNELS_FILE at the end a line for each, "launched NAME N" or "never NAME N": the name mangled, and the how manieth of that
 * name it is (files have kernels of one name that are theirs alone). launched_kernels.py reads it.
 *   cc -shared -fPIC -O1 -o launched_kernels.so launched_kernels.c -ldl -lpthread */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* As in cuda_runtime.h, which need not be here. */
typedef struct {
  unsigned x, y, z;
} Dim;
typedef int Launch(const void*, Dim, Dim, void**, size_t, void*);
typedef int LaunchExC(const void*, const void*, void**);
typedef int GetKernel(const void**, const void*);
typedef void Register(void**, const char*, char*, const char*, int, void*, void*, void*, void*, int*);

/* A kernel goes by the host function that stands for it and, once asked for, by the runtime's handle. */
typedef struct {
  const void *host, *handle;
  char* name;
  int launched;
} Kernel;
static Kernel* kernels;
static size_t count;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static void* next_of(const char* name) {
  void* found = dlsym(RTLD_NEXT, name);
  if (found == NULL) fprintf(stderr, "launched_kernels: no %s\n", name), abort();
  return found;
}

void __cudaRegisterFunction(void** binary, const char* host, char* device, const char* name, int threads, void* tid, void* bid,
                            void* block, void* grid, int* warp) {
  Register* next;
  *(void**)&next = next_of("__cudaRegisterFunction");
  next(binary, host, device, name, threads, tid, bid, block, grid, warp);
  if (strstr(name, "headlens") == NULL) return;
  pthread_mutex_lock(&mutex);
  kernels = realloc(kernels, (count + 1) * sizeof *kernels);
  if (kernels == NULL) abort();
  kernels[count++] = (Kernel){host, NULL, strdup(name), 0};
  pthread_mutex_unlock(&mutex);
}

int __cudaGetKernel(const void** handle, const void* host) {
  GetKernel* next;
  *(void**)&next = next_of("__cudaGetKernel");
  const int status = next(handle, host);
  pthread_mutex_lock(&mutex);
  for (size_t i = 0; status == 0 && i < count; ++i) {
    if (kernels[i].host == host) kernels[i].handle = *handle;
  }
  pthread_mutex_unlock(&mutex);
  return status;
}

static int launched(int status, const void* kernel) {
  pthread_mutex_lock(&mutex);
  for (size_t i = 0; status == 0 && i < count; ++i) {
    if (kernels[i].host == kernel || kernels[i].handle == kernel) kernels[i].launched = 1;
  }
  pthread_mutex_unlock(&mutex);
  return status;
}

#define LAUNCHES_AS(function)                                                                       \
  int function(const void* kernel, Dim grid, Dim block, void** args, size_t shared, void* stream) { \
    Launch* next;                                                                                   \
    *(void**)&next = next_of(#function);                                                            \
    return launched(next(kernel, grid, block, args, shared, stream), kernel);                       \
  }
LAUNCHES_AS(__cudaLaunchKernel) /* what nvcc 13 makes of <<<>>>, */
LAUNCHES_AS(cudaLaunchKernel)   /* and what older ones make of it */
LAUNCHES_AS(cudaLaunchCooperativeKernel)

int cudaLaunchKernelExC(const void* config, const void* kernel, void** args) {
  LaunchExC* next;
  *(void**)&next = next_of("cudaLaunchKernelExC");
  return launched(next(config, kernel, args), kernel);
}

__attribute__((destructor)) static void write_names(void) {
  const char* path = getenv("HEADLENS_KERNELS_FILE");
  FILE* file = path != NULL ? fopen(path, "a") : NULL;
  if (file == NULL) return;
  for (size_t i = 0; i < count; ++i) {
    int number = 1;
    for (size_t k = 0; k < i; ++k) number += strcmp(kernels[k].name, kernels[i].name) == 0;
    fprintf(file, "%s %s %d\n", kernels[i].launched ? "launched" : "never", kernels[i].name, number);
  }
  fclose(file);
}
