// SPDX-License-Identifier: GPL-2.0

//! Tables of numbers in debugfs.

use kernel::{
    fmt,
    percpu::PerCpu, //
};

use core::iter::once;

use crate::registry::cpu::Counter;

/// A column of a table: the name, and the base of the numbers.
#[derive(Clone, Copy)]
pub(crate) enum Column {
    Decimal(&'static str),
    Hex(&'static str),
}

use Column::{
    Decimal,
    Hex, //
};

/// Writes a table: a line with the names of the columns, and a line for each row.
pub(crate) fn write_table(
    f: &mut fmt::Formatter<'_>,
    columns: impl IntoIterator<Item = Column> + Clone,
    rows: impl Iterator<Item: IntoIterator<Item = u64>>,
) -> fmt::Result {
    let mut space = "";

    for column in columns.clone() {
        let (Decimal(name) | Hex(name)) = column;

        write!(f, "{space}{name}")?;
        space = " ";
    }
    writeln!(f)?;

    for row in rows {
        let mut space = "";

        for (column, value) in columns.clone().into_iter().zip(row) {
            match column {
                Decimal(_) => write!(f, "{space}{value}")?,
                Hex(_) => write!(f, "{space}{value:#x}")?,
            }
            space = " ";
        }
        writeln!(f)?;
    }
    Ok(())
}

/// Writes a table of counters: a line for each possible CPU.
pub(crate) fn write_counters<T: Sync + 'static, const N: usize>(
    f: &mut fmt::Formatter<'_>,
    names: [&'static str; N],
    counters: PerCpu<T>,
    of_cpu: impl Fn(&T) -> [&Counter; N],
) -> fmt::Result {
    let columns = once("cpu").chain(names).map(Decimal);
    let rows = counters.possible_cpus().map(|(cpu, counters)| {
        once(u64::from(cpu.as_u32())).chain(of_cpu(counters).map(Counter::get))
    });

    write_table(f, columns, rows)
}
