# headlens/cmake: target docs: reference pages of every public name, in docs/html of the build folder.
find_program(HEADLENS_DOXYGEN doxygen)
if(HEADLENS_DOXYGEN AND PROJECT_IS_TOP_LEVEL)
  set(HEADLENS_DOCS_DIR ${PROJECT_BINARY_DIR}/docs)
  set(HEADLENS_DOCS_HTML YES)
  set(HEADLENS_DOCS_XML NO)
  file(MAKE_DIRECTORY ${HEADLENS_DOCS_DIR})
  configure_file(docs/Doxyfile.in ${HEADLENS_DOCS_DIR}/Doxyfile @ONLY)
  add_custom_target(docs COMMAND ${HEADLENS_DOXYGEN} ${HEADLENS_DOCS_DIR}/Doxyfile
                    COMMENT "Reference pages: ${HEADLENS_DOCS_DIR}/html/index.html")
endif()
