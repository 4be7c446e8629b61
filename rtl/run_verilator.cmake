# One run of Verilator and of the makefile that it writes: DIR/PREFIX__ALL.a, and beside it a dependency file.
# It runs in the repository's root on relative paths: names of source files are part of the model (assertions print them), and so
# a model is the same wherever the repository lies, and a compiler cache knows it again.
get_filename_component(root ${CMAKE_CURRENT_LIST_DIR} DIRECTORY)
string(REPLACE "${root}/" "" FLAGS "${FLAGS}")
string(REPLACE "${root}/" "" SOURCES "${SOURCES}")
file(MAKE_DIRECTORY ${DIR})
execute_process(
  COMMAND ${VERILATOR} --cc ${FLAGS} --Mdir ${DIR} --prefix ${PREFIX} --top-module ${TOP} --MMD ${SOURCES} ${TOP}.sv
  WORKING_DIRECTORY ${root}
  RESULT_VARIABLE failed)
if(failed)
  message(FATAL_ERROR "verilator refused ${TOP} (exit status ${failed})")
endif()
execute_process(
  COMMAND make -s -C ${DIR} -f ${PREFIX}.mk CXX=${CXX} OBJCACHE=${LAUNCHER} OPT_FAST=-O2 OPT_SLOW=-O0 OPT_GLOBAL=-O2 ${PREFIX}__ALL.a
  RESULT_VARIABLE failed OUTPUT_QUIET)
if(failed)
  message(FATAL_ERROR "make refused ${PREFIX}.mk (exit status ${failed})")
endif()
file(READ ${DIR}/${PREFIX}__ver.d rule)
string(REGEX REPLACE "^.*[ \t]:[ \t]" "" inputs "${rule}")
string(REGEX MATCHALL "[^ \t\n\\\\]+" inputs "${inputs}")
list(TRANSFORM inputs PREPEND ${root}/ REGEX "^[^/]")
list(JOIN inputs " " inputs)
file(WRITE ${DIR}/${PREFIX}__ALL.a.d "${DIR}/${PREFIX}__ALL.a: ${inputs}\n")
