# headlens/cmake: installing. find_package(headlens [COMPONENTS core model ..]) then gives
# headlens::headlens and a target for each room; pkg-config knows the whole library.
include(CMakePackageConfigHelpers)

get_property(rooms GLOBAL PROPERTY HEADLENS_ROOMS)
list(REMOVE_ITEM rooms headlens_cli)
install(TARGETS headlens headlens_text ${rooms} EXPORT headlens-targets ARCHIVE COMPONENT dev)
if(TARGET headlens_command)
  install(TARGETS headlens_command RUNTIME COMPONENT command)
  set(completions ${PROJECT_BINARY_DIR}/completions)
  install(FILES ${completions}/headlens.bash RENAME headlens
          DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions COMPONENT command)
  install(FILES ${completions}/headlens.zsh RENAME _headlens
          DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions COMPONENT command)
  install(FILES ${completions}/headlens.fish
          DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d COMPONENT command)
endif()
install(DIRECTORY include/headlens DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT dev)
if(EXISTS ${PROJECT_SOURCE_DIR}/examples/zoo)
  install(DIRECTORY examples/zoo DESTINATION ${CMAKE_INSTALL_DATADIR}/headlens COMPONENT command)
endif()
install(FILES LICENSE README.md DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/headlens COMPONENT command)

# The rooms' names are the components.
string(REGEX REPLACE "headlens_([a-z]+)" "\\1" HEADLENS_COMPONENTS "${rooms}")
list(JOIN HEADLENS_COMPONENTS ", " HEADLENS_COMPONENTS)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/headlens)
install(EXPORT headlens-targets NAMESPACE headlens:: DESTINATION ${package_dir} COMPONENT dev)
configure_package_config_file(cmake/headlens-config.cmake.in headlens-config.cmake
                              INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(headlens-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/headlens-config.cmake
              ${PROJECT_BINARY_DIR}/headlens-config-version.cmake cmake/HeadlensTorch.cmake
        DESTINATION ${package_dir} COMPONENT dev)

# pkg-config: the archives (each room after those that use it), then what they need. LibTorch is
# named by path, as its wheel has no .pc file.
set(archives)
foreach(room IN LISTS rooms)
  list(PREPEND archives -l${room})
endforeach()
list(JOIN archives " " HEADLENS_PC_ARCHIVES)
set(needed ${HEADLENS_ZIP_LIBRARY} ${HEADLENS_ZLIB_LIBRARY} ${HEADLENS_PCRE2_LIBRARY}
           ${HEADLENS_UTF8PROC_LIBRARY} ${HEADLENS_SENTENCEPIECE_LIBRARY}
           ${HEADLENS_TORCH_LINK})
list(JOIN needed " " HEADLENS_PC_LIBRARIES)
string(REPLACE ${HEADLENS_TORCH_ROOT} "\${torch}" HEADLENS_PC_LIBRARIES "${HEADLENS_PC_LIBRARIES}")
configure_file(cmake/headlens.pc.in headlens.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/headlens.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig
        COMPONENT dev)

include(Package)
