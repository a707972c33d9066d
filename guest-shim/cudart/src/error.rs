//! Names and texts of errors, and the errors of each thread.

use std::ffi::{CStr, c_char};

use vgpu_abi::results::RESULTS;
use vgpu_protocol::Status;

use crate::abi::{c_text, exports, last_error, take_last_error};

macro_rules! errors {
    ($($code:literal $name:ident $($text:literal)?;)*) => {
        /// Every documented `cudaError`: number, name, and its text where the driver's result of
        /// this number has none.
        const ERRORS: &[(u32, &CStr, Option<&CStr>)] = &[$((
            $code,
            c_str(concat!(stringify!($name), "\0")),
            errors!(@text $($text)?),
        ),)*];
    };
    (@text) => { None };
    (@text $text:literal) => { Some(c_str(concat!($text, "\0"))) };
}

const fn c_str(text: &'static str) -> &'static CStr {
    match CStr::from_bytes_with_nul(text.as_bytes()) {
        Ok(text) => text,
        Err(_) => panic!("a NUL inside"),
    }
}

errors! {
    0 cudaSuccess;
    1 cudaErrorInvalidValue;
    2 cudaErrorMemoryAllocation;
    3 cudaErrorInitializationError;
    4 cudaErrorCudartUnloading;
    5 cudaErrorProfilerDisabled;
    6 cudaErrorProfilerNotInitialized;
    7 cudaErrorProfilerAlreadyStarted;
    8 cudaErrorProfilerAlreadyStopped;
    9 cudaErrorInvalidConfiguration "invalid configuration argument";
    10 cudaErrorVersionTranslation "API call is of another version than the types";
    12 cudaErrorInvalidPitchValue "invalid pitch argument";
    13 cudaErrorInvalidSymbol "invalid device symbol";
    16 cudaErrorInvalidHostPointer "invalid host pointer";
    17 cudaErrorInvalidDevicePointer "invalid device pointer";
    18 cudaErrorInvalidTexture "invalid texture reference";
    19 cudaErrorInvalidTextureBinding "invalid texture binding";
    20 cudaErrorInvalidChannelDescriptor "invalid channel descriptor";
    21 cudaErrorInvalidMemcpyDirection "invalid copy direction for memcpy";
    22 cudaErrorAddressOfConstant "invalid address of constant";
    23 cudaErrorTextureFetchFailed "fetch from texture failed";
    24 cudaErrorTextureNotBound "cannot fetch from a texture that is not bound";
    25 cudaErrorSynchronizationError "incorrect use of __syncthreads()";
    26 cudaErrorInvalidFilterSetting "linear filtering not supported for non-float type";
    27 cudaErrorInvalidNormSetting "read as normalized float not supported for 32-bit non float type";
    28 cudaErrorMixedDeviceExecution "device emulation mode and device execution mode cannot be mixed";
    31 cudaErrorNotYetImplemented "feature not yet implemented";
    32 cudaErrorMemoryValueTooLarge "memory size or pointer value too large to fit in 32 bit";
    34 cudaErrorStubLibrary;
    35 cudaErrorInsufficientDriver "CUDA driver version is insufficient for CUDA runtime version";
    36 cudaErrorCallRequiresNewerDriver;
    37 cudaErrorInvalidSurface "invalid surface reference";
    43 cudaErrorDuplicateVariableName "duplicate global variable looked up by string name";
    44 cudaErrorDuplicateTextureName "duplicate texture looked up by string name";
    45 cudaErrorDuplicateSurfaceName "duplicate surface looked up by string name";
    46 cudaErrorDevicesUnavailable;
    49 cudaErrorIncompatibleDriverContext "incompatible driver context";
    52 cudaErrorMissingConfiguration "__global__ function call is not configured";
    53 cudaErrorPriorLaunchFailure "unspecified launch failure in prior launch";
    65 cudaErrorLaunchMaxDepthExceeded "launch would exceed maximum depth of nested launches";
    66 cudaErrorLaunchFileScopedTex "launch failed because kernel uses unsupported, file-scoped textures (texture objects are supported)";
    67 cudaErrorLaunchFileScopedSurf "launch failed because kernel uses unsupported, file-scoped surfaces (surface objects are supported)";
    68 cudaErrorSyncDepthExceeded "cudaDeviceSynchronize failed because caller's grid depth exceeds cudaLimitDevRuntimeSyncDepth";
    69 cudaErrorLaunchPendingCountExceeded "launch failed because launch would exceed cudaLimitDevRuntimePendingLaunchCount";
    98 cudaErrorInvalidDeviceFunction "invalid device function";
    100 cudaErrorNoDevice;
    101 cudaErrorInvalidDevice;
    102 cudaErrorDeviceNotLicensed;
    103 cudaErrorSoftwareValidityNotEstablished "integrity checks failed";
    127 cudaErrorStartupFailure "startup failure in cuda runtime";
    200 cudaErrorInvalidKernelImage;
    201 cudaErrorDeviceUninitialized;
    205 cudaErrorMapBufferObjectFailed;
    206 cudaErrorUnmapBufferObjectFailed;
    207 cudaErrorArrayIsMapped;
    208 cudaErrorAlreadyMapped;
    209 cudaErrorNoKernelImageForDevice;
    210 cudaErrorAlreadyAcquired;
    211 cudaErrorNotMapped;
    212 cudaErrorNotMappedAsArray;
    213 cudaErrorNotMappedAsPointer;
    214 cudaErrorECCUncorrectable;
    215 cudaErrorUnsupportedLimit;
    216 cudaErrorDeviceAlreadyInUse;
    217 cudaErrorPeerAccessUnsupported;
    218 cudaErrorInvalidPtx;
    219 cudaErrorInvalidGraphicsContext;
    220 cudaErrorNvlinkUncorrectable;
    221 cudaErrorJitCompilerNotFound;
    222 cudaErrorUnsupportedPtxVersion;
    223 cudaErrorJitCompilationDisabled;
    224 cudaErrorUnsupportedExecAffinity;
    225 cudaErrorUnsupportedDevSideSync;
    226 cudaErrorContained;
    227 cudaErrorInsufficientLoaderVersion;
    300 cudaErrorInvalidSource;
    301 cudaErrorFileNotFound;
    302 cudaErrorSharedObjectSymbolNotFound;
    303 cudaErrorSharedObjectInitFailed;
    304 cudaErrorOperatingSystem;
    400 cudaErrorInvalidResourceHandle;
    401 cudaErrorIllegalState;
    402 cudaErrorLossyQuery;
    500 cudaErrorSymbolNotFound;
    600 cudaErrorNotReady;
    700 cudaErrorIllegalAddress;
    701 cudaErrorLaunchOutOfResources;
    702 cudaErrorLaunchTimeout;
    703 cudaErrorLaunchIncompatibleTexturing;
    704 cudaErrorPeerAccessAlreadyEnabled;
    705 cudaErrorPeerAccessNotEnabled;
    708 cudaErrorSetOnActiveProcess;
    709 cudaErrorContextIsDestroyed;
    710 cudaErrorAssert;
    711 cudaErrorTooManyPeers;
    712 cudaErrorHostMemoryAlreadyRegistered;
    713 cudaErrorHostMemoryNotRegistered;
    714 cudaErrorHardwareStackError;
    715 cudaErrorIllegalInstruction;
    716 cudaErrorMisalignedAddress;
    717 cudaErrorInvalidAddressSpace;
    718 cudaErrorInvalidPc;
    719 cudaErrorLaunchFailure;
    720 cudaErrorCooperativeLaunchTooLarge;
    721 cudaErrorTensorMemoryLeak;
    800 cudaErrorNotPermitted;
    801 cudaErrorNotSupported;
    802 cudaErrorSystemNotReady;
    803 cudaErrorSystemDriverMismatch;
    804 cudaErrorCompatNotSupportedOnDevice;
    805 cudaErrorMpsConnectionFailed;
    806 cudaErrorMpsRpcFailure;
    807 cudaErrorMpsServerNotReady;
    808 cudaErrorMpsMaxClientsReached;
    809 cudaErrorMpsMaxConnectionsReached;
    810 cudaErrorMpsClientTerminated;
    811 cudaErrorCdpNotSupported;
    812 cudaErrorCdpVersionMismatch;
    900 cudaErrorStreamCaptureUnsupported;
    901 cudaErrorStreamCaptureInvalidated;
    902 cudaErrorStreamCaptureMerge;
    903 cudaErrorStreamCaptureUnmatched;
    904 cudaErrorStreamCaptureUnjoined;
    905 cudaErrorStreamCaptureIsolation;
    906 cudaErrorStreamCaptureImplicit;
    907 cudaErrorCapturedEvent;
    908 cudaErrorStreamCaptureWrongThread;
    909 cudaErrorTimeout;
    910 cudaErrorGraphExecUpdateFailure;
    911 cudaErrorExternalDevice;
    912 cudaErrorInvalidClusterSize;
    913 cudaErrorFunctionNotLoaded;
    914 cudaErrorInvalidResourceType;
    915 cudaErrorInvalidResourceConfiguration;
    917 cudaErrorStreamDetached;
    918 cudaErrorGraphRecaptureFailure;
    919 cudaErrorFabricNotReady;
    999 cudaErrorUnknown;
    10000 cudaErrorApiFailureBase "api failure base";
}

/// What the runtime's documentation promises for a number that it does not know.
const UNRECOGNIZED: &CStr = c"unrecognized error code";

fn find(error: u32) -> Option<&'static (u32, &'static CStr, Option<&'static CStr>)> {
    ERRORS.iter().find(|row| row.0 == error)
}

/// The runtime's error for a result of the driver. They share their numbers; results that the
/// runtime has no error for are cudaErrorUnknown.
pub fn of_driver(status: Status) -> u32 {
    match status.0 {
        0 => 0,
        code if find(code).is_some() => code,
        _ => Status::ERROR_UNKNOWN.0,
    }
}

fn text(error: u32) -> &'static CStr {
    match find(error) {
        Some((_, _, Some(text))) => text,
        Some(_) => RESULTS
            .iter()
            .find(|row| row.0 == error)
            .map_or(UNRECOGNIZED, |row| row.2),
        None => UNRECOGNIZED,
    }
}

exports! {
    /// The last error of this thread, which is then forgotten.
    fn cudaGetLastError() -> u32 = Status::ERROR_UNKNOWN.0, {
        take_last_error()
    }

    /// The last error of this thread.
    fn cudaPeekAtLastError() -> u32 = Status::ERROR_UNKNOWN.0, {
        last_error()
    }

    /// The name of an error.
    fn cudaGetErrorName(error: u32) -> *const c_char = c_text(UNRECOGNIZED), {
        c_text(find(error).map_or(UNRECOGNIZED, |row| row.1))
    }

    /// The text of an error.
    fn cudaGetErrorString(error: u32) -> *const c_char = c_text(UNRECOGNIZED), {
        c_text(text(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_a_text() {
        for (code, name, _) in ERRORS {
            assert_ne!(text(*code), UNRECOGNIZED, "{code} {name:?}");
        }
        assert_eq!(text(12345), UNRECOGNIZED);
    }

    #[test]
    fn results_without_an_error_of_their_own_are_unknown() {
        // CUDA_ERROR_CONTEXT_ALREADY_CURRENT.
        assert_eq!(of_driver(Status(202)), 999);
        assert_eq!(of_driver(Status(700)), 700);
        assert_eq!(of_driver(Status(0)), 0);
    }
}
