# Runs check_kernels --bench, short, and reads whether it tells a time of every kernel of scalar. Speeds are not looked at.
#   cmake -DPROGRAM=path/to/check_kernels -DLIST=path/to/kernel_calls.c -P check_bench.cmake

execute_process(COMMAND ${PROGRAM} --bench --quick --isa scalar OUTPUT_VARIABLE text RESULT_VARIABLE status)
if(NOT status STREQUAL 0)
  message(FATAL_ERROR "--bench ended with ${status}:\n${text}")
endif()
file(STRINGS ${LIST} kernels REGEX "{\\.name = \"")
list(TRANSFORM kernels REPLACE ".*{\\.name = \"([a-z0-9_]+)\".*" "\\1")
list(LENGTH kernels count)
if(count LESS 30)
  message(FATAL_ERROR "read ${count} kernels from ${LIST}")
endif()
list(REMOVE_ITEM kernels gemm_add) # scalar multiplies the whole K at once
foreach(kernel IN LISTS kernels)
  if(NOT text MATCHES "\nscalar +${kernel} +[0-9.]+ ns +[0-9.]+ (bytes|products)/ns +[0-9.]+ x scalar\n")
    message(FATAL_ERROR "no time of ${kernel}:\n${text}")
  endif()
endforeach()
message(STATUS "${count} kernels")
