# Writes OUT, a header with the SHA-256 of FILES, a list separated by |, contents only: what cached cycles were made by.
string(REPLACE "|" ";" files "${FILES}")
set(hashes "")
foreach(path IN LISTS files)
  file(SHA256 ${path} hash)
  string(APPEND hashes "${hash}\n")
endforeach()
string(SHA256 all "${hashes}")
file(WRITE ${OUT} "#pragma once\n#define MOESAIC_ENGINE_HASH \"${all}\"\n")
