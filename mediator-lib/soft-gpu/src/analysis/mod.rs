//! Analyses over the intermediate form.

pub mod cfg;
pub mod constants;
pub mod liveness;
pub mod normal;
pub mod places;
pub mod reuse;
pub mod shapes;
pub mod varies;
pub mod webs;
