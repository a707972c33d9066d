//! CUDA programs in guests. Each test boots a machine of its own.

use std::io::Write;
use std::process::Stdio;

use anyhow::Result;
use vgpu_vm_tests::{Guest, xtask};

#[test]
#[ignore = "boots guests: run by `cargo xtask test`"]
fn demo_shows_all_its_parts() -> Result<()> {
    let output = xtask().arg("demo").output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for part in [
        "[10de:2331]",
        "[1234:11e9]",
        "Unclassified device [00ff]",
        "guest 112 | all ",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    Ok(())
}

#[test]
#[ignore = "boots a guest: run by `cargo xtask test`"]
fn command_gets_its_words_and_gives_its_streams_and_status() -> Result<()> {
    let guest = Guest::new(&["--no-device", "--env", "NAME=it's"]);
    let (reader, mut writer) = std::io::pipe()?;
    // More than any buffer between here and there holds.
    let sent = "0123456789abcde\n".repeat(40_000);
    let feeder = std::thread::spawn(move || writer.write_all(sent.as_bytes()));
    let script = "printf '%s|' \"$NAME\" \"$@\"; cksum; echo told >&2; exit 42";
    let words = ["sh", "-c", script, "x", "a b", "", "$c"];
    let ended = guest.run_with(&words, Stdio::from(reader))?;
    feeder.join().expect("the feeder panicked")?;
    assert_eq!(ended.status, 42, "{}", ended.stderr);
    // The checksum of the same text by cksum on the host.
    let sum = {
        let mut child = std::process::Command::new("cksum")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let text = "0123456789abcde\n".repeat(40_000);
        child
            .stdin
            .take()
            .expect("a pipe")
            .write_all(text.as_bytes())?;
        String::from_utf8(child.wait_with_output()?.stdout)?
    };
    assert_eq!(ended.stdout, format!("it's|a b||$c|{sum}"));
    assert!(ended.stderr.contains("told\n"), "{}", ended.stderr);
    Ok(())
}

#[test]
#[ignore = "boots a guest: run by `cargo xtask test`"]
fn machine_without_the_device_has_no_cuda_device() -> Result<()> {
    let ended = Guest::new(&["--no-device"]).run(&["cuda-kernels", "/opt/vgpu-stub/ptx"])?;
    assert_eq!(ended.status, 2, "{}", ended.stderr);
    assert!(
        ended.stderr.contains("cuInit returned 100"),
        "{}",
        ended.stderr
    );
    Ok(())
}

#[test]
#[ignore = "boots a guest: run by `cargo xtask test`"]
fn nouveau_refuses_the_device_and_the_device_works() -> Result<()> {
    let guest = Guest::new(&["--nouveau"]);
    let script = "lspci -nnk -s 00:05.0; grep -q '^nouveau ' /proc/modules; \
                  cuda-kernels --only vector_add /opt/vgpu-stub/ptx";
    let ended = guest.shell(script)?;
    assert!(ended.stdout.contains("[10de:2331]"), "{}", ended.stdout);
    assert!(!ended.stdout.contains("driver in use"), "{}", ended.stdout);
    assert!(
        ended.stdout.contains("all 1 kernels passed"),
        "{}",
        ended.stdout
    );
    // What nouveau wrote to the kernel's log: it looked at the device, and said why it left it.
    let log = ended.stderr.to_lowercase();
    assert!(
        log.contains("nouveau 0000:00:05.0: unknown chipset"),
        "{log}"
    );
    assert!(
        !log.contains("bug:") && !log.contains("call trace"),
        "{log}"
    );
    Ok(())
}

#[test]
#[ignore = "boots a guest: run by `cargo xtask test`"]
fn user_without_rights_computes() -> Result<()> {
    let guest = Guest::new(&["--user", "nobody"]);
    let ended = guest.shell("id -u; cuda-kernels --only saxpy /opt/vgpu-stub/ptx")?;
    assert!(ended.stdout.starts_with("65534\n"), "{}", ended.stdout);
    assert!(
        ended.stdout.contains("all 1 kernels passed"),
        "{}",
        ended.stdout
    );
    Ok(())
}

#[test]
#[ignore = "boots a guest: run by `cargo xtask test`"]
fn several_processes_and_threads_compute_at_once() -> Result<()> {
    let script = "cuda-kernels --processes 6 --only vector_add --only reduce_shuffle /opt/vgpu-stub/ptx; \
                  cuda-kernels --threads 4 --only histogram_shared --only streams /opt/vgpu-stub/ptx";
    let ended = Guest::new(&["--cpus", "2"]).shell(script)?;
    assert!(
        ended.stdout.contains("all 12 kernels passed"),
        "{}",
        ended.stdout
    );
    assert!(
        ended.stdout.contains("all 8 kernels passed"),
        "{}",
        ended.stdout
    );
    Ok(())
}

#[test]
#[ignore = "boots a guest: run by `cargo xtask test`"]
fn killed_process_leaves_nothing_behind() -> Result<()> {
    // It allocates most of the device's memory and launches a kernel that never ends. The next one needs the
    // memory and the device.
    let script = "for round in 1 2 3; do
            cuda-kernels --hang /opt/vgpu-stub/ptx >/tmp/out & pid=$!
            for try in $(seq 100); do grep -q hangs /tmp/out && break; sleep 0.1; done
            cat /tmp/out; kill -9 $pid; wait $pid || true
        done
        cuda-kernels --only memset_copy --only vector_add /opt/vgpu-stub/ptx";
    let ended = Guest::new(&["--memory", "512M"]).shell(script)?;
    assert_eq!(ended.stdout.matches("hangs").count(), 3, "{}", ended.stdout);
    assert!(
        ended.stdout.contains("all 2 kernels passed"),
        "{}",
        ended.stdout
    );
    Ok(())
}

#[test]
#[ignore = "boots a guest: run by `cargo xtask test`"]
fn bad_input_gets_documented_errors() -> Result<()> {
    let ended = Guest::new(&[]).shell("cuda-errors /opt/vgpu-stub/ptx")?;
    assert!(!ended.stdout.contains("FAIL"), "{}", ended.stdout);
    Ok(())
}

#[test]
#[ignore = "boots a guest: run by `cargo xtask test`"]
fn program_in_c_computes() -> Result<()> {
    let ended = Guest::new(&[]).shell("driver-api /opt/vgpu-stub/ptx/vector_add.ptx")?;
    assert!(
        ended.stdout.contains("PASS driver_api n=100000"),
        "{}",
        ended.stdout
    );
    Ok(())
}

#[test]
#[ignore = "boots a guest: run by `cargo xtask test`"]
fn log_of_the_shim_shows_the_life_of_a_call() -> Result<()> {
    let guest = Guest::new(&["--env", "VGPU_LOG=1"]);
    let ended = guest.shell("cuda-kernels --only saxpy /opt/vgpu-stub/ptx")?;
    for part in [
        "[cuda-transport] Found VGPU-STUB at 0000:00:05.0 (vendor=0x10de device=0x2331 class=0x030200 match=exact)",
        "[cuda-transport] Connected to VGPU-STUB (vm_id=111, data_path=BAR1)",
        "SENDING to VGPU-STUB: call_id=",
        "RINGING DOORBELL",
        "RECEIVED from VGPU-STUB: call_id=",
        "status=DONE",
    ] {
        assert!(
            ended.stderr.contains(part),
            "no {part:?} in\n{}",
            ended.stderr
        );
    }
    Ok(())
}

#[test]
#[ignore = "starts QEMU: run by `cargo xtask test`"]
fn bad_properties_are_refused_at_start() -> Result<()> {
    for (option, value, named) in [
        ("--bar1-size", "3M", "bar1-size"),
        ("--channels", "0", "channels"),
        ("--channels", "100000", "channels"),
    ] {
        let ended = Guest::new(&[option, value]).run(&["true"])?;
        assert_eq!(ended.status, 125, "{option} {value}: {}", ended.stderr);
        assert!(
            ended.stderr.contains(named),
            "{option} {value}: {}",
            ended.stderr
        );
    }
    Ok(())
}
