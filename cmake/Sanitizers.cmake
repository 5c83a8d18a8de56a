# headlens/cmake: HEADLENS_SANITIZE=address,undefined instruments our own code, not LibTorch.
function(headlens_sanitizers target)
  if(NOT HEADLENS_SANITIZE)
    return()
  endif()
  target_compile_options(${target} PRIVATE -fsanitize=${HEADLENS_SANITIZE} -fno-omit-frame-pointer
                                           -fno-sanitize-recover=undefined)
  # vptr wants the typeinfo of LibTorch's classes, which it hides.
  target_compile_options(${target} PRIVATE -fno-sanitize=vptr)
  target_link_options(${target} PUBLIC -fsanitize=${HEADLENS_SANITIZE})
endfunction()
