//! Which isolation a device gets.

use std::path::{Path, PathBuf};

use vgpu_mediator::BackendChoice;

/// The `isolation` property.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// `process` where the host's GPU computes and a worker process can be started, else `none`.
    #[default]
    Auto,
    /// Sessions are in the device's own process.
    None,
    /// Each session has a process of its own.
    Process,
}

/// The program's file name.
pub const PROGRAM: &str = "vgpu-worker";

/// Where it is looked for besides the folder of the running program and libexec beside that.
const FOLDERS: [&str; 4] = [
    "/usr/libexec",
    "/usr/lib/qemu",
    "/usr/local/libexec",
    "/usr/local/lib/qemu",
];

/// Why sessions cannot have processes of their own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IsolationError {
    /// No such program.
    #[error(
        "property 'isolation' is 'process', which needs the program {PROGRAM}: it is not at {looked}. Install it beside QEMU, name it with the property 'worker', or use isolation=none"
    )]
    NoProgram {
        /// The places.
        looked: String,
    },
    /// QEMU must start no programs.
    #[error(
        "property 'isolation' is 'process', but QEMU's -sandbox option has spawn=deny, under which it can start no process: use -sandbox on,spawn=allow (libvirt: seccomp_sandbox in qemu.conf), or isolation=none"
    )]
    Sandbox,
    /// It does not start.
    #[error("isolation=process: {program}: {why}")]
    Start {
        /// Its path.
        program: PathBuf,
        /// The reason.
        why: String,
    },
    /// Its backend cannot be used: the mediator's own message.
    #[error("{0}")]
    Refused(String),
}

/// The program, if sessions can have processes of their own.
///
/// # Errors
/// Why they cannot.
pub fn program(named: Option<&Path>) -> Result<PathBuf, IsolationError> {
    let cmdline = std::fs::read("/proc/self/cmdline").unwrap_or_default();
    if sandbox_denies(&cmdline) {
        return Err(IsolationError::Sandbox);
    }
    let places = match named {
        Some(path) => vec![path.to_owned()],
        None => places(),
    };
    let found = places.iter().find(|path| path.is_file()).cloned();
    found.ok_or_else(|| {
        let looked: Vec<_> = places.iter().map(|p| p.display().to_string()).collect();
        IsolationError::NoProgram {
            looked: looked.join(", "),
        }
    })
}

fn places() -> Vec<PathBuf> {
    let own = std::env::current_exe().ok();
    let beside = own.as_deref().and_then(Path::parent).map(Path::to_owned);
    let libexec = beside.as_ref().map(|folder| folder.join("../libexec"));
    beside
        .into_iter()
        .chain(libexec)
        .chain(FOLDERS.map(PathBuf::from))
        .map(|folder| folder.join(PROGRAM))
        .collect()
}

/// Whether QEMU's command line forbids new processes. Trying would be worse than asking: the
/// kernel kills QEMU at the attempt.
fn sandbox_denies(cmdline: &[u8]) -> bool {
    let words: Vec<&[u8]> = cmdline.split(|byte| *byte == 0).collect();
    words.windows(2).any(|pair| {
        let [option, value] = pair else { return false };
        let parts = || value.split(|byte| *byte == b',');
        matches!(*option, b"-sandbox" | b"--sandbox")
            && parts().any(|part| matches!(part, b"on" | b"enable=on"))
            && parts().any(|part| part == b"spawn=deny")
    })
}

/// What `isolation=auto` comes to, before the backend is opened.
pub fn wants_process(
    isolation: Isolation,
    backend: BackendChoice,
    driver: impl Fn() -> bool,
) -> bool {
    match (isolation, backend) {
        (Isolation::None, _) => false,
        (Isolation::Process, _) => true,
        // The software GPU keeps sessions apart by itself.
        (Isolation::Auto, BackendChoice::Soft) => false,
        (Isolation::Auto, BackendChoice::Cuda | BackendChoice::Auto) => driver(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_without_processes_is_seen() {
        let denies = |line: &str| sandbox_denies(line.replace(' ', "\0").as_bytes());
        assert!(denies(
            "qemu -m 1G -sandbox on,obsolete=deny,spawn=deny -nodefaults"
        ));
        assert!(denies("qemu --sandbox enable=on,spawn=deny"));
        assert!(!denies("qemu -sandbox on"));
        assert!(!denies("qemu -sandbox on,spawn=allow"));
        assert!(!denies("qemu -sandbox off,spawn=deny"));
        assert!(!denies("qemu -name -sandbox"));
        assert!(!denies(""));
    }

    #[test]
    fn processes_are_for_the_hosts_gpu() {
        use BackendChoice::{Auto, Cuda, Soft};
        let wants = |isolation, backend, driver| wants_process(isolation, backend, || driver);
        assert!(wants(Isolation::Auto, Auto, true) && wants(Isolation::Auto, Cuda, true));
        assert!(!wants(Isolation::Auto, Auto, false) && !wants(Isolation::Auto, Soft, true));
        assert!(wants(Isolation::Process, Soft, false));
        assert!(!wants(Isolation::None, Cuda, true));
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = program(Some(Path::new("/nowhere/vgpu-worker"))).expect_err("not there");
        let text = error.to_string();
        for part in ["/nowhere/vgpu-worker", "'worker'", "isolation=none"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
