# headlens/cmake: the software bill of materials, written whenever the command has been linked.
find_package(Python3 QUIET COMPONENTS Interpreter)
if(NOT Python3_Interpreter_FOUND)
  message(STATUS "no Python: no software bill of materials")
  return()
endif()

# Libraries of headers leave no name in the program: these are named here.
set(headers)
foreach(library "nlohmann_json nlohmann/json.hpp" "Eigen3 Eigen/Core" "CLI11 CLI/CLI.hpp")
  separate_arguments(library)
  list(GET library 0 package)
  list(GET library 1 header)
  set(target ${package}::${package})
  if(package STREQUAL Eigen3)
    set(target Eigen3::Eigen)
  endif()
  get_target_property(folders ${target} INTERFACE_INCLUDE_DIRECTORIES)
  string(REGEX REPLACE "\\$<BUILD_INTERFACE:([^>]*)>" "\\1" folders "${folders}")
  find_file(HEADLENS_${package}_HEADER ${header} HINTS ${folders})
  list(APPEND headers "${package}=${${package}_VERSION}=${HEADLENS_${package}_HEADER}")
endforeach()

set(HEADLENS_SBOM ${PROJECT_BINARY_DIR}/headlens.spdx.json)
set(HEADLENS_MAKE_SBOM ${Python3_EXECUTABLE} ${PROJECT_SOURCE_DIR}/tools/dev/make_sbom.py)
add_custom_command(TARGET headlens_command POST_BUILD
  COMMAND ${HEADLENS_MAKE_SBOM} --binary $<TARGET_FILE:headlens_command> --version ${PROJECT_VERSION}
          --out ${HEADLENS_SBOM} --headers ${headers}
  BYPRODUCTS ${HEADLENS_SBOM} VERBATIM COMMENT "Writing the software bill of materials")
if(HEADLENS_INSTALL)
  install(FILES ${HEADLENS_SBOM} DESTINATION ${CMAKE_INSTALL_DOCDIR})
endif()
if(HEADLENS_BUILD_TESTS)
  add_test(NAME sbom COMMAND ${HEADLENS_MAKE_SBOM} --binary $<TARGET_FILE:headlens_command>
                             --check ${HEADLENS_SBOM})
  set_tests_properties(sbom PROPERTIES LABELS house)
endif()
