# headlens/cmake: installing; find_package(headlens) then gives headlens::headlens.
include(CMakePackageConfigHelpers)

get_property(rooms GLOBAL PROPERTY HEADLENS_ROOMS)
list(REMOVE_ITEM rooms headlens_cli)
install(TARGETS headlens headlens_text ${rooms} EXPORT headlens-targets)
if(TARGET headlens_command)
  install(TARGETS headlens_command)
  set(completions ${PROJECT_BINARY_DIR}/completions)
  install(FILES ${completions}/headlens.bash RENAME headlens
          DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
  install(FILES ${completions}/headlens.zsh RENAME _headlens
          DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
  install(FILES ${completions}/headlens.fish
          DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
endif()
install(DIRECTORY include/headlens DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
if(EXISTS ${PROJECT_SOURCE_DIR}/examples/zoo)
  install(DIRECTORY examples/zoo DESTINATION ${CMAKE_INSTALL_DATADIR}/headlens)
endif()

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/headlens)
install(EXPORT headlens-targets NAMESPACE headlens:: DESTINATION ${package_dir})
configure_package_config_file(cmake/headlens-config.cmake.in headlens-config.cmake
                              INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(headlens-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/headlens-config.cmake
              ${PROJECT_BINARY_DIR}/headlens-config-version.cmake cmake/HeadlensTorch.cmake
        DESTINATION ${package_dir})
