//! Names and texts of results, of cublasLt's library, too.

use vgpu_protocol::blas::BlasStatus;

macro_rules! texts {
    ($($status:ident: $name:literal, $text:literal;)*) => {
        /// Name of a result.
        pub fn name_of(status: u32) -> &'static std::ffi::CStr {
            match BlasStatus(status) {
                $(BlasStatus::$status => $name,)*
                _ => c"<unknown>",
            }
        }
        /// Text of a result.
        pub fn text_of(status: u32) -> &'static std::ffi::CStr {
            match BlasStatus(status) {
                $(BlasStatus::$status => $text,)*
                _ => c"unknown cuBLAS status",
            }
        }
    };
}
texts! {
    SUCCESS: c"CUBLAS_STATUS_SUCCESS", c"the operation completed successfully";
    NOT_INITIALIZED: c"CUBLAS_STATUS_NOT_INITIALIZED", c"the library was not initialized";
    ALLOC_FAILED: c"CUBLAS_STATUS_ALLOC_FAILED", c"the resource allocation failed";
    INVALID_VALUE: c"CUBLAS_STATUS_INVALID_VALUE", c"an unsupported value or parameter was passed to the function";
    ARCH_MISMATCH: c"CUBLAS_STATUS_ARCH_MISMATCH", c"the function requires a feature absent from the device architecture";
    MAPPING_ERROR: c"CUBLAS_STATUS_MAPPING_ERROR", c"an access to GPU memory space failed";
    EXECUTION_FAILED: c"CUBLAS_STATUS_EXECUTION_FAILED", c"the GPU program failed to execute";
    INTERNAL_ERROR: c"CUBLAS_STATUS_INTERNAL_ERROR", c"an internal operation failed";
    NOT_SUPPORTED: c"CUBLAS_STATUS_NOT_SUPPORTED", c"the functionality requested is not supported";
    LICENSE_ERROR: c"CUBLAS_STATUS_LICENSE_ERROR", c"the functionality requested requires some license";
}
