//! Analyses over the intermediate form.

pub mod cfg;
pub mod liveness;
pub mod normal;
pub mod reuse;
pub mod shapes;
pub mod varies;
pub mod webs;
