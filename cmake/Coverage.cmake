# headlens/cmake: HEADLENS_COVERAGE=ON counts which lines of our own code the tests run.
function(headlens_coverage target)
  if(NOT HEADLENS_COVERAGE)
    return()
  endif()
  # Atomic counters: the forward runs in LibTorch's threads too.
  target_compile_options(${target} PRIVATE --coverage -fprofile-update=atomic)
  target_link_options(${target} PUBLIC --coverage)
endfunction()
