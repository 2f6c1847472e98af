mod basics;
mod crash;
mod fixture;
mod full;
mod model;
pub(crate) mod simulated;
