# Runs PROGRAM with the argument MODEL and compares what it prints with the file EXPECTED, to the letter.
execute_process(COMMAND ${PROGRAM} ${MODEL} OUTPUT_VARIABLE printed RESULT_VARIABLE status)
file(READ ${EXPECTED} expected)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "${PROGRAM}: status ${status}, expected 0")
endif()
if(NOT printed STREQUAL expected)
  message(FATAL_ERROR "${PROGRAM} printed\n${printed}expected (${EXPECTED})\n${expected}")
endif()
