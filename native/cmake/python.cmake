# The Python extension module dynq._native: cffi writes its C source from dynq.h; the library is linked in.

if(CMAKE_VERSION VERSION_LESS 3.26)
  message(FATAL_ERROR "DYNQ_BUILD_PYTHON needs CMake 3.26 (pip install cmake)")
endif()
find_package(Python 3.10 REQUIRED COMPONENTS Interpreter Development.Module Development.SABIModule)

set(source ${PROJECT_BINARY_DIR}/_native.c)
set(script ${PROJECT_SOURCE_DIR}/native/cmake/write_cffi_source.py)
set(header ${PROJECT_SOURCE_DIR}/native/include/dynq/dynq.h)
add_custom_command(OUTPUT ${source}
  COMMAND ${Python_EXECUTABLE} ${script} ${header} ${source}
  DEPENDS ${script} ${header} VERBATIM)

# With the custom ops of ONNX Runtime: dynq.ort_library() is this file.
python_add_library(_native MODULE USE_SABI 3.10 WITH_SOABI ${source}
  ${PROJECT_SOURCE_DIR}/native/src/onnxruntime/custom_ops.c)
target_link_libraries(_native PRIVATE dynq_static)
target_include_directories(_native PRIVATE ${PROJECT_SOURCE_DIR}/native/src) # base/interrupt.h
# A binding that differs from the header must not compile.
target_compile_options(_native PRIVATE -Werror=int-conversion -Werror=incompatible-pointer-types)
install(TARGETS _native DESTINATION dynq COMPONENT python)
# dynq.jax builds with it.
install(FILES ${PROJECT_SOURCE_DIR}/native/include/dynq/dynq.h DESTINATION dynq/include/dynq COMPONENT python)
# The conformance set, for `dynq selftest`.
install(FILES ${PROJECT_SOURCE_DIR}/tests/vectors/cases.txt ${PROJECT_SOURCE_DIR}/tests/vectors/data.bin
  DESTINATION dynq/vectors COMPONENT python)
