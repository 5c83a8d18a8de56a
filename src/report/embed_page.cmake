# headlens/report: writes the C++ file OUTPUT from TEMPLATE with the text of PAGE in it, called NAME.
file(READ ${PAGE} HEADLENS_REPORT_PAGE)
string(FIND "${HEADLENS_REPORT_PAGE}" ")headlens-page\"" end)
if(NOT end EQUAL -1)
  message(FATAL_ERROR "[embed_page] ${PAGE}, expected no ')headlens-page\"', got one at byte ${end}")
endif()
configure_file(${TEMPLATE} ${OUTPUT} @ONLY)
