/* Compiled against each version of NVIDIA's header: sizes of the opaque structs, and the numbers that the library
 * takes for granted. Nothing of it runs. */
#include <cublasLt.h>

/* What descriptor.rs and the files beside it call LEAST, and the largest. */
#define FITS(type, least) _Static_assert(sizeof(type) >= least && sizeof(type) <= 256, #type)
FITS(cublasLtMatmulDescOpaque_t, 88);
FITS(cublasLtMatrixLayoutOpaque_t, 64);
FITS(cublasLtMatmulPreferenceOpaque_t, 64);
FITS(cublasLtMatrixTransformDescOpaque_t, 64);
_Static_assert(sizeof(cublasLtMatmulAlgo_t) == 64, "algorithm");
_Static_assert(sizeof(cublasLtMatmulHeuristicResult_t) == 96, "result");
_Static_assert(__builtin_offsetof(cublasLtMatmulHeuristicResult_t, workspaceSize) == 64, "workspaceSize");
_Static_assert(__builtin_offsetof(cublasLtMatmulHeuristicResult_t, state) == 72, "state");
_Static_assert(__builtin_offsetof(cublasLtMatmulHeuristicResult_t, wavesCount) == 76, "wavesCount");

/* Sizes by version, as the tests take them for memory of their own. */
#if CUBLAS_VERSION >= 131000
#define SIZES(desc, layout, preference) (desc == 256 && layout == 112 && preference == 96)
#elif CUBLAS_VERSION >= 120200
#define SIZES(desc, layout, preference) (desc == 256 && layout == 64 && preference == 64)
#elif CUBLAS_VERSION >= 111100
#define SIZES(desc, layout, preference) (desc == 184 && layout == 64 && preference == 80)
#endif
_Static_assert(SIZES(sizeof(cublasLtMatmulDescOpaque_t), sizeof(cublasLtMatrixLayoutOpaque_t),
                     sizeof(cublasLtMatmulPreferenceOpaque_t)),
               "sizes of the opaque structs");

#define IS(name, number) _Static_assert(name == number, #name)
IS(CUBLASLT_MATMUL_DESC_COMPUTE_TYPE, 0);
IS(CUBLASLT_MATMUL_DESC_SCALE_TYPE, 1);
IS(CUBLASLT_MATMUL_DESC_POINTER_MODE, 2);
IS(CUBLASLT_MATMUL_DESC_TRANSA, 3);
IS(CUBLASLT_MATMUL_DESC_TRANSB, 4);
IS(CUBLASLT_MATMUL_DESC_TRANSC, 5);
IS(CUBLASLT_MATMUL_DESC_FILL_MODE, 6);
IS(CUBLASLT_MATMUL_DESC_EPILOGUE, 7);
IS(CUBLASLT_MATMUL_DESC_BIAS_POINTER, 8);
IS(CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE, 10);
IS(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, 11);
IS(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, 12);
IS(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE, 13);
IS(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, 17);
IS(CUBLASLT_MATMUL_DESC_AMAX_D_POINTER, 21);
IS(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE, 22);
IS(CUBLASLT_MATMUL_DESC_FAST_ACCUM, 25);
IS(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, 26);
IS(CUBLASLT_MATRIX_LAYOUT_TYPE, 0);
IS(CUBLASLT_MATRIX_LAYOUT_ORDER, 1);
IS(CUBLASLT_MATRIX_LAYOUT_ROWS, 2);
IS(CUBLASLT_MATRIX_LAYOUT_COLS, 3);
IS(CUBLASLT_MATRIX_LAYOUT_LD, 4);
IS(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, 5);
IS(CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, 6);
IS(CUBLASLT_MATRIX_LAYOUT_PLANE_OFFSET, 7);
IS(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, 1);
IS(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, 3);
IS(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, 5);
IS(CUBLASLT_MATMUL_PREF_MAX_WAVES_COUNT, 9);
IS(CUBLASLT_MATMUL_PREF_IMPL_MASK, 12);
IS(CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID, 8);
IS(CUBLASLT_ALGO_CAP_MIN_ALIGNMENT_D_BYTES, 19);
IS(CUBLASLT_MATRIX_TRANSFORM_DESC_SCALE_TYPE, 0);
IS(CUBLASLT_MATRIX_TRANSFORM_DESC_TRANSB, 3);
IS(CUBLASLT_ORDER_ROW, 1);
IS(CUBLASLT_REDUCTION_SCHEME_MASK, 7);
IS(CUBLASLT_POINTER_MODE_ALPHA_DEVICE_VECTOR_BETA_HOST, 4);
IS(CUBLASLT_EPILOGUE_DEFAULT, 1);
IS(CUBLASLT_EPILOGUE_RELU, 2);
IS(CUBLASLT_EPILOGUE_BIAS, 4);
IS(CUBLASLT_EPILOGUE_GELU, 32);
IS(CUBLASLT_EPILOGUE_RELU_AUX_BIAS, 134);
IS(CUBLASLT_EPILOGUE_GELU_AUX_BIAS, 164);
IS(CUBLASLT_EPILOGUE_DRELU, 136);
IS(CUBLASLT_EPILOGUE_DRELU_BGRAD, 152);
IS(CUBLASLT_EPILOGUE_DGELU, 192);
IS(CUBLASLT_EPILOGUE_DGELU_BGRAD, 208);
IS(CUBLASLT_EPILOGUE_BGRADA, 256);
IS(CUBLASLT_EPILOGUE_BGRADB, 512);
