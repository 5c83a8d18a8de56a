# headlens/cmake: ccache where it is installed, set up to work together with a precompiled header.
find_program(HEADLENS_CCACHE ccache)
if(HEADLENS_CCACHE AND PROJECT_IS_TOP_LEVEL AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # The precompiled header is named by its macros and times; without these two words ccache
  # would never hit. NOHASHDIR and BASEDIR let a second clone use the first one's results.
  set(CMAKE_CXX_COMPILER_LAUNCHER
      ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
      CCACHE_NOHASHDIR=1 CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} ${HEADLENS_CCACHE})
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CMAKE_CXX_COMPILER_LAUNCHER})
endif()
