# headlens/cmake: warnings for our own code. Third-party headers come as SYSTEM and stay quiet.
function(headlens_warnings target)
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wpedantic -Wshadow)
  # Instrumented code makes g++ warn of what is not there; its manual advises against -Werror then.
  set(misled OFF)
  if(HEADLENS_SANITIZE AND CMAKE_CXX_COMPILER_ID STREQUAL GNU)
    set(misled ON)
  endif()
  if(HEADLENS_WARNINGS_AS_ERRORS AND NOT misled)
    target_compile_options(${target} PRIVATE -Werror)
  endif()
endfunction()
