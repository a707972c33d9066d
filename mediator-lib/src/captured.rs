//! What is written to this process's standard output and standard error, where the process serves
//! one session only: it is the text of that session's kernels.

use std::collections::VecDeque;

use vgpu_protocol::limits::{MAX_OUTPUT_BYTES, MAX_TEXT_REPLY_BYTES};

/// Gives the text that was written.
pub trait Captured: Send + Sync {
    /// Whether there is text.
    fn any(&self) -> bool;

    /// The next piece for the standard output and for the standard error.
    fn take(&self) -> (Vec<u8>, Vec<u8>);
}

/// Text that nobody has taken yet: the oldest is dropped beyond [`MAX_OUTPUT_BYTES`].
#[derive(Debug, Default)]
pub struct Held([VecDeque<u8>; 2]);

impl Held {
    /// Adds text of the standard output (0) or the standard error (1).
    pub fn add(&mut self, which: usize, text: &[u8]) {
        let Some(queue) = self.0.get_mut(which) else {
            return;
        };
        queue.extend(text);
        let over = queue.len().saturating_sub(MAX_OUTPUT_BYTES);
        if over > 0 {
            tracing::warn!(bytes = over, "text of kernels that nobody took is dropped");
            queue.drain(..over);
        }
    }

    /// Whether there is any.
    pub fn any(&self) -> bool {
        self.0.iter().any(|queue| !queue.is_empty())
    }

    /// The next piece of both.
    pub fn take(&mut self) -> (Vec<u8>, Vec<u8>) {
        let [out, err] = &mut self.0;
        let piece = |queue: &mut VecDeque<u8>| -> Vec<u8> {
            let bytes = queue.len().min(MAX_TEXT_REPLY_BYTES / 2);
            queue.drain(..bytes).collect()
        };
        (piece(out), piece(err))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_text_is_kept_and_taken_in_pieces() {
        let mut held = Held::default();
        assert!(!held.any());
        held.add(0, &vec![b'a'; MAX_OUTPUT_BYTES]);
        held.add(0, b"b");
        held.add(1, b"error");
        assert!(held.any());
        let (mut out, mut err) = (Vec::new(), Vec::new());
        while held.any() {
            let (more_out, more_err) = held.take();
            assert!(more_out.len() + more_err.len() <= MAX_TEXT_REPLY_BYTES);
            out.extend(more_out);
            err.extend(more_err);
        }
        assert_eq!((out.len(), out.last()), (MAX_OUTPUT_BYTES, Some(&b'b')));
        assert_eq!(err, b"error");
    }
}
