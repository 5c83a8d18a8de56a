# headlens/cmake: the imported target headlens::torch, for our build and for installed packages.
#
# find_package(Torch) refuses without the CUDA toolkit even where only the CPU half is wanted, and
# probes for seconds where it is there. LibTorch is a folder with include/ and lib/, so it is
# imported by hand. Wanted: HEADLENS_TORCH_ROOT, or Torch_DIR, or the wheel scripts/build fetched.
# HEADLENS_LINK_CUDA says whether libtorch_cuda is linked too.
if(TARGET headlens::torch)
  return()
endif()

if(NOT HEADLENS_TORCH_ROOT AND Torch_DIR)
  get_filename_component(HEADLENS_TORCH_ROOT ${Torch_DIR}/../../.. ABSOLUTE)
endif()
if(NOT EXISTS "${HEADLENS_TORCH_ROOT}/lib/libtorch_cpu.so")
  message(FATAL_ERROR "[HeadlensTorch] LibTorch, expected HEADLENS_TORCH_ROOT or Torch_DIR to lead "
                      "to lib/libtorch_cpu.so, got '${HEADLENS_TORCH_ROOT}'; scripts/build fetches one")
endif()
message(STATUS "LibTorch: ${HEADLENS_TORCH_ROOT} (CUDA: ${HEADLENS_LINK_CUDA})")

set(_headlens_torch_lib ${HEADLENS_TORCH_ROOT}/lib)
# A wheel keeps its CUDA libraries beside the torch folder; ld follows them through -rpath-link.
set(_headlens_torch_rpath ${_headlens_torch_lib})
foreach(_headlens_part cu13 cudnn nccl cusparselt nvshmem)
  if(EXISTS ${HEADLENS_TORCH_ROOT}/../nvidia/${_headlens_part}/lib)
    get_filename_component(_headlens_part_lib
                           ${HEADLENS_TORCH_ROOT}/../nvidia/${_headlens_part}/lib ABSOLUTE)
    list(APPEND _headlens_torch_rpath ${_headlens_part_lib})
  endif()
endforeach()

foreach(_headlens_part c10 torch_cpu)
  add_library(headlens::${_headlens_part} SHARED IMPORTED)
  set_target_properties(headlens::${_headlens_part} PROPERTIES
    IMPORTED_LOCATION ${_headlens_torch_lib}/lib${_headlens_part}.so)
endforeach()
add_library(headlens::torch INTERFACE IMPORTED)
target_link_libraries(headlens::torch INTERFACE headlens::torch_cpu headlens::c10)
target_include_directories(headlens::torch INTERFACE
  ${HEADLENS_TORCH_ROOT}/include ${HEADLENS_TORCH_ROOT}/include/torch/csrc/api/include)
foreach(_headlens_part IN LISTS _headlens_torch_rpath)
  target_link_options(headlens::torch INTERFACE "LINKER:-rpath-link,${_headlens_part}")
endforeach()

# at::parallel_for is serial without OpenMP. The wheel brings its own libgomp, and a program
# should hold one; a LibTorch without it uses the compiler's.
if(EXISTS ${_headlens_torch_lib}/libgomp.so.1)
  add_library(headlens::openmp SHARED IMPORTED)
  set_target_properties(headlens::openmp PROPERTIES
    IMPORTED_LOCATION ${_headlens_torch_lib}/libgomp.so.1)
else()
  find_package(OpenMP REQUIRED COMPONENTS CXX)
  add_library(headlens::openmp INTERFACE IMPORTED)
  target_link_libraries(headlens::openmp INTERFACE OpenMP::OpenMP_CXX)
endif()
target_link_libraries(headlens::torch INTERFACE headlens::openmp)
if(HEADLENS_LINK_CUDA)
  # Nothing refers to libtorch_cuda by symbol: it registers the CUDA device when it is loaded, so
  # the linker must be kept from dropping it.
  target_link_libraries(headlens::torch INTERFACE
    "-Wl,--push-state,--no-as-needed,${_headlens_torch_lib}/libtorch_cuda.so,${_headlens_torch_lib}/libc10_cuda.so,--pop-state")
  # Our device code calls the runtime itself: the one that LibTorch runs on.
  find_library(HEADLENS_CUDART NAMES libcudart.so.13 libcudart.so.12 cudart
               HINTS ${_headlens_torch_rpath} /usr/local/cuda/lib64)
  if(HEADLENS_CUDART)
    target_link_libraries(headlens::torch INTERFACE ${HEADLENS_CUDART})
  endif()
endif()

# The same as words for a linker, for pkg-config.
set(HEADLENS_TORCH_LINK ${_headlens_torch_lib}/libtorch_cpu.so ${_headlens_torch_lib}/libc10.so)
if(EXISTS ${_headlens_torch_lib}/libgomp.so.1)
  list(APPEND HEADLENS_TORCH_LINK ${_headlens_torch_lib}/libgomp.so.1)
else()
  list(APPEND HEADLENS_TORCH_LINK -fopenmp)
endif()
if(HEADLENS_LINK_CUDA)
  list(APPEND HEADLENS_TORCH_LINK -Wl,--push-state,--no-as-needed
              ${_headlens_torch_lib}/libtorch_cuda.so ${_headlens_torch_lib}/libc10_cuda.so
              -Wl,--pop-state ${HEADLENS_CUDART})
endif()
foreach(_headlens_part IN LISTS _headlens_torch_rpath)
  list(APPEND HEADLENS_TORCH_LINK -Wl,-rpath-link,${_headlens_part})
endforeach()
