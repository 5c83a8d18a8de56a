# headlens/cmake: how a room and its tests become targets. A room lists its files, nothing else.

# What every target of ours shares. One precompiled header serves them all, so flags must agree:
# -fPIC everywhere (CMake would give executables -fPIE) and the same warnings and sanitizers.
function(headlens_options target)
  target_compile_features(${target} PRIVATE cxx_std_20)
  set_target_properties(${target} PROPERTIES CXX_EXTENSIONS OFF CXX_VISIBILITY_PRESET hidden
                                             VISIBILITY_INLINES_HIDDEN ON)
  target_compile_options(${target} PRIVATE -fPIC -fopenmp)
  headlens_warnings(${target})
  headlens_sanitizers(${target})
  headlens_coverage(${target})
  target_include_directories(${target} SYSTEM BEFORE PRIVATE ${HEADLENS_FMT_FIRST})
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/src)
  target_compile_definitions(${target} PRIVATE SPDLOG_FMT_EXTERNAL)
  target_link_libraries(${target} PRIVATE fmt::fmt spdlog::spdlog
                        $<BUILD_INTERFACE:nlohmann_json::nlohmann_json>)
endfunction()

function(headlens_use_pch target)
  if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
    target_compile_options(${target} PRIVATE -fpch-preprocess)  # lets ccache see through the PCH
  endif()
  target_precompile_headers(${target} REUSE_FROM headlens_pch)
endfunction()

# Drops listed files that are not there, with a warning: one absent file must not keep everybody
# else from building. tools/dev/check_layers.py fails on it.
function(headlens_existing out)
  set(found)
  foreach(file IN LISTS ARGN)
    if(EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${file})
      list(APPEND found ${file})
    else()
      message(WARNING "${CMAKE_CURRENT_SOURCE_DIR}/CMakeLists.txt lists ${file}, which is not there")
    endif()
  endforeach()
  set(${out} ${found} PARENT_SCOPE)
endfunction()

# headlens_room(core SOURCES a.cpp b.cpp DEPS headlens::torch [PRIVATE_DEPS x] [NO_PCH])
# makes headlens_core; without sources it is an INTERFACE target that only carries its DEPS.
function(headlens_room room)
  cmake_parse_arguments(ARG "NO_PCH" "" "SOURCES;DEPS;PRIVATE_DEPS" ${ARGN})
  set(target headlens_${room})
  headlens_existing(ARG_SOURCES ${ARG_SOURCES})
  if(ARG_SOURCES)
    add_library(${target} STATIC ${ARG_SOURCES})
    set(scope PUBLIC)
    headlens_options(${target})
    target_link_libraries(${target} PRIVATE ${ARG_PRIVATE_DEPS})
    if(NOT ARG_NO_PCH)
      headlens_use_pch(${target})
    endif()
  else()
    add_library(${target} INTERFACE)
    set(scope INTERFACE)
  endif()
  add_library(headlens::${room} ALIAS ${target})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${room})
  target_compile_features(${target} ${scope} cxx_std_20)
  target_include_directories(${target} ${scope}
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  target_link_libraries(${target} ${scope} ${ARG_DEPS})
  set_property(GLOBAL APPEND PROPERTY HEADLENS_ROOMS ${target})
endfunction()

# headlens_executable(x SOURCES x.cpp [DEPS ...]): linked with the whole library unless DEPS says
# what to link.
function(headlens_executable target)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${target} ${ARG_SOURCES})
  headlens_options(${target})
  headlens_use_pch(${target})
  if(NOT ARG_DEPS)
    set(ARG_DEPS headlens::headlens)
  endif()
  target_link_libraries(${target} PRIVATE ${ARG_DEPS})
endfunction()

# headlens_room_tests(core SOURCES x_test.cpp [DEPS more] [GPU])
# makes headlens_core_tests, one ctest entry, linked with its room (and so with the rooms that one
# may include; name others in DEPS). GPU adds an entry labelled gpu that runs the tests
# with "Cuda" in their names, which the plain entry then leaves out.
function(headlens_room_tests room)
  cmake_parse_arguments(ARG "GPU" "" "SOURCES;DEPS" ${ARGN})
  set(target headlens_${room}_tests)
  headlens_existing(ARG_SOURCES ${ARG_SOURCES})
  if(NOT ARG_SOURCES)
    add_custom_target(${target} COMMENT "${room}: no tests listed")
    return()
  endif()
  headlens_executable(${target} SOURCES ${ARG_SOURCES}
    DEPS headlens_test_support headlens_${room} ${ARG_DEPS} GTest::gtest GTest::gtest_main)
  # INSTANTIATE_TEST_SUITE_P has a parameter called info, like every test's own naming lambda.
  target_compile_options(${target} PRIVATE -Wno-shadow)
  if(ARG_GPU)
    add_test(NAME ${room} COMMAND ${target} --gtest_filter=-*Cuda*)
    add_test(NAME ${room}_gpu COMMAND ${target} --gtest_filter=*Cuda*)
    set_tests_properties(${room}_gpu PROPERTIES LABELS gpu TIMEOUT 1200 RUN_SERIAL ON)
  else()
    add_test(NAME ${room} COMMAND ${target})
  endif()
  # Tiny models: threads within a test cost more than they bring, and the tests run side by side.
  set_tests_properties(${room} PROPERTIES LABELS unit TIMEOUT 1200
                                          ENVIRONMENT OMP_NUM_THREADS=1)
endfunction()
