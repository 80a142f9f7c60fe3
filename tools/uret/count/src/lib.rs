// SPDX-License-Identifier: GPL-2.0-only

//! Counts what each CPU executes between markers, split into host and guest (SVM).
//!
//! [`count::Counter`] is told of every instruction, [`record::Record`] is what comes out of it,
//! and [`classify::Marker`] is how the measured program says what it is doing. Markers are not
//! counted. An instruction counts when it is started: one that faults and starts again, twice.

pub mod classify;
pub mod count;
pub mod record;
