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
# Two files to compile in the place of dozens, each of which reads the same headers for a second: what runs every cycle, and
# what does not (constructors, resets, the layout of waves). The first is as quick with -O1 as with -O2, which compiles twice
# as long.
file(READ ${DIR}/${PREFIX}_classes.mk classes)
foreach(speed FAST SLOW)
  set(includes)
  foreach(kind CLASSES SUPPORT)
    string(REGEX MATCH "VM_${kind}_${speed} \\+=[^#]*" part "${classes}")
    string(REGEX MATCHALL "\t[A-Za-z0-9_]+" names "${part}")
    foreach(name IN LISTS names)
      string(STRIP "${name}" name)
      string(APPEND includes "#include \"${name}.cpp\"\n")
    endforeach()
  endforeach()
  if(NOT includes)
    message(FATAL_ERROR "${PREFIX}_classes.mk: got no ${speed} classes, expected some")
  endif()
  file(CONFIGURE OUTPUT ${DIR}/${PREFIX}__${speed}.cpp CONTENT "${includes}" @ONLY)
endforeach()
execute_process(
  COMMAND make -s -C ${DIR} -f ${PREFIX}.mk CXX=${CXX} OBJCACHE=${LAUNCHER} VM_FAST=${PREFIX}__FAST VM_SLOW=${PREFIX}__SLOW
          OPT_FAST=-O1 OPT_SLOW=-O0 OPT_GLOBAL=-O1 ${PREFIX}__ALL.a
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
