//! macOS: Seatbelt with a deny-default profile, no debugger, no core dumps.
//!
//! Type-checked, not yet run on a Mac. `sandbox_init_with_parameters` is the call that Chromium and Firefox confine
//! their helper processes with; it is exported by libSystem and in no public header.

use super::{
    Layer, LayerState, SandboxError,
    descriptors::{self, check, limit},
    step,
};
use protocol::ipc::{MODEL_FD, SOCKET_FD};
use std::{
    ffi::{CStr, CString, c_char, c_int},
    io, ptr,
};

/// Opening a descriptor's entry duplicates the descriptor.
pub(super) const MODEL_PATH: &str = "/dev/fd/3";
const _: () = assert!(MODEL_FD == 3);

const DESCRIPTORS_MAX: libc::rlim_t = 64;

/// Everything is denied but: reading the model; what the C library asks of the kernel; and what Metal needs to compile
/// and run its shaders. No network, no other file, no new process, no signal to others.
const PROFILE: &CStr = cr#"(version 1)
(deny default)
(allow file-read* (literal (param "MODEL")) (literal "/dev/fd/3") (literal "/dev/null"))
(allow file-read-metadata (literal "/dev") (literal "/dev/fd"))
(allow file-write-data (literal "/dev/null"))
(allow file-read* file-map-executable
    (subpath "/System/Library") (subpath "/usr/lib") (subpath "/Library/GPUBundles"))
(allow sysctl-read)
(allow signal (target self))
(allow process-info* (target self))
(allow iokit-open (iokit-user-client-class "AGXDeviceUserClient"))
(allow iokit-get-properties)
(allow mach-lookup (global-name "com.apple.MTLCompilerService"))
"#;

unsafe extern "C" {
    fn sandbox_init_with_parameters(
        profile: *const c_char,
        flags: u64,
        parameters: *const *const c_char,
        error: *mut *mut c_char,
    ) -> c_int;
    fn sandbox_free_error(error: *mut c_char);
}

pub(super) fn confine() -> Result<Vec<Layer>, SandboxError> {
    descriptors::check_and_quiet()?;
    Ok(vec![close_others(), give_up_privileges()?, set_limits()?, enter_seatbelt()?])
}

/// Seatbelt cannot be entered twice, so nothing narrower exists; standard error is silenced.
pub(super) fn seal_after_load() -> Result<Layer, SandboxError> {
    descriptors::silence_standard_error()?;
    Ok(Layer {
        name: "sealed".to_owned(),
        state: LayerState::Partial,
        detail: "standard error leads nowhere; the model stays readable, as Seatbelt cannot be narrowed".to_owned(),
    })
}

fn close_others() -> Layer {
    // SAFETY: returns a number.
    let end = unsafe { libc::getdtablesize() };
    for descriptor in SOCKET_FD + 1..end {
        // SAFETY: nothing in this process owns a descriptor above the socket yet; `confine` runs first in `main`.
        unsafe { libc::close(descriptor) };
    }
    Layer::enforced("descriptors", "only the model (read-only), the socket and standard error are open")
}

fn give_up_privileges() -> Result<Layer, SandboxError> {
    // SAFETY: this request takes no other argument.
    check(unsafe { libc::ptrace(libc::PT_DENY_ATTACH, 0, ptr::null_mut(), 0) }).map_err(step("forbid debuggers"))?;
    Ok(Layer::enforced("privileges", "no debugger can attach"))
}

fn set_limits() -> Result<Layer, SandboxError> {
    // A file that standard error may be would otherwise kill the process by SIGXFSZ instead of failing the write.
    // SAFETY: ignoring a signal installs no handler.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    limit(libc::RLIMIT_CORE, 0).map_err(step("forbid core dumps"))?;
    limit(libc::RLIMIT_FSIZE, 0).map_err(step("forbid writing to files"))?;
    limit(libc::RLIMIT_NOFILE, DESCRIPTORS_MAX).map_err(step("limit descriptors"))?;
    Ok(Layer::enforced("limits", format!("no core, no file growth, {DESCRIPTORS_MAX} descriptors")))
}

fn enter_seatbelt() -> Result<Layer, SandboxError> {
    let model = model_file().map_err(step("find the model's path"))?;
    let parameters = [c"MODEL".as_ptr(), model.as_ptr(), ptr::null()];
    let mut error: *mut c_char = ptr::null_mut();
    // SAFETY: the profile and every parameter are terminated strings, the list ends with a null pointer, and all of them
    // outlive the call.
    let result = unsafe { sandbox_init_with_parameters(PROFILE.as_ptr(), 0, parameters.as_ptr(), &mut error) };
    if result == 0 {
        return Ok(Layer::enforced("seatbelt", "everything denied but reading the model and computing with Metal"));
    }
    let why = if error.is_null() {
        io::Error::last_os_error().to_string()
    } else {
        // SAFETY: on failure the call leaves a terminated string, which is copied and then freed once.
        unsafe {
            let why = CStr::from_ptr(error).to_string_lossy().into_owned();
            sandbox_free_error(error);
            why
        }
    };
    Err(SandboxError::Unavailable { layer: "Seatbelt", why, remedy: "a worker needs macOS 13 or later" })
}

fn model_file() -> io::Result<CString> {
    let mut path = [0u8; libc::PATH_MAX as usize];
    // SAFETY: F_GETPATH writes at most PATH_MAX bytes, which `path` has.
    check(unsafe { libc::fcntl(MODEL_FD, libc::F_GETPATH, path.as_mut_ptr()) })?;
    let path = CStr::from_bytes_until_nul(&path).map_err(|_| io::Error::from_raw_os_error(libc::ENAMETOOLONG))?;
    Ok(path.to_owned())
}
