mod basics;
mod crash;
pub(crate) mod fixture;
mod full;
mod model;
pub(crate) mod simulated;
