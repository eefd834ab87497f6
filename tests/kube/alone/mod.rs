//! Stories that cannot have company: nodes or the operator go in them, or nothing may be written. They are played one after the other, and before all others,
//! whose names come later: so nobody waits for them but once.

pub(crate) mod alerts;
pub(crate) mod leader;
pub(crate) mod nodes;
pub(crate) mod rest;
pub(crate) mod uninstall;
pub(crate) mod watched;
