/*
 * Compares native/src/onnxruntime/api.h with the header of ONNX Runtime: the places of all functions that dynq calls or
 * gives, and the numbers of all types. .ci/engines.sh compiles it; nothing runs it.
 */
#include "../../native/src/onnxruntime/api.h"

#include <onnxruntime_c_api.h>
#include <stddef.h>

#define SAME(ours, name, theirs, field)                                                                                \
  _Static_assert(offsetof(ours, name) == offsetof(theirs, field), #name " is not at the place of " #field)
#define FUNCTION(name, field) SAME(ort_api, name, OrtApi, field)
#define OF_OP(name, field) SAME(ort_op, name, OrtCustomOp, field)
#define NUMBER(ours, theirs) _Static_assert((int)ours == (int)theirs, #ours " is not " #theirs)

_Static_assert(ORT_VERSION <= ORT_API_VERSION, "the header is older than the version that dynq asks for");

FUNCTION(create_status, CreateStatus);
FUNCTION(create_domain, CreateCustomOpDomain);
FUNCTION(add_op, CustomOpDomain_Add);
FUNCTION(add_domain, AddCustomOpDomain);
FUNCTION(get_data, GetTensorMutableData);
FUNCTION(get_type, GetTensorElementType);
FUNCTION(get_rank, GetDimensionsCount);
FUNCTION(get_dims, GetDimensions);
FUNCTION(get_element_count, GetTensorShapeElementCount);
FUNCTION(get_shape, GetTensorTypeAndShape);
FUNCTION(get_input, KernelContext_GetInput);
FUNCTION(get_output, KernelContext_GetOutput);
FUNCTION(release_status, ReleaseStatus);
FUNCTION(release_shape, ReleaseTensorTypeAndShapeInfo);
FUNCTION(get_input_count, KernelInfo_GetInputCount);
FUNCTION(get_output_count, KernelInfo_GetOutputCount);
FUNCTION(get_constant_input, KernelInfoGetConstantInput_tensor);
FUNCTION(parallel_for, KernelContext_ParallelFor);

SAME(ort_base, get_api, OrtApiBase, GetApi);

OF_OP(version, version);
OF_OP(create_kernel, CreateKernel);
OF_OP(get_name, GetName);
OF_OP(get_provider, GetExecutionProviderType);
OF_OP(get_input_type, GetInputType);
OF_OP(get_input_count, GetInputTypeCount);
OF_OP(get_output_type, GetOutputType);
OF_OP(get_output_count, GetOutputTypeCount);
OF_OP(compute, KernelCompute);
OF_OP(destroy_kernel, KernelDestroy);
OF_OP(get_input_kind, GetInputCharacteristic);
OF_OP(get_output_kind, GetOutputCharacteristic);
OF_OP(get_input_memory, GetInputMemoryType);
OF_OP(get_variadic_input_least, GetVariadicInputMinArity);
OF_OP(is_variadic_input_of_one_type, GetVariadicInputHomogeneity);
OF_OP(get_variadic_output_least, GetVariadicOutputMinArity);
OF_OP(is_variadic_output_of_one_type, GetVariadicOutputHomogeneity);
OF_OP(create_kernel_v2, CreateKernelV2);
OF_OP(compute_v2, KernelComputeV2);
OF_OP(infer_shapes, InferOutputShapeFn);
OF_OP(get_start_version, GetStartVersion);
OF_OP(get_end_version, GetEndVersion);

NUMBER(ORT_CODE_FAIL, ORT_FAIL);
NUMBER(ORT_CODE_NOT_IMPLEMENTED, ORT_NOT_IMPLEMENTED);
NUMBER(ORT_UNDEFINED, ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED);
NUMBER(ORT_FLOAT, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT);
NUMBER(ORT_UINT8, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8);
NUMBER(ORT_INT8, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8);
NUMBER(ORT_INT32, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32);
NUMBER(ORT_INT64, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64);
NUMBER(ORT_BOOL, ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL);
NUMBER(ORT_REQUIRED, INPUT_OUTPUT_REQUIRED);
NUMBER(ORT_VARIADIC, INPUT_OUTPUT_VARIADIC);
NUMBER(OrtMemTypeDefault, 0);
