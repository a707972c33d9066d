//! What of a launch does not change from one to the next of the same kernel and configuration.

use std::sync::Arc;

use super::{
    CALL_BYTES, LaunchConfig, LaunchError, MAX_BLOCK_DIM, MAX_BLOCK_LOCAL_BYTES,
    MAX_BLOCK_REGISTER_BYTES, MAX_GRID_DIM, MAX_SHARED_BYTES, MAX_THREADS_PER_BLOCK,
};
use crate::exec::insn::{FRAME_ALIGN, Program};
use crate::function::{Compiled, Function};
use crate::ir::SystemCall;

/// A checked configuration, and the memory that a block of it has.
#[derive(Debug)]
pub(crate) struct Plan {
    config: LaunchConfig,
    /// The context's limit of the stack, in bytes.
    stack: u64,
    pub compiled: Arc<Compiled>,
    /// Blocks of the grid, and threads and warps of a block.
    pub total: u64,
    pub threads: u64,
    pub warps: u64,
    pub shared_bytes: u32,
    /// Local memory of a thread.
    pub local_bytes: u64,
    /// Registers of a warp, in the optimised and in the reference code.
    registers: [usize; 2],
    /// It calls `printf`.
    pub prints: bool,
}

impl Plan {
    /// Checks a configuration; also tells whether the kernel was compiled for it just now.
    pub fn new(
        f: &Function,
        config: &LaunchConfig,
        stack: u64,
    ) -> Result<(Plan, bool), LaunchError> {
        let total = check(f, config)?;
        let (compiled, fresh) = f.compile(config.block).map_err(LaunchError::Unsupported)?;
        let shared_bytes = compiled
            .static_shared
            .next_multiple_of(16)
            .saturating_add(config.dynamic_shared_bytes);
        if shared_bytes > MAX_SHARED_BYTES {
            return Err(LaunchError::OutOfResources(format!(
                "{} static and {} dynamic bytes of shared memory, at most {MAX_SHARED_BYTES} are available",
                compiled.static_shared, config.dynamic_shared_bytes
            )));
        }
        let program = &compiled.optimised;
        let mut local = compiled.local_bytes;
        if program.has_calls {
            local += stack;
        }
        let threads: u64 = config.block.iter().map(|&v| u64::from(v)).product();
        if local * threads.next_multiple_of(32) > MAX_BLOCK_LOCAL_BYTES {
            return Err(LaunchError::OutOfResources(format!(
                "{local} bytes of local memory for each of {threads} threads, at most {MAX_BLOCK_LOCAL_BYTES} bytes per block"
            )));
        }
        let warps = threads.div_ceil(32);
        let registers = |p: &Program| {
            let first = p.functions.first().map_or(0, |f| u64::from(f.frame_bytes));
            // The frames of the next warp begin where those of this one may end.
            let room = MAX_BLOCK_REGISTER_BYTES / warps;
            let room = room - room % u64::from(FRAME_ALIGN);
            if first > room {
                return Err(LaunchError::OutOfResources(format!(
                    "{first} bytes of registers for each warp of {threads} threads, at most {MAX_BLOCK_REGISTER_BYTES} bytes per block"
                )));
            }
            if !p.has_calls {
                return Ok(first as usize);
            }
            // As many frames as the stack has room for.
            let depth = stack / CALL_BYTES + p.functions.len() as u64;
            let largest = p.functions.iter().map(|f| u64::from(f.frame_bytes)).max();
            Ok((first + depth * largest.unwrap_or(0)).min(room) as usize)
        };
        let registers = [registers(program)?, registers(&compiled.reference)?];
        let plan = Plan {
            config: *config,
            stack,
            total,
            threads,
            warps,
            shared_bytes,
            local_bytes: local.next_multiple_of(16),
            registers,
            prints: program.system & (1 << SystemCall::Printf as u32) != 0,
            compiled,
        };
        Ok((plan, fresh))
    }

    /// The configuration.
    pub fn config(&self) -> &LaunchConfig {
        &self.config
    }

    /// Whether it was made for this.
    pub fn is_for(&self, config: &LaunchConfig, stack: u64) -> bool {
        self.config == *config && self.stack == stack
    }

    /// Registers of a warp, in bytes.
    pub fn register_bytes(&self, reference: bool) -> usize {
        self.registers[usize::from(reference)]
    }

    /// Local memory and registers of a block, in bytes.
    pub fn block_bytes(&self, reference: bool) -> u64 {
        self.local_bytes * 32 * self.warps + self.register_bytes(reference) as u64 * self.warps
    }
}

/// Checks a configuration; returns the number of blocks.
fn check(f: &Function, cfg: &LaunchConfig) -> Result<u64, LaunchError> {
    for (k, axis) in ["x", "y", "z"].iter().enumerate() {
        let (b, max) = (cfg.block[k], MAX_BLOCK_DIM[k]);
        if b == 0 || b > max {
            return Err(LaunchError::InvalidConfig(format!(
                "block dimension {axis} = {b} is not in 1..={max}"
            )));
        }
        let (g, max) = (cfg.grid[k], MAX_GRID_DIM[k]);
        if g == 0 || g > max {
            return Err(LaunchError::InvalidConfig(format!(
                "grid dimension {axis} = {g} is not in 1..={max}"
            )));
        }
    }
    let threads: u64 = cfg.block.iter().map(|&v| u64::from(v)).product();
    let max = u64::from(f.max_threads_per_block());
    if threads > u64::from(MAX_THREADS_PER_BLOCK) {
        return Err(LaunchError::InvalidConfig(format!(
            "{threads} threads per block, at most {MAX_THREADS_PER_BLOCK} are allowed"
        )));
    }
    if threads > max {
        return Err(LaunchError::OutOfResources(format!(
            "{threads} threads per block, {} allows {max}",
            f.name()
        )));
    }
    Ok(cfg.grid.iter().map(|&v| u64::from(v)).product())
}
