# headlens/cmake: what each kind of package carries, read by cpack. A .deb names the system's
# libraries as dependencies; a .tar.gz has nobody to install them and brings them along.
if(CPACK_GENERATOR STREQUAL "DEB")
  set(CPACK_COMPONENTS_ALL command torch dev)
else()
  set(CPACK_COMPONENTS_ALL command torch system dev)
  set(CPACK_COMPONENT_INCLUDE_TOPLEVEL_DIRECTORY ON)
endif()
