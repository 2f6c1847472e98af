mod basics;
mod crash;
mod damage;
pub(crate) mod fixture;
mod full;
mod model;
pub(crate) mod simulated;
