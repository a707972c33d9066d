//! A worker: makes cases out of its seed and runs them, one after another.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::case::Case;
use crate::corpus::Corpus;
use crate::execute::Devices;
use crate::random::Random;
use crate::stats::{COUNTERS, Counter, Stats};
use crate::{generate, image, mutate};

/// Bytes before the case in the file that a worker shares with its supervisor: the values, then the case's length.
const HEAD_BYTES: usize = 8 * (COUNTERS.len() + 1);

/// Case number `n` of a seed.
pub fn case(seed: u64, n: u64, corpus: &Corpus) -> Case {
    let mut r = Random::new(
        Random::new(seed)
            .bits()
            .wrapping_add(n.wrapping_mul(0x2545_f491_4f6c_dd1d)),
    );
    let r = &mut r;
    let text = |r: &mut Random| -> Vec<u8> {
        match r.below(8) {
            0..=2 => {
                let text = generate::kernel(r);
                if r.one_in(3) {
                    mutate::mutate(r, &text, corpus)
                } else {
                    text.into_bytes()
                }
            }
            _ => {
                let text = r.of(&corpus.texts);
                mutate::mutate(r, text, corpus)
            }
        }
    };
    let image = match r.below(16) {
        0 => {
            let (a, b) = (text(r), text(r));
            let mut image = image::wrap(r, &a, &b);
            if r.one_in(2) {
                image::damage(r, &mut image);
            }
            image
        }
        1 => {
            let texts: Vec<Vec<u8>> = (0..2 + r.below(2))
                .map(|k| {
                    let text = text(r);
                    // Kernels of one name are an error: mostly there is none.
                    let name = format!(".entry k{k}(");
                    String::from_utf8_lossy(&text)
                        .replace(".entry k(", &name)
                        .into_bytes()
                })
                .collect();
            let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
            let mut image = image::linked(r, &texts).unwrap_or_default();
            if r.one_in(4) {
                image::damage(r, &mut image);
            }
            image
        }
        _ => text(r),
    };
    Case {
        image,
        plan: r.bits(),
    }
}

/// Where a worker writes what it does.
pub struct Shared(File);

impl Shared {
    /// Of a file that is there.
    pub fn open(path: &Path) -> Result<Shared> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path);
        Ok(Shared(
            file.with_context(|| format!("open {}", path.display()))?,
        ))
    }

    fn put(&self, values: &[u64], case: &Case) -> Result<()> {
        let bytes = case.encode();
        let mut head: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        head.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        head.extend_from_slice(&bytes);
        self.0.write_all_at(&head, 0)?;
        Ok(())
    }

    /// The values.
    pub fn values(&self) -> Vec<u64> {
        self.head().unwrap_or_default()
    }

    fn head(&self) -> Result<Vec<u64>> {
        let mut head = [0u8; HEAD_BYTES];
        self.0.read_exact_at(&mut head, 0)?;
        let word = |b: &[u8]| b.iter().rev().fold(0u64, |n, b| n << 8 | u64::from(*b));
        Ok(head.chunks(8).map(word).collect())
    }

    /// The case that runs, or was the last one that did.
    pub fn case(&self) -> Result<Vec<u8>> {
        let head = self.head()?;
        let bytes = head.last().copied().unwrap_or(0) as usize;
        let all = self.0.metadata()?.len() as usize;
        ensure!(HEAD_BYTES + bytes <= all, "the worker's file is too short");
        let mut case = vec![0; bytes];
        self.0.read_exact_at(&mut case, HEAD_BYTES as u64)?;
        Ok(case)
    }
}

/// Fails as nothing should, so that a test can see that it is seen.
fn fail(how: &str) {
    match how {
        "crash" => std::process::abort(),
        // The executor catches panics of its own.
        "panic" => drop(std::panic::catch_unwind(|| panic!("on purpose"))),
        "sleep" => loop {
            std::thread::park();
        },
        "spin" => loop {
            std::hint::spin_loop();
        },
        _ => {}
    }
}

/// Runs cases `from..to` of a seed; each stands in the file before it runs. At the third it fails as asked.
pub fn work(
    seed: u64,
    from: u64,
    to: u64,
    corpus: &Corpus,
    shared: &Shared,
    how: Option<&str>,
) -> Result<()> {
    end_on_panic();
    let devices = Devices::new()?;
    let stats = Stats::default();
    for n in from..to {
        let case = case(seed, n, corpus);
        stats.count(Counter::Cases);
        shared.put(&stats.values(), &case)?;
        if let Some(how) = how.filter(|_| n == from + 2) {
            fail(how);
        }
        devices.run(&case, &stats);
    }
    shared.put(
        &stats.values(),
        &Case {
            image: Vec::new(),
            plan: 0,
        },
    )
}

/// Runs one case.
pub fn replay(case: &Case) -> Result<Stats> {
    end_on_panic();
    let stats = Stats::default();
    Devices::new()?.run(case, &stats);
    Ok(stats)
}

/// A panic anywhere, even one that the executor catches, is a finding.
fn end_on_panic() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        before(info);
        std::process::abort();
    }));
}
