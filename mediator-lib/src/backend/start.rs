//! What comes before all work of a session, the same on every backend: `cuInit`, the one device,
//! and who uses its primary context.

use vgpu_protocol::Status;
use vgpu_protocol::calls::CtxId;

/// Whether the session is initialised, and its primary context.
#[derive(Debug, Default)]
pub struct Start {
    initialized: bool,
    /// The primary context and how many users it has.
    primary: Option<(CtxId, u64)>,
}

impl Start {
    /// `cuInit`: flags must be 0.
    pub fn init(&mut self, flags: u32) -> Result<(), Status> {
        if flags != 0 {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        self.initialized = true;
        Ok(())
    }

    /// `ERROR_NOT_INITIALIZED` before `cuInit`.
    pub fn require_init(&self) -> Result<(), Status> {
        if self.initialized {
            Ok(())
        } else {
            Err(Status::ERROR_NOT_INITIALIZED)
        }
    }

    /// `ERROR_INVALID_DEVICE` for any but device 0, the session's only one.
    pub fn require_device(&self, device: u32) -> Result<(), Status> {
        self.require_init()?;
        if device == 0 {
            Ok(())
        } else {
            Err(Status::ERROR_INVALID_DEVICE)
        }
    }

    /// One more user of the primary context; `None` where it has to be made, for
    /// [`Start::set_primary`].
    pub fn retain(&mut self, device: u32) -> Result<Option<CtxId>, Status> {
        self.require_device(device)?;
        Ok(self.primary.as_mut().map(|(ctx, users)| {
            *users += 1;
            *ctx
        }))
    }

    /// Notes a new primary context with its first user.
    pub fn set_primary(&mut self, ctx: CtxId) -> CtxId {
        self.primary = Some((ctx, 1));
        ctx
    }

    /// One user less. The context is to be destroyed where it was the last one.
    ///
    /// # Errors
    /// `ERROR_INVALID_CONTEXT` where nobody uses it.
    pub fn release(&mut self, device: u32) -> Result<Option<CtxId>, Status> {
        self.require_device(device)?;
        match &mut self.primary {
            None => Err(Status::ERROR_INVALID_CONTEXT),
            Some((_, users)) if *users > 1 => {
                *users -= 1;
                Ok(None)
            }
            Some(_) => self.reset(device),
        }
    }

    /// The primary context.
    pub fn primary(&self) -> Option<CtxId> {
        self.primary.map(|(ctx, _)| ctx)
    }

    /// The primary context where one user is left.
    pub fn last_user(&self, device: u32) -> Result<Option<CtxId>, Status> {
        self.require_device(device)?;
        Ok(self.primary.filter(|(_, users)| *users == 1).map(|p| p.0))
    }

    /// Forgets the primary context, which is to be destroyed.
    pub fn reset(&mut self, device: u32) -> Result<Option<CtxId>, Status> {
        self.require_device(device)?;
        Ok(self.primary.take().map(|(ctx, _)| ctx))
    }

    /// `ERROR_INVALID_CONTEXT` for the primary context: `cuCtxDestroy` is not for it.
    pub fn require_not_primary(&self, which: CtxId) -> Result<(), Status> {
        self.require_init()?;
        match self.primary {
            Some((primary, _)) if primary == which => Err(Status::ERROR_INVALID_CONTEXT),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_user_gives_the_primary_context_up() {
        let mut start = Start::default();
        assert_eq!(start.retain(0), Err(Status::ERROR_NOT_INITIALIZED));
        assert_eq!(start.init(1), Err(Status::ERROR_INVALID_VALUE));
        start.init(0).expect("no flags");
        assert_eq!(start.retain(1), Err(Status::ERROR_INVALID_DEVICE));
        assert_eq!(start.retain(0), Ok(None));
        start.set_primary(CtxId(5));
        assert_eq!(start.retain(0), Ok(Some(CtxId(5))));
        assert_eq!(
            start.require_not_primary(CtxId(5)),
            Err(Status::ERROR_INVALID_CONTEXT)
        );
        assert_eq!(start.release(0), Ok(None));
        assert_eq!(start.release(0), Ok(Some(CtxId(5))));
        assert_eq!(start.release(0), Err(Status::ERROR_INVALID_CONTEXT));
        assert_eq!(start.reset(0), Ok(None));
    }
}
