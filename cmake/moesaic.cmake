# Helpers that every CMakeLists.txt of the project uses.
find_package(fmt REQUIRED)
find_package(Threads REQUIRED)

add_library(moesaic_options INTERFACE)
target_include_directories(moesaic_options INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_options(moesaic_options INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wshadow -Wconversion>
  $<$<AND:$<BOOL:${MOESAIC_WERROR}>,$<COMPILE_LANGUAGE:CXX>>:-Werror>)
if(MOESAIC_SANITIZE)
  add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${MOESAIC_SANITIZE}>
                      $<$<COMPILE_LANGUAGE:CXX>:-fno-omit-frame-pointer>
                      $<$<COMPILE_LANGUAGE:CXX>:-fno-sanitize-recover=all>)
  add_link_options(-fsanitize=${MOESAIC_SANITIZE})
endif()

# Catch2, which takes a second to read, is read once. Not with a compiler cache, which would know no test again in another folder.
set(MOESAIC_PRECOMPILE ON)
if(CMAKE_CXX_COMPILER_LAUNCHER)
  set(MOESAIC_PRECOMPILE OFF)
endif()

# moesaic_library(NAME SOURCES a.cpp ... LIBS lower ...): one library per second-level folder.
# Without SOURCES it is an interface library (headers only).
function(moesaic_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LIBS" ${ARGN})
  if(ARG_SOURCES)
    add_library(${name} STATIC ${ARG_SOURCES})
    target_link_libraries(${name} PUBLIC moesaic_options ${ARG_LIBS})
  else()
    add_library(${name} INTERFACE)
    target_link_libraries(${name} INTERFACE moesaic_options ${ARG_LIBS})
  endif()
endfunction()

# moesaic_test(NAME SOURCES a.cpp ... LIBS libs ... [LABELS l ...] [NO_MAIN]): one Catch2 program, one CTest entry.
# NO_MAIN: the sources bring their own entry point (SystemC programs need sc_main).
function(moesaic_test name)
  cmake_parse_arguments(ARG "NO_MAIN" "" "SOURCES;LIBS;LABELS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE moesaic_options ${ARG_LIBS})
  target_compile_options(${name} PRIVATE $<$<AND:$<NOT:$<CONFIG:Debug>>,$<COMPILE_LANGUAGE:CXX>>:-O1>)  # compiles sooner; the libraries do the work
  if(NOT ARG_NO_MAIN)
    target_link_libraries(${name} PRIVATE moesaic_test_main)
  endif()
  if(MOESAIC_PRECOMPILE)
    target_precompile_headers(${name} REUSE_FROM moesaic_test_headers)
  endif()
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  set_tests_properties(${name} PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT 1200)
endfunction()
