// SPDX-License-Identifier: GPL-2.0-only

//! Counts the instructions of each CPU between markers, for the host and for guests (SVM).
//!
//! [`count::Counter`] is called for each instruction. [`classify::Marker`] marks the operations of
//! the measured program, and [`record::Record`] is the result. Markers are not counted. An
//! instruction counts at its start: twice if the instruction faults and starts again.

pub mod classify;
pub mod count;
pub mod record;
