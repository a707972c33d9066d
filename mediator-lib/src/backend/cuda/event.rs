//! Events.

use std::sync::Arc;

use vgpu_protocol::calls::CtxId;

use super::sys::object::Event;

/// An event as the session's table holds it.
#[derive(Debug)]
pub struct EventEntry {
    /// Its context.
    pub ctx: CtxId,
    /// The event.
    pub event: Arc<Event>,
}
