# moesaic_verilate(<target> TOP <module> [PARAMS Rows=4 ...] [WAVES])
#
# Verilates one RTL module with one set of parameters and makes <target>, a library to link: class V<target> in "V<target>.h".
# Rerun when a SystemVerilog file that the model reads changes (a dependency file, not a glob). Every warning is an error.
#   TOP     module, found by name in rtl/{common,array,dequant,memory,queue,core}
#   PARAMS  values of the module's parameters, Name=value
#   CONFIG  further configuration files (.vlt)
#   WAVES   also able to write FST waves (larger and slower: for block tests, and for builds that a user wants to look into)
find_program(VERILATOR verilator REQUIRED)
find_package(ZLIB REQUIRED)

execute_process(COMMAND ${VERILATOR} --getenv VERILATOR_ROOT
                OUTPUT_VARIABLE MOESAIC_VERILATOR_ROOT OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)

if(NOT TARGET moesaic_verilated)
  # Verilator's run-time library, compiled once, without our warnings.
  add_library(moesaic_verilated STATIC
    ${MOESAIC_VERILATOR_ROOT}/include/verilated.cpp
    ${MOESAIC_VERILATOR_ROOT}/include/verilated_threads.cpp
    ${MOESAIC_VERILATOR_ROOT}/include/verilated_fst_c.cpp)
  target_include_directories(moesaic_verilated SYSTEM PUBLIC
    ${MOESAIC_VERILATOR_ROOT}/include ${MOESAIC_VERILATOR_ROOT}/include/vltstd)
  target_compile_definitions(moesaic_verilated PUBLIC VM_COVERAGE=0 VM_SC=0 VM_TRACE=1 VM_TRACE_FST=1 VM_TRACE_VCD=0 VL_TIME_CONTEXT)
  # Verilator's runtime is the package's code: its FST writer stores to unaligned addresses, which UBSan stops at.
  target_compile_options(moesaic_verilated PRIVATE -w -fno-sanitize=all)
  target_link_libraries(moesaic_verilated PUBLIC ZLIB::ZLIB Threads::Threads)
endif()

set(MOESAIC_RTL_DIR ${CMAKE_CURRENT_LIST_DIR} CACHE INTERNAL "")
set(MOESAIC_RTL_FLAGS --x-assign 0 --x-initial 0 -Wall --assert ${MOESAIC_RTL_DIR}/lint.vlt
    -y ${MOESAIC_RTL_DIR}/common -y ${MOESAIC_RTL_DIR}/array -y ${MOESAIC_RTL_DIR}/dequant
    -y ${MOESAIC_RTL_DIR}/memory -y ${MOESAIC_RTL_DIR}/queue -y ${MOESAIC_RTL_DIR}/core CACHE INTERNAL "")
set(MOESAIC_RTL_PACKAGES moe_pkg.sv moe_commands_pkg.sv CACHE INTERNAL "")  # in the order of use

function(moesaic_verilate target)
  cmake_parse_arguments(ARG "WAVES" "TOP" "PARAMS;CONFIG" ${ARGN})
  set(dir ${CMAKE_BINARY_DIR}/verilated/${target})
  # Verilator 5.006's reloop optimisation declares its loop variable in one function and uses it in another when it splits a
  # large eval(); the models do not need it.
  set(flags ${MOESAIC_RTL_FLAGS} -O3 -fno-reloop ${ARG_CONFIG})
  foreach(param IN LISTS ARG_PARAMS)
    list(APPEND flags -G${param})
  endforeach()
  if(ARG_WAVES)
    list(APPEND flags --trace-fst)
  endif()
  set(packages)
  foreach(package IN LISTS MOESAIC_RTL_PACKAGES)
    if(EXISTS ${MOESAIC_RTL_DIR}/pkg/${package})
      list(APPEND packages ${MOESAIC_RTL_DIR}/pkg/${package})
    endif()
  endforeach()
  set(archive ${dir}/V${target}__ALL.a)
  add_custom_command(
    OUTPUT ${archive}
    BYPRODUCTS ${dir}/V${target}.h
    COMMAND ${CMAKE_COMMAND} -DVERILATOR=${VERILATOR} -DDIR=${dir} -DPREFIX=V${target} -DTOP=${ARG_TOP}
            "-DFLAGS=${flags}" "-DSOURCES=${packages}" -DLAUNCHER=${CMAKE_CXX_COMPILER_LAUNCHER} -DCXX=${CMAKE_CXX_COMPILER}
            -P ${MOESAIC_RTL_DIR}/run_verilator.cmake
    DEPENDS ${MOESAIC_RTL_DIR}/run_verilator.cmake ${MOESAIC_RTL_DIR}/lint.vlt ${ARG_CONFIG}
    DEPFILE ${archive}.d
    COMMENT "Verilating ${ARG_TOP} as V${target}"
    VERBATIM)
  add_custom_target(${target}_archive DEPENDS ${archive})
  add_library(${target} INTERFACE)
  add_dependencies(${target} ${target}_archive)
  target_include_directories(${target} SYSTEM INTERFACE ${dir})
  target_link_libraries(${target} INTERFACE ${archive} moesaic_verilated)
endfunction()
