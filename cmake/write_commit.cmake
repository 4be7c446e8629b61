# Writes OUT, a header with the commit that is being built; "+changes" when tracked files differ from it.
# Run at every build; the file changes only when its text does.
execute_process(COMMAND git rev-parse HEAD WORKING_DIRECTORY ${SOURCE}
  OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
if(failed)
  set(commit "unknown (not built from a git checkout)")
else()
  execute_process(COMMAND git status --porcelain --untracked-files=no -- base reference/numerics reference/cuda cli/gpu_record.cpp
    WORKING_DIRECTORY ${SOURCE} OUTPUT_VARIABLE changes)
  if(changes)
    string(APPEND commit "+changes")
  endif()
endif()
set(text "#pragma once\n#define MOESAIC_COMMIT \"${commit}\"\n")
if(EXISTS ${OUT})
  file(READ ${OUT} old)
endif()
if(NOT "${old}" STREQUAL "${text}")
  file(WRITE ${OUT} "${text}")
endif()
