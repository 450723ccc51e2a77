# Reads native/src/ops/ops.def and adds the files that it names, each once.

set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS native/src/ops/ops.def)
file(STRINGS native/src/ops/ops.def dynq_op_lines REGEX "^DYNQ_OP\\(")
set(dynq_op_files)
foreach(line IN LISTS dynq_op_lines)
  if(NOT line MATCHES "^DYNQ_OP\\([A-Za-z0-9_]+, \"[A-Za-z0-9_.]+\", ([a-z0-9_]+),")
    message(FATAL_ERROR "ops.def: cannot read '${line}'")
  endif()
  list(APPEND dynq_op_files native/src/ops/${CMAKE_MATCH_1}.c)
endforeach()
list(REMOVE_DUPLICATES dynq_op_files)
target_sources(dynq_objects PRIVATE ${dynq_op_files})
