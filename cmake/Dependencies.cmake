# headlens/cmake: third-party code. find_package first, a pinned FetchContent second, LibTorch last.
include(FetchContent)

# Finds a package, or fetches the given commit: a hash of all that is fetched, where a tag can be
# moved. What was fetched cannot be installed with us.
macro(headlens_dependency package target url version commit)
  find_package(${package} QUIET)
  if(NOT TARGET ${target})
    message(STATUS "${package} not found here; fetching ${version}")
    FetchContent_Declare(${package} GIT_REPOSITORY ${url} GIT_TAG ${commit} SYSTEM)
    FetchContent_MakeAvailable(${package})
    set(${package}_VERSION ${version})
    set(HEADLENS_INSTALL OFF)
  endif()
endmacro()

set(SPDLOG_FMT_EXTERNAL ON)
set(INSTALL_GTEST OFF)
headlens_dependency(fmt fmt::fmt https://github.com/fmtlib/fmt.git 9.1.0
                    a33701196adfad74917046096bf5a2aa0ab0bb50)
headlens_dependency(spdlog spdlog::spdlog https://github.com/gabime/spdlog.git 1.11.0
                    ad0e89cbfb4d0c1ce4d097e134eb7be67baebb36)
headlens_dependency(nlohmann_json nlohmann_json::nlohmann_json
                    https://github.com/nlohmann/json.git 3.11.2
                    bc889afb4c5bf1c0d8ee29ef35eaaf4c8bef8a5d)
headlens_dependency(Eigen3 Eigen3::Eigen https://gitlab.com/libeigen/eigen.git 3.4.0
                    3147391d946bb4b6c68edd901f2add6ac1f31f8c)
if(HEADLENS_BUILD_CLI OR HEADLENS_BUILD_TESTS)
  headlens_dependency(CLI11 CLI11::CLI11 https://github.com/CLIUtils/CLI11.git 2.3.2
                      291c58789c031208f08f4f261a858b5b7083e8e2)
endif()
if(HEADLENS_BUILD_TESTS)
  headlens_dependency(GTest GTest::gtest https://github.com/google/googletest.git 1.12.1
                      58d77fa8070e8cec2dc1ed015d66b454c8d78850)
endif()
if(HEADLENS_BUILD_BENCHMARKS)
  find_package(benchmark QUIET)
  if(NOT TARGET benchmark::benchmark)
    message(STATUS "google benchmark not found: tests/bench is left out")
    set(HEADLENS_BUILD_BENCHMARKS OFF)
  endif()
endif()

# The tokenizer's regular expressions, Unicode tables and SentencePiece: libraries without CMake files.
find_path(HEADLENS_PCRE2_INCLUDE pcre2.h REQUIRED)
find_library(HEADLENS_PCRE2_LIBRARY pcre2-8 REQUIRED)
find_path(HEADLENS_UTF8PROC_INCLUDE utf8proc.h REQUIRED)
find_library(HEADLENS_UTF8PROC_LIBRARY utf8proc REQUIRED)
find_path(HEADLENS_SENTENCEPIECE_INCLUDE sentencepiece_processor.h REQUIRED)
find_library(HEADLENS_SENTENCEPIECE_LIBRARY sentencepiece REQUIRED)

# Named by path so that an installed package needs no CMake files of theirs.
add_library(headlens_text INTERFACE)
target_include_directories(headlens_text SYSTEM INTERFACE
  $<BUILD_INTERFACE:${HEADLENS_PCRE2_INCLUDE}> $<BUILD_INTERFACE:${HEADLENS_UTF8PROC_INCLUDE}>
  $<BUILD_INTERFACE:${HEADLENS_SENTENCEPIECE_INCLUDE}>)
target_compile_definitions(headlens_text INTERFACE PCRE2_CODE_UNIT_WIDTH=8)
target_link_libraries(headlens_text INTERFACE ${HEADLENS_PCRE2_LIBRARY} ${HEADLENS_UTF8PROC_LIBRARY}
                      ${HEADLENS_SENTENCEPIECE_LIBRARY})

# npz archives. Debian's libzip-config.cmake asks for command-line tools of other packages.
find_path(HEADLENS_ZIP_INCLUDE zip.h REQUIRED)
find_library(HEADLENS_ZIP_LIBRARY zip REQUIRED)
# Checksums of journals.
find_path(HEADLENS_ZLIB_INCLUDE zlib.h REQUIRED)
find_library(HEADLENS_ZLIB_LIBRARY z REQUIRED)

# LibTorch's wheel carries another fmt in its include folder, which would shadow ours. A folder
# that holds nothing but our fmt goes before it on every include path of our own targets.
get_target_property(_headlens_fmt_dirs fmt::fmt INTERFACE_INCLUDE_DIRECTORIES)
string(REGEX REPLACE "\\$<BUILD_INTERFACE:([^>]*)>" "\\1" _headlens_fmt_dirs "${_headlens_fmt_dirs}")
find_path(HEADLENS_FMT_INCLUDE fmt/format.h PATHS ${_headlens_fmt_dirs} NO_DEFAULT_PATH REQUIRED)
set(HEADLENS_FMT_FIRST ${PROJECT_BINARY_DIR}/fmt_first)
file(MAKE_DIRECTORY ${HEADLENS_FMT_FIRST})
file(CREATE_LINK ${HEADLENS_FMT_INCLUDE}/fmt ${HEADLENS_FMT_FIRST}/fmt SYMBOLIC)

# LibTorch: told by the scripts, or where they keep it.
if(NOT HEADLENS_TORCH_ROOT AND NOT Torch_DIR)
  set(_headlens_cache "$ENV{XDG_CACHE_HOME}")
  if(NOT _headlens_cache)
    set(_headlens_cache "$ENV{HOME}/.cache")
  endif()
  foreach(_headlens_flavour cpu cuda)
    file(SHA256 ${PROJECT_SOURCE_DIR}/scripts/requirements-${_headlens_flavour}.txt _headlens_key)
    string(SUBSTRING ${_headlens_key} 0 12 _headlens_key)
    file(GLOB _headlens_found
         ${_headlens_cache}/headlens/deps-${_headlens_key}/venv/lib/python3*/site-packages/torch)
    if(_headlens_found AND NOT (_headlens_flavour STREQUAL cuda AND NOT HEADLENS_CUDA))
      set(HEADLENS_TORCH_ROOT ${_headlens_found})
    endif()
  endforeach()
endif()

# CUDA: the CPU-only install has libtorch_cuda.so but not the libraries it needs.
if(NOT HEADLENS_TORCH_ROOT AND Torch_DIR)
  get_filename_component(HEADLENS_TORCH_ROOT ${Torch_DIR}/../../.. ABSOLUTE)
endif()
set(_headlens_has_cuda OFF)
if(EXISTS ${HEADLENS_TORCH_ROOT}/lib/libtorch_cuda.so
   AND (EXISTS ${HEADLENS_TORCH_ROOT}/../nvidia/cudnn OR NOT EXISTS ${HEADLENS_TORCH_ROOT}/../nvidia))
  set(_headlens_has_cuda ON)
endif()
set(HEADLENS_LINK_CUDA OFF)
string(TOUPPER "${HEADLENS_CUDA}" _headlens_cuda)
if(_headlens_cuda STREQUAL AUTO)
  find_program(HEADLENS_NVCC nvcc PATHS /usr/local/cuda/bin)
  if(HEADLENS_NVCC AND _headlens_has_cuda)
    set(HEADLENS_LINK_CUDA ON)
  endif()
elseif(HEADLENS_CUDA)
  if(NOT _headlens_has_cuda)
    message(FATAL_ERROR "[Dependencies] HEADLENS_CUDA=${HEADLENS_CUDA}, expected a LibTorch with its "
                        "CUDA libraries, got ${HEADLENS_TORCH_ROOT}")
  endif()
  set(HEADLENS_LINK_CUDA ON)
endif()
include(HeadlensTorch)
