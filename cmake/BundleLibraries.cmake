# headlens/cmake: run at install time: puts the shared libraries that the command needs into
# HEADLENS_PRIVATE_DIR, with their licences. HEADLENS_PART: torch, LibTorch's and what its wheel
# brings; system, all others but glibc's and the compiler's.
set(destination "$ENV{DESTDIR}${CMAKE_INSTALL_PREFIX}/${HEADLENS_PRIVATE_DIR}")
set(licenses "$ENV{DESTDIR}${CMAKE_INSTALL_PREFIX}/${HEADLENS_DOC_DIR}/licenses")
file(MAKE_DIRECTORY ${destination} ${licenses})

file(GET_RUNTIME_DEPENDENCIES EXECUTABLES ${HEADLENS_COMMAND}
     RESOLVED_DEPENDENCIES_VAR found UNRESOLVED_DEPENDENCIES_VAR lost
     POST_EXCLUDE_REGEXES "/ld-linux[^/]*$" "/lib(c|m|dl|rt|util|pthread|resolv|gcc_s|stdc\\+\\+)\\.so[^/]*$")
if(lost)
  message(FATAL_ERROR "[BundleLibraries] libraries of ${HEADLENS_COMMAND}, expected all to be found, "
                      "got none for ${lost}")
endif()

# A wheel's folder of packages holds torch/, nvidia/ and their licences.
get_filename_component(packages ${HEADLENS_TORCH_ROOT}/.. ABSOLUTE)
foreach(library IN LISTS found)
  get_filename_component(soname ${library} NAME)
  file(REAL_PATH ${library} file)
  string(FIND ${library} ${packages}/ at)
  if(at EQUAL 0)
    set(part torch)
  else()
    set(part system)
  endif()
  if(part STREQUAL HEADLENS_PART)
    message(STATUS "Bundling: ${library}")
    file(COPY_FILE ${file} ${destination}/${soname})
    if(part STREQUAL system)
      # By name alone: /lib and /usr/lib are one folder, and dpkg knows one of the two.
      get_filename_component(name ${file} NAME)
      execute_process(COMMAND dpkg-query -S */${name} OUTPUT_VARIABLE owner ERROR_QUIET)
      string(REGEX REPLACE ":.*" "" owner "${owner}")
      if(owner AND EXISTS /usr/share/doc/${owner}/copyright)
        file(COPY_FILE /usr/share/doc/${owner}/copyright ${licenses}/${owner})
      endif()
    endif()
  endif()
endforeach()
if(HEADLENS_PART STREQUAL torch)
  foreach(wheel torch nvidia_cuda_runtime nvidia_cuda_cupti)
    file(GLOB texts ${packages}/${wheel}-*.dist-info/licenses/*)
    foreach(text IN LISTS texts)
      get_filename_component(name ${text} NAME)
      file(COPY_FILE ${text} ${licenses}/${wheel}-${name})
    endforeach()
  endforeach()
endif()
