//! Two machines at once, each with a model of its own, both right; then what users do wrong in them: a model too big for the
//! machine's share of device memory, a package of another version, no permission.

use std::fs;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use vgpu_protocol::PROTOCOL_HASH;

use super::{Machine, Stage, number, succeeded};

/// Both machines: each has a text of its own, made by the processor and by the device.
const COMPARED: &str = r#"
$COMPLETE --device none -n 24 -p "$PROMPT" </dev/null >/share/cpu.txt
touch /share/ready
appears both
$COMPLETE -n 24 -p "$PROMPT" </dev/null >/share/gpu.txt
cmp /share/cpu.txt /share/gpu.txt
test -s /share/gpu.txt
"#;

/// The one with little memory: a small model goes on while a large one finds no room.
const TOO_BIG: &str = r#"
$COMPLETE -n 200 -p "$PROMPT" </dev/null >/share/long.txt &
small=$!
while ! [ -s /share/long.txt ]; do kill -0 $small; sleep 0.1; done
status=0
llama-completion -m /share/large.gguf -ngl 99 -fit off -no-cnv -n 4 -p x </dev/null >/dev/null 2>/share/large.log || status=$?
echo "large $status"
wait $small
echo "used $(memory)"
$COMPLETE -n 24 -p "$PROMPT" </dev/null >/share/gpu.txt
cmp /share/cpu.txt /share/gpu.txt
"#;

/// The other one: libraries of another version, then files that a user may not open.
const REFUSED: &str = r#"
LD_LIBRARY_PATH=/share/other llama-completion --list-devices >/share/other.log 2>&1 || true
for bar in /sys/bus/pci/devices/0000:00:05.0/resource[01]; do chmod 0600 "$bar"; done
su user -c "llama-completion --list-devices" >/share/permission.log 2>&1 || true
su user -c "vgpu-doctor" >/share/doctor.log 2>&1 || true
llama-completion --list-devices 2>/dev/null | grep CUDA0
"#;

/// Libraries of the package that know the protocol.
const LIBRARIES: [&str; 3] = ["libcuda.so.1", "libcublas.so.12", "libnvidia-ml.so.1"];

pub(super) fn run(stage: &Stage) -> Result<String> {
    let mut machines = [
        Machine::new(stage, 111, &stage.exact)?,
        Machine::new(stage, 112, &stage.half)?,
    ];
    let scripts = [
        format!("PROMPT='Once upon a time'\n{COMPARED}{REFUSED}"),
        format!("PROMPT='The lighthouse stood on the last rock'\n{COMPARED}{TOO_BIG}"),
    ];
    machines[1].options.device.memory = Some(64 << 20);
    fs::copy(&stage.large, machines[1].share().join("large.gguf"))?;
    other_version(&stage.root, &machines[0].share().join("other"))?;
    let outcomes = thread::scope(|scope| {
        let mut threads = Vec::new();
        for (machine, script) in machines.iter().zip(&scripts) {
            machine_thread(scope, &mut threads, machine, script);
        }
        // Each begins on the device when both are there.
        let here = |m: &Machine| m.share().join("ready").exists();
        while !machines.iter().all(here) && !threads.iter().any(|t| t.is_finished()) {
            thread::sleep(std::time::Duration::from_millis(100));
        }
        for machine in &machines {
            // A guest that is gone needs it no more.
            let _ = fs::write(machine.share().join("both"), "");
        }
        let all = threads.into_iter().map(|thread| {
            let outcome = thread.join();
            outcome.unwrap_or_else(|_| Err(anyhow!("the guest's thread panicked")))
        });
        all.collect::<Vec<_>>()
    });
    let [first, second] = &machines;
    let mut outcomes = outcomes.into_iter();
    let mut next = || outcomes.next().context("two guests, two outcomes")?;
    let (one, two) = (next().context("vm_id=111")?, next().context("vm_id=112")?);
    succeeded(&one, first).context("vm_id=111")?;
    succeeded(&two, second).context("vm_id=112")?;
    let texts = [first, second].map(|machine| machine.file("gpu.txt"));
    ensure!(texts[0] != texts[1], "both machines wrote {:?}", texts[0]);
    first.sessions("llama-completion", 1)?;
    // Compared, long, and compared again; the large one launched nothing.
    second.sessions("llama-completion", 3)?;
    too_big(second, &two)?;
    refused(first)?;
    Ok(format!(
        "{}; both texts as the processor's",
        one.accel.name()
    ))
}

type Ended<'scope> = thread::ScopedJoinHandle<'scope, Result<crate::guest::Outcome>>;

fn machine_thread<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    threads: &mut Vec<Ended<'scope>>,
    machine: &'scope Machine,
    script: &'scope str,
) {
    threads.push(scope.spawn(move || machine.run(script)));
}

fn too_big(machine: &Machine, outcome: &crate::guest::Outcome) -> Result<()> {
    let log = machine.file("large.log");
    ensure!(
        number(outcome, "large")? != 0 && log.contains("cudaMalloc failed: out of memory"),
        "a model too big for the machine's memory ended with\n{log}"
    );
    ensure!(
        number(outcome, "used")? == 0,
        "memory stays in use:\n{}",
        outcome.stdout
    );
    Ok(())
}

fn refused(machine: &Machine) -> Result<()> {
    let hashes = [OTHER, PROTOCOL_HASH].map(|hash| format!("{hash:#018x}"));
    for (file, times, wanted) in [
        ("other.log", 1, "use shims and QEMU of the same build"),
        ("other.log", 1, hashes[0].as_str()),
        ("other.log", 1, hashes[1].as_str()),
        ("permission.log", 1, "no permission to open "),
        ("permission.log", 1, "60-vgpu-stub.rules"),
    ] {
        let log = machine.file(file);
        ensure!(
            log.matches(wanted).count() == times,
            "{file} has {wanted:?} {} times, not {times}:\n{log}",
            log.matches(wanted).count()
        );
        ensure!(!log.contains("CUDA0"), "{file} shows a device:\n{log}");
    }
    let doctor = machine.file("doctor.log");
    ensure!(
        doctor.contains("WRONG permission") && doctor.contains("60-vgpu-stub.rules"),
        "vgpu-doctor says\n{doctor}"
    );
    Ok(())
}

/// The protocol of a version that there is not.
const OTHER: u64 = PROTOCOL_HASH ^ 0x0123_4567_89ab_cdef;

/// Copies of the tree's libraries as another version would have them: with another protocol's hash.
fn other_version(root: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to)?;
    for name in LIBRARIES {
        let from = root.join("usr/lib/x86_64-linux-gnu").join(name);
        let mut bytes = fs::read(&from).with_context(|| from.display().to_string())?;
        let places: Vec<_> = bytes
            .windows(8)
            .enumerate()
            .filter(|(_, window)| **window == PROTOCOL_HASH.to_le_bytes())
            .map(|(at, _)| at)
            .collect();
        ensure!(!places.is_empty(), "{name} holds no protocol hash");
        for at in places {
            bytes
                .get_mut(at..at + 8)
                .context("the place was found")?
                .copy_from_slice(&OTHER.to_le_bytes());
        }
        fs::write(to.join(name), bytes)?;
    }
    Ok(())
}
