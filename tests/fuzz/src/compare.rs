//! Compares what a launch leaves in one form of execution with what it leaves in another.
//!
//! Compared are launches whose outcome PTX does not leave open: by a kernel of which [`Function::varies`] says nothing, whose
//! blocks run one after another on one thread. So the order of warps, which shows where threads race, is the executor's own, and
//! the same in every form. Left out are cooperative grids, which have several blocks in progress, forms that ran out of time, and
//! the reference code where it ran out of stack: its frames are larger.

use vgpu_soft_gpu::{AddressSpace, Jit, LaunchError};

/// How a launch is executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// The reference code.
    pub reference: bool,
    /// Machine code.
    pub jit: Jit,
}

const fn form(reference: bool, jit: Jit) -> Form {
    Form { reference, jit }
}

/// All of them; the last one becomes another while it runs, or by what ran before.
pub const FORMS: [Form; 4] = [
    form(false, Jit::Always),
    form(false, Jit::Never),
    form(true, Jit::Never),
    form(false, Jit::Auto),
];

/// Memory that kernels change, and what is in it at first.
pub struct Buffer {
    /// Device address.
    pub at: u64,
    /// Size.
    pub bytes: u64,
    /// Contents before each launch.
    pub content: Vec<u8>,
}

/// What a launch left.
pub struct Outcome {
    form: Form,
    result: Result<(), LaunchError>,
    memory: Vec<Vec<u8>>,
    text: (Vec<u8>, Vec<u8>),
}

impl Outcome {
    /// Of a launch that has just ended; none where the form itself decides it.
    pub fn of(
        form: Form,
        result: Result<(), LaunchError>,
        space: &AddressSpace,
        buffers: &[Buffer],
        text: (Vec<u8>, Vec<u8>),
    ) -> Option<Outcome> {
        match result {
            Err(LaunchError::TimedOut { .. }) => return None,
            Err(LaunchError::StackOverflow(_)) if form.reference => return None,
            _ => {}
        }
        let read = |b: &Buffer| {
            let mut bytes = vec![0; b.bytes as usize];
            space.read(b.at, &mut bytes).ok()?;
            Some(bytes)
        };
        Some(Outcome {
            form,
            result,
            memory: buffers.iter().map(read).collect::<Option<_>>()?,
            text,
        })
    }

    /// How the other one differs.
    pub fn difference(&self, other: &Outcome, buffers: &[Buffer]) -> Option<String> {
        let (a, b) = (self.form, other.form);
        if self.result != other.result {
            return Some(format!(
                "{a:?}: {:?}\n{b:?}: {:?}",
                self.result, other.result
            ));
        }
        for (buffer, (x, y)) in buffers.iter().zip(self.memory.iter().zip(&other.memory)) {
            if let Some(k) = x.iter().zip(y).position(|(x, y)| x != y) {
                let word = |m: &[u8]| format!("{:02x?}", &m[k & !7..m.len().min((k & !7) + 8)]);
                return Some(format!(
                    "{a:?} left {} at {:#x} (byte {k} of {}), {b:?} {}; both ended with {:?}",
                    word(x),
                    buffer.at + (k as u64 & !7),
                    buffer.bytes,
                    word(y),
                    self.result
                ));
            }
        }
        (self.text != other.text).then(|| {
            let show = |o: &Outcome| String::from_utf8_lossy(&o.text.0).into_owned();
            format!("{a:?} printed {:?}, {b:?} {:?}", show(self), show(other))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_part_of_an_outcome_counts() {
        let space = AddressSpace::new(1 << 20).unwrap();
        let at = space.alloc(64, 64).unwrap();
        let content = (0..64).collect();
        let buffers = [Buffer {
            at,
            bytes: 64,
            content,
        }];
        space.write(at, &buffers[0].content).unwrap();
        let of = |form: usize, result, text: &str| {
            let text = (text.as_bytes().to_vec(), Vec::new());
            Outcome::of(FORMS[form], result, &space, &buffers, text)
        };
        let first = of(0, Ok(()), "a").unwrap();
        let difference = |other: Outcome| first.difference(&other, &buffers);
        assert_eq!(difference(of(1, Ok(()), "a").unwrap()), None);
        let error = Err(LaunchError::Aborted);
        assert!(difference(of(1, error, "a").unwrap()).is_some());
        assert!(difference(of(1, Ok(()), "b").unwrap()).is_some());
        space.write(at + 9, &[0]).unwrap();
        let how = difference(of(1, Ok(()), "a").unwrap()).unwrap();
        assert!(how.contains("byte 9 of 64"), "{how}");
        let late = LaunchError::TimedOut {
            kernel: "k".to_owned(),
            limit: Duration::ZERO,
        };
        assert!(of(2, Err(late), "a").is_none());
    }
}
