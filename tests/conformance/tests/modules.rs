//! Modules, functions and global variables.

use vgpu_conformance::{Bench, Client};
use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, JitOption, ModuleId, ModuleLoaded, stubs};
use vgpu_test_harness::ptx;

fn try_load(client: &Client, ctx: CtxId, image: &[u8]) -> ModuleLoaded {
    stubs::module_load(client, ctx, image, Vec::new()).expect("an answer")
}

pub fn globals_are_initialized(bench: &Bench) {
    let (client, ctx) = bench.ready();
    let module = client.load(ctx, ptx::MISCHIEF);
    let (ptr, bytes) = stubs::module_get_global(&client, ctx, module, "counter").expect("there");
    assert_eq!(bytes, 16);
    let words: Vec<u8> = [1u32, 2, 3, 4]
        .iter()
        .flat_map(|w| w.to_le_bytes())
        .collect();
    assert_eq!(client.read(ctx, ptr, 16), words);
    // A kernel and a copy see the same variable; another load has its own.
    let poke = client.function(ctx, module, "poke");
    client
        .launch(ctx, &poke, 1, &(ptr.0 + 8).to_le_bytes())
        .expect("launched");
    stubs::ctx_synchronize(&client, ctx).expect("no error");
    assert_eq!(client.read(ctx, ptr, 16)[8..12], 42u32.to_le_bytes());
    let again = client.load(ctx, ptx::MISCHIEF);
    let (other, _) = stubs::module_get_global(&client, ctx, again, "counter").expect("there");
    assert_ne!(other, ptr);
    assert_eq!(client.read(ctx, other, 16), words);
}

pub fn kernels_are_listed(bench: &Bench) {
    let (client, ctx) = bench.ready();
    let module = client.load(ctx, ptx::MISCHIEF);
    let names = stubs::module_functions(&client, ctx, module).expect("an answer");
    assert!(names.iter().any(|n| n == "poke"), "{names:?}");
    for name in &names {
        stubs::module_get_function(&client, ctx, module, name).expect(name);
    }
    assert_eq!(
        stubs::module_functions(&client, ctx, ModuleId(999)).err(),
        Some(Status::ERROR_INVALID_HANDLE)
    );
}

pub fn names_that_are_not_there(bench: &Bench) {
    let (client, ctx) = bench.ready();
    let module = client.load(ctx, ptx::MISCHIEF);
    for name in ["", "nothing", "POKE", "counter", "poke_param_0", "ü"] {
        let found = stubs::module_get_function(&client, ctx, module, name).err();
        assert_eq!(found, Some(Status::ERROR_NOT_FOUND), "kernel {name:?}");
    }
    for name in ["nothing", "poke"] {
        let found = stubs::module_get_global(&client, ctx, module, name).err();
        assert_eq!(found, Some(Status::ERROR_NOT_FOUND), "variable {name:?}");
    }
    let none = Some(Status::ERROR_INVALID_HANDLE);
    for module in [ModuleId(0), ModuleId(999)] {
        assert_eq!(
            stubs::module_get_function(&client, ctx, module, "poke").err(),
            none
        );
        assert_eq!(
            stubs::module_get_global(&client, ctx, module, "counter").err(),
            none
        );
    }
}

pub fn broken_ptx_names_its_line(bench: &Bench) {
    let (client, ctx) = bench.ready();
    let breaks = [
        ("mov.u32 %r3, %ctaid.x;", "mov.u32 %r3 %ctaid.x;"),
        ("mov.u32 %r4, %ntid.x;", "mov.u32 %r4, %r99;"),
        ("st.global.f32 [%rd10], %f3;", "frobnicate.u32 %r1, %r2;"),
        ("@%p1 bra DONE;", "@%p1 bra NOWHERE;"),
    ];
    for (good, bad) in breaks {
        let text = ptx::VECTOR_ADD.replace(good, bad);
        let line = 1 + text.lines().position(|l| l.contains(bad)).expect("there");
        let loaded = try_load(&client, ctx, text.as_bytes());
        assert_eq!(
            Status(loaded.status),
            Status::ERROR_INVALID_PTX,
            "{bad}: {}",
            loaded.error_log
        );
        // ptxas says "line 20", and a column where it has one.
        let named = [format!("line {line}"), format!(":{line}:")];
        assert!(
            named.iter().any(|n| loaded.error_log.contains(n)),
            "{bad} in line {line}: {}",
            loaded.error_log
        );
    }
    // The session is none the worse.
    client.load(ctx, ptx::VECTOR_ADD);
    // Options of the log do not change the answer.
    let options = (0..5)
        .map(|option| JitOption { option, value: 64 })
        .collect();
    let loaded = stubs::module_load(
        &client,
        ctx,
        b".version 8.0\n.target sm_90\nbroken",
        options,
    )
    .expect("an answer");
    assert_eq!(Status(loaded.status), Status::ERROR_INVALID_PTX);
}

pub fn a_missing_operand_never_executes(bench: &Bench) {
    let (client, ctx) = bench.ready();
    let text = ptx::VECTOR_ADD.replace("add.f32 %f3, %f2, %f1;", "add.f32 %f3, %f2;");
    let loaded = try_load(&client, ctx, text.as_bytes());
    // ptxas refuses the module. The software GPU looks at a kernel's operands when the kernel is
    // looked up, and refuses it then.
    if Status(loaded.status) != Status::ERROR_INVALID_PTX {
        assert_eq!(bench.0, vgpu_mediator::BackendChoice::Soft);
        let found = stubs::module_get_function(&client, ctx, loaded.module, "add");
        assert_eq!(found.err(), Some(Status::ERROR_NOT_SUPPORTED));
    }
}

pub fn images_that_are_none(bench: &Bench) {
    let (client, ctx) = bench.ready();
    let fatbin = 0xba55_ed50_u32.to_le_bytes();
    let noise: Vec<u8> = (0..5000u32).map(|i| ((i * i) >> 3) as u8).collect();
    let images: [&[u8]; 6] = [b"", &[0], &[0; 64], &fatbin, b"\x7fELF\x02\x01\x01", &noise];
    for image in images {
        let loaded = try_load(&client, ctx, image);
        let status = Status(loaded.status);
        assert!(
            matches!(
                status,
                Status::ERROR_INVALID_IMAGE
                    | Status::ERROR_INVALID_PTX
                    | Status::ERROR_NO_BINARY_FOR_GPU
            ),
            "{status} for {:.16?}…",
            image
        );
    }
    client.load(ctx, ptx::VECTOR_ADD);
}

pub fn unloaded_modules(bench: &Bench) {
    let (client, ctx) = bench.ready();
    let module = client.load(ctx, ptx::MISCHIEF);
    let poke = client.function(ctx, module, "poke");
    let (ptr, _) = stubs::module_get_global(&client, ctx, module, "counter").expect("there");
    client
        .now(|c| stubs::module_unload(c, ctx, module))
        .expect("unloaded");
    let gone = Err(Status::ERROR_INVALID_HANDLE);
    assert_eq!(
        client.now(|c| stubs::module_unload(c, ctx, module)),
        gone,
        "twice"
    );
    assert_eq!(client.launch(ctx, &poke, 1, &ptr.0.to_le_bytes()), gone);
    let read = stubs::memcpy_dtoh_inline(&client, ctx, ptr, vgpu_conformance::STREAM, 4);
    assert_eq!(
        read.err(),
        Some(Status::ERROR_INVALID_VALUE),
        "its variables are gone"
    );
}

pub fn a_version_from_the_future(bench: &Bench) {
    let (client, ctx) = bench.ready();
    let text = ptx::VECTOR_ADD.replace(".version 8.0", ".version 99.0");
    let loaded = try_load(&client, ctx, text.as_bytes());
    assert_eq!(
        Status(loaded.status),
        Status::ERROR_UNSUPPORTED_PTX_VERSION,
        "{}",
        loaded.error_log
    );
}

pub fn attributes_of_a_kernel(bench: &Bench) {
    /// `CU_FUNC_ATTRIBUTE_…`.
    const MAX_THREADS_PER_BLOCK: i32 = 0;
    const SHARED_SIZE_BYTES: i32 = 1;
    const MAX_DYNAMIC_SHARED_SIZE_BYTES: i32 = 8;
    let (client, ctx) = bench.ready();
    let module = client.load(ctx, ptx::VECTOR_ADD);
    let add = client.function(ctx, module, "add");
    assert_eq!(add.params, [(0, 8), (8, 8), (16, 8), (24, 4)]);
    let attribute = |number| {
        add.attributes
            .iter()
            .find(|(n, _)| *n == number)
            .map(|(_, v)| *v)
    };
    assert_eq!(attribute(MAX_THREADS_PER_BLOCK), Some(1024));
    assert_eq!(attribute(SHARED_SIZE_BYTES), Some(0));
    let set =
        |attribute, value| stubs::func_set_attribute(&client, ctx, add.function, attribute, value);
    assert_eq!(set(MAX_DYNAMIC_SHARED_SIZE_BYTES, 1024), Ok(()));
    assert_eq!(
        set(MAX_DYNAMIC_SHARED_SIZE_BYTES, 64 << 20),
        Err(Status::ERROR_INVALID_VALUE)
    );
    assert_eq!(
        set(MAX_DYNAMIC_SHARED_SIZE_BYTES, -1),
        Err(Status::ERROR_INVALID_VALUE)
    );
    assert_eq!(
        set(MAX_THREADS_PER_BLOCK, 64),
        Err(Status::ERROR_INVALID_VALUE),
        "read-only"
    );
}
