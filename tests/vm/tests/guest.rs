//! CUDA programs in guests. Each test boots a machine of its own.

use std::io::Write;
use std::process::Stdio;

use anyhow::Result;
use vgpu_vm_tests::{Guest, descendants, xtask};

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

/// `isolation=process`: QEMU starts a program for each process of the guest.
#[test]
#[ignore = "boots a guest: run by `cargo xtask test`"]
fn each_process_of_the_guest_has_one_on_the_host() -> Result<()> {
    let script =
        "cuda-kernels --processes 3 --only vector_add --only reduce_shuffle /opt/vgpu-stub/ptx
        cuda-errors /opt/vgpu-stub/ptx
        cuda-kernels --hang /opt/vgpu-stub/ptx >/tmp/out & pid=$!
        for try in $(seq 100); do grep -q hangs /tmp/out && break; sleep 0.1; done
        cat /tmp/out; kill -9 $pid; wait $pid || true
        cuda-kernels --only vector_add /opt/vgpu-stub/ptx";
    let running = std::thread::spawn(move || Guest::new(&["--isolation", "process"]).shell(script));
    let mut most = 0;
    while !running.is_finished() {
        most = most.max(descendants("vgpu-worker"));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let ended = running.join().expect("the thread panicked")?;
    for part in ["all 6 kernels passed", "hangs", "all 1 kernels passed"] {
        assert!(
            ended.stdout.contains(part),
            "no {part:?} in {}",
            ended.stdout
        );
    }
    assert!(!ended.stdout.contains("FAIL"), "{}", ended.stdout);
    // One for each of the three, beside the one that waits for the next.
    assert!(most >= 4, "{most} of them at once");
    assert_eq!(descendants("vgpu-worker"), 0, "they end with QEMU");
    Ok(())
}

#[test]
#[ignore = "boots a guest: run by `cargo xtask test`"]
fn graphs_captures_and_functions_in_streams() -> Result<()> {
    let ended = Guest::new(&[]).shell("cuda-graphs /opt/vgpu-stub/ptx")?;
    assert!(
        ended.stdout.contains("PASS random_orders") && !ended.stdout.contains("FAIL"),
        "{}",
        ended.stdout
    );
    Ok(())
}

#[test]
#[ignore = "boots a guest: run by `cargo xtask test`"]
fn memory_that_program_and_device_share() -> Result<()> {
    let ended = Guest::new(&[]).shell("cuda-memory /opt/vgpu-stub/ptx")?;
    assert!(
        ended.stdout.contains("PASS pinned_in_kernels") && !ended.stdout.contains("FAIL"),
        "{}",
        ended.stdout
    );
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

/// Waiting programs sleep until the device interrupts, where the kernel's generic driver has it.
#[test]
#[ignore = "boots a guest: run by `cargo xtask test`"]
fn interrupts_through_the_kernels_generic_driver() -> Result<()> {
    let guest = Guest::new(&["--module", "uio_pci_generic"]);
    // The guest sees the host's files: a fixed name may be taken there.
    let script = "set -e
        VGPU_LOG=$(mktemp); export VGPU_LOG
        echo 10de 2331 >/sys/bus/pci/drivers/uio_pci_generic/new_id
        ls /dev/uio0
        cuda-kernels /opt/vgpu-stub/ptx
        cuda-kernels --processes 2 /opt/vgpu-stub/ptx
        grep -c 'replies interrupt' $VGPU_LOG
        awk '/uio_pci_generic/ { for (i = 2; i < NF; i++) sum += $i } END { print \"interrupts\", sum + 0 }' /proc/interrupts";
    let ended = guest.shell(script)?;
    let text = format!("{}\n{}", ended.stdout, ended.stderr);
    let count = ended
        .stdout
        .lines()
        .find_map(|line| line.strip_prefix("interrupts "))
        .and_then(|count| count.parse::<u64>().ok());
    assert!(
        ended.status == 0 && !ended.stdout.contains("FAIL"),
        "{text}"
    );
    assert!(count.is_some_and(|count| count > 0), "{text}");
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

/// The package as a distribution's own means install it, used by a service's user.
#[test]
#[ignore = "boots a guest with a tree of Debian unstable: run by `cargo xtask test`"]
fn an_installed_package_serves_a_user_who_is_not_root() -> Result<()> {
    let output = xtask().arg("guest-tree").output()?;
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    let tree = String::from_utf8(output.stdout)?;
    let guest = Guest::new(&["--root", tree.trim(), "--user", "user"]);
    let script = "id -un; vgpu-doctor; echo \"doctor $?\"; nvidia-smi -L; \
                  nvidia-smi --query-gpu=pci.bus_id,memory.used --format=csv,noheader,nounits; \
                  ldd /usr/lib/x86_64-linux-gnu/ggml/backends0/libggml-cuda.so | grep 'not found'";
    let ended = guest.run(&["sh", "-c", script])?;
    let text = format!("{}\n{}", ended.stdout, ended.stderr);
    for part in [
        "user\n",
        "identity=h100\n",
        "libcuda.so.1 is /usr/lib/x86_64-linux-gnu/libcuda.so.1\n",
        "doctor 0\n",
        "(UUID: GPU-",
        "00000000:00:05.0, 0\n",
    ] {
        assert!(ended.stdout.contains(part), "no {part:?} in\n{text}");
    }
    assert!(!ended.stdout.contains("not found"), "{text}");
    Ok(())
}
