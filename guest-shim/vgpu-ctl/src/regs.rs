//! `vgpu-ctl regs`.

use std::fmt::Write;

use anyhow::Result;
use vgpu_protocol::limits::MAX_CHANNELS;
use vgpu_protocol::regs::{
    Access, ChannelReg, ChannelState, MAGIC, REGISTERS, Reg, channel_offset,
};
use vgpu_transport::bars::Bars;

/// The control registers and one line per channel.
pub fn text(bars: &dyn Bars) -> Result<String> {
    let mut out = format!("{}\n", bars.found());
    for row in REGISTERS.iter().filter(|r| r.access != Access::Wo) {
        let value = bars.read32(row.offset)?;
        writeln!(out, "{:#05x}  {:<18} {value:#010x}", row.offset, row.name)?;
    }
    if bars.read32(Reg::Magic.offset())? != MAGIC {
        return Ok(out);
    }
    writeln!(out, "channel  state      fault  generation  owner")?;
    let channels = bars.read32(Reg::Channels.offset())?.min(MAX_CHANNELS);
    for channel in 0..channels {
        let read = |reg| bars.read32(channel_offset(channel, reg));
        let state = match ChannelState::from_bits(read(ChannelReg::State)?) {
            Some(ChannelState::Free) => "free",
            Some(ChannelState::Claimed) => "claimed",
            Some(ChannelState::Resetting) => "resetting",
            Some(ChannelState::Failed) => "failed",
            None => "?",
        };
        writeln!(
            out,
            "{channel:>7}  {state:<9}  {:>5}  {:>10}  {:>5}",
            read(ChannelReg::Fault)?,
            read(ChannelReg::Generation)?,
            read(ChannelReg::Owner)?
        )?;
    }
    Ok(out)
}
