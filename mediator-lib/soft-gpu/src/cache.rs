//! Modules that were loaded before: parsed text, and kernels with their compiled code, by the
//! content of the image. A program that starts again finds its kernels ready.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::function::{Function, ModuleData};
use crate::ptx::ast::PtxModule;

/// Most bytes of images and PTX text in the cache: a guest that loads ever new modules must not
/// make the host keep them all. The ones used least recently go first.
pub const MAX_CACHED_BYTES: usize = 64 << 20;

/// Places of one module's variables that code is kept for: two programs in turn, or one that
/// loads the module twice.
const MAX_PLACES: usize = 2;

/// A module's text, scanned.
#[derive(Clone, Debug)]
pub(crate) struct Parsed {
    /// Text.
    pub source: Arc<String>,
    /// Module scope; bodies as far as they were asked for.
    pub ptx: Arc<PtxModule>,
}

/// A module at certain addresses of its variables.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    /// What its functions share.
    pub data: Arc<ModuleData>,
    /// Kernels.
    pub functions: Vec<Arc<Function>>,
}

struct Entry {
    /// The image, unless it is the text itself.
    image: Option<Box<[u8]>>,
    parsed: Parsed,
    /// Most recently used first.
    placed: VecDeque<Placed>,
}

impl Entry {
    fn bytes(&self) -> usize {
        self.image.as_ref().map_or(0, |i| i.len()) + self.parsed.source.len()
    }

    fn is_of(&self, image: &[u8]) -> bool {
        let own = self.image.as_deref();
        own.unwrap_or(self.parsed.source.as_bytes()) == image
    }
}

/// Most recently used first.
static CACHE: Mutex<VecDeque<Entry>> = Mutex::new(VecDeque::new());

fn with<T>(f: impl FnOnce(&mut VecDeque<Entry>) -> T) -> T {
    f(&mut CACHE.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The parsed form of an image that was loaded before.
pub(crate) fn parsed(image: &[u8]) -> Option<Parsed> {
    with(|list| {
        let at = list.iter().position(|e| e.is_of(image))?;
        let entry = list.remove(at)?;
        let parsed = entry.parsed.clone();
        list.push_front(entry);
        Some(parsed)
    })
}

/// Keeps the parsed form of an image.
pub(crate) fn keep(image: &[u8], parsed: &Parsed) {
    let entry = Entry {
        image: (image != parsed.source.as_bytes()).then(|| image.into()),
        parsed: parsed.clone(),
        placed: VecDeque::new(),
    };
    if entry.bytes() > MAX_CACHED_BYTES {
        return;
    }
    with(|list| {
        if list.iter().any(|e| e.is_of(image)) {
            return; // another session was faster
        }
        list.push_front(entry);
        let mut bytes: usize = list.iter().map(Entry::bytes).sum();
        while bytes > MAX_CACHED_BYTES
            && let Some(old) = list.pop_back()
        {
            bytes -= old.bytes();
        }
    });
}

/// Kernels of a module whose variables lie where those of `data` do, with their code.
pub(crate) fn placed(data: &ModuleData) -> Option<Placed> {
    with(|list| {
        let own = |e: &&mut Entry| Arc::ptr_eq(&e.parsed.ptx, &data.ptx);
        let places = &mut list.iter_mut().find(own)?.placed;
        let at = places.iter().position(|p| p.data.same_place(data))?;
        let placed = places.remove(at)?;
        places.push_front(placed.clone());
        Some(placed)
    })
}

/// Keeps the kernels of a module.
pub(crate) fn place(placed: &Placed) {
    with(|list| {
        let own = |e: &&mut Entry| Arc::ptr_eq(&e.parsed.ptx, &placed.data.ptx);
        if let Some(entry) = list.iter_mut().find(own) {
            entry.placed.push_front(placed.clone());
            entry.placed.truncate(MAX_PLACES);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::AddressSpace;
    use crate::module::{LoadOptions, Module};

    fn text(name: &str, bytes: usize) -> String {
        format!(
            ".version 8.0\n.target sm_80\n.address_size 64\n.visible .global .b32 v;\n\
             .visible .entry {name}()\n{{\nret;\n}}\n//{}\n",
            "x".repeat(bytes)
        )
    }

    /// One test, since the cache is one for the process.
    #[test]
    fn kernels_are_found_again_and_the_oldest_go() {
        let space = Arc::new(AddressSpace::new(1 << 20).unwrap());
        let load =
            |text: &str| Module::load(text.as_bytes(), &LoadOptions::default(), &space).unwrap();
        let same = |a: &Arc<Function>, m: &Module| Arc::ptr_eq(a, &m.functions()[0]);
        let first = text("first", 10);
        let a = load(&first);
        let kernel = a.functions()[0].clone();
        // Other addresses: the text is shared, the code is not.
        let b = load(&first);
        assert!(!same(&kernel, &b));
        assert_eq!(kernel.name(), b.functions()[0].name());
        drop((a, b));
        // The same address as at first.
        let a = load(&first);
        assert!(same(&kernel, &a));
        drop(a);
        // More than there is room for: the first one is gone.
        for n in 0..5 {
            load(&text(&format!("large{n}"), MAX_CACHED_BYTES / 4 - 400));
        }
        let bytes: usize = with(|l| l.iter().map(Entry::bytes).sum());
        assert!(bytes <= MAX_CACHED_BYTES);
        assert!(parsed(first.as_bytes()).is_none());
        // One that does not fit at all is loaded, but not kept.
        let large = text("huge", MAX_CACHED_BYTES);
        load(&large);
        assert!(parsed(large.as_bytes()).is_none());
        let fits = text("fits", MAX_CACHED_BYTES - 400);
        load(&fits);
        assert!(parsed(fits.as_bytes()).is_some());
    }
}
