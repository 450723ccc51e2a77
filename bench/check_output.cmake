# Runs a subcommand of dynq-bench, short, and reads what it prints: every line is JSON and holds figures, the text has as
# many lines of them, and what is wrong is refused. Speeds are not looked at.
#   cmake -DPROGRAM=path/to/dynq-bench -DCOMMAND=isa|linear -P check_output.cmake

set(options_isa --caches 32K,256K --level L1 --level L2)
set(options_linear --shape 4x64x64 --shape 1x100x36 --threads 1 --threads 2)
set(number_isa per_cycle)
set(number_linear us)

execute_process(COMMAND ${PROGRAM} ${COMMAND} --quick --json ${options_${COMMAND}}
  OUTPUT_VARIABLE json RESULT_VARIABLE status)
if(NOT status STREQUAL 0)
  message(FATAL_ERROR "${COMMAND} --json ended with ${status}")
endif()
string(REGEX REPLACE "\n$" "" json "${json}")
string(REPLACE "\n" ";" lines "${json}")
set(results 0)
foreach(line IN LISTS lines)
  string(JSON record GET "${line}" record) # an error where the line is no JSON
  if(record STREQUAL COMMAND)
    string(JSON number GET "${line}" ${number_${COMMAND}})
    if(NOT number MATCHES "^[0-9.e+-]+$" OR NOT number GREATER 0)
      message(FATAL_ERROR "${number_${COMMAND}} is ${number} in ${line}")
    endif()
    math(EXPR results "${results} + 1")
  elseif(record STREQUAL "machine")
    string(JSON expected GET "${line}" lines)
  elseif(NOT record STREQUAL "progress")
    message(FATAL_ERROR "not a record of ${COMMAND}: ${line}")
  endif()
endforeach()
if(results EQUAL 0 OR NOT results EQUAL expected)
  message(FATAL_ERROR "${COMMAND} --json printed ${results} results and had announced ${expected}")
endif()

execute_process(COMMAND ${PROGRAM} ${COMMAND} --quick ${options_${COMMAND}} OUTPUT_VARIABLE text RESULT_VARIABLE status)
string(REGEX MATCHALL "\n(L[12] |[ 0-9]+x[ 0-9]+x)" rows "\n${text}")
list(LENGTH rows count)
if(NOT status STREQUAL 0 OR NOT count EQUAL results)
  message(FATAL_ERROR "${COMMAND} ended with ${status} and printed ${count} rows; expected ${results}:\n${text}")
endif()

foreach(wrong IN ITEMS "--isa;mmx" "--rounds;0" "--rounds;many" "--nothing" "--isa")
  execute_process(COMMAND ${PROGRAM} ${COMMAND} ${wrong} OUTPUT_QUIET ERROR_VARIABLE error RESULT_VARIABLE status)
  if(NOT status STREQUAL 2 OR NOT error MATCHES "^dynq-bench: [^\n]+\n$")
    message(FATAL_ERROR "${COMMAND} ${wrong} ended with ${status} and said: ${error}")
  endif()
endforeach()
message(STATUS "${COMMAND}: ${results} results")
