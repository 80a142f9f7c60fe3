// SPDX-License-Identifier: GPL-2.0-only

//! Classifies instructions by their bytes, as far as the class is counted.
//!
//! Source: Intel SDM volume 2, "Instruction Format" and "Opcode Map", and AMD APM volume 3,
//! "Opcode and Operand Encodings". Only for 64-bit mode.

use serde::{Deserialize, Serialize};

macro_rules! classes {
    ($($variant:ident $name:literal,)*) => {
        /// A kind of instruction that is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Class {
            $(#[serde(rename = $name)] $variant,)*
        }

        impl Class {
            /// All classes.
            pub const ALL: &'static [Class] = &[$(Class::$variant),*];

            /// The name of the class in results.
            pub fn name(self) -> &'static str {
                match self {
                    $(Class::$variant => $name,)*
                }
            }
        }
    };
}

classes! {
    Instructions "instructions",
    Wrmsr "wrmsr",
    Wrmsrns "wrmsrns",
    Rdmsr "rdmsr",
    Swapgs "swapgs",
    Rdfsbase "rdfsbase",
    Rdgsbase "rdgsbase",
    Wrfsbase "wrfsbase",
    Wrgsbase "wrgsbase",
    Vmrun "vmrun",
    Vmload "vmload",
    Vmsave "vmsave",
    Lgdt "lgdt",
    Lidt "lidt",
    Ltr "ltr",
    Lldt "lldt",
    Clgi "clgi",
    Stgi "stgi",
    Locked "locked",
}

/// The number of classes.
pub const NR_CLASSES: usize = Class::ALL.len();

/// A marker of the measured program for the plugin, which is a NOP that no other code uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// A scenario begins.
    Begin,
    /// A sample starts. Instructions since the last sample belong to no sample.
    Start,
    /// An operation is complete: a sample ends, and the next sample starts.
    Operation,
    /// The scenario ends.
    End,
}

impl Marker {
    /// Recognizes `nopl DISPLACEMENT(%rax,%rax,1)` with a displacement of "urt" and a letter.
    pub fn of(code: &[u8]) -> Option<Self> {
        match code.strip_prefix(b"\x0f\x1f\x84\x00urt")? {
            b"B" => Some(Marker::Begin),
            b"S" => Some(Marker::Start),
            b"O" => Some(Marker::Operation),
            b"E" => Some(Marker::End),
            _ => None,
        }
    }
}

/// The classes of an instruction, besides [`Class::Instructions`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kind {
    pub class: Option<Class>,
    pub locked: bool,
}

/// Classifies an instruction.
pub fn classify(code: &[u8]) -> Kind {
    let prefixes = code.iter().take_while(|it| is_legacy_prefix(**it)).count();
    let (prefixes, rest) = code.split_at(prefixes);
    // REX is the last prefix.
    let rest = match rest {
        [0x40..=0x4f, rest @ ..] => rest,
        _ => rest,
    };
    Kind {
        class: class(prefixes, rest),
        locked: prefixes.contains(&0xf0),
    }
}

fn is_legacy_prefix(byte: u8) -> bool {
    matches!(
        byte,
        0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65 | 0x66 | 0x67 | 0xf0 | 0xf2 | 0xf3
    )
}

fn class(prefixes: &[u8], opcode: &[u8]) -> Option<Class> {
    let (memory, reg) = match opcode.get(2) {
        Some(modrm) => (modrm >> 6 != 3, modrm >> 3 & 7),
        None => (false, 0),
    };
    let mandatory = prefixes.iter().rfind(|it| matches!(it, 0xf2 | 0xf3));

    match opcode {
        [0x0f, 0x30, ..] => Some(Class::Wrmsr),
        [0x0f, 0x32, ..] => Some(Class::Rdmsr),
        [0x0f, 0x00, ..] if reg == 2 => Some(Class::Lldt),
        [0x0f, 0x00, ..] if reg == 3 => Some(Class::Ltr),
        [0x0f, 0x01, ..] if memory && reg == 2 => Some(Class::Lgdt),
        [0x0f, 0x01, ..] if memory && reg == 3 => Some(Class::Lidt),
        // With F2 or F3, the instruction is RDMSRLIST or WRMSRLIST.
        [0x0f, 0x01, 0xc6, ..] if mandatory.is_none() => Some(Class::Wrmsrns),
        [0x0f, 0x01, 0xd8, ..] => Some(Class::Vmrun),
        [0x0f, 0x01, 0xda, ..] => Some(Class::Vmload),
        [0x0f, 0x01, 0xdb, ..] => Some(Class::Vmsave),
        [0x0f, 0x01, 0xdc, ..] => Some(Class::Stgi),
        [0x0f, 0x01, 0xdd, ..] => Some(Class::Clgi),
        [0x0f, 0x01, 0xf8, ..] => Some(Class::Swapgs),
        [0x0f, 0xae, ..] if !memory && mandatory == Some(&0xf3) => match reg {
            0 => Some(Class::Rdfsbase),
            1 => Some(Class::Rdgsbase),
            2 => Some(Class::Wrfsbase),
            3 => Some(Class::Wrgsbase),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn is(code: &[u8], class: Option<Class>) {
        assert_eq!(classify(code).class, class, "{code:02x?}");
    }

    #[test]
    fn each_class_is_recognized() {
        is(&[0x0f, 0x30], Some(Class::Wrmsr));
        is(&[0x0f, 0x01, 0xc6], Some(Class::Wrmsrns));
        is(&[0x0f, 0x32], Some(Class::Rdmsr));
        is(&[0x0f, 0x01, 0xf8], Some(Class::Swapgs));
        is(&[0xf3, 0x48, 0x0f, 0xae, 0xc0], Some(Class::Rdfsbase));
        is(&[0xf3, 0x49, 0x0f, 0xae, 0xc8], Some(Class::Rdgsbase));
        is(&[0xf3, 0x48, 0x0f, 0xae, 0xd7], Some(Class::Wrfsbase));
        is(&[0xf3, 0x0f, 0xae, 0xdf], Some(Class::Wrgsbase));
        is(&[0x0f, 0x01, 0xd8], Some(Class::Vmrun));
        is(&[0x0f, 0x01, 0xda], Some(Class::Vmload));
        is(&[0x0f, 0x01, 0xdb], Some(Class::Vmsave));
        is(&[0x0f, 0x01, 0x54, 0x24, 0x08], Some(Class::Lgdt));
        is(&[0x0f, 0x01, 0x1d, 0, 0, 0, 0], Some(Class::Lidt));
        is(&[0x0f, 0x00, 0xd8], Some(Class::Ltr));
        is(&[0x0f, 0x00, 0x5c, 0x24, 0x08], Some(Class::Ltr));
        is(&[0x66, 0x0f, 0x00, 0xd0], Some(Class::Lldt));
        is(&[0x0f, 0x01, 0xdd], Some(Class::Clgi));
        is(&[0x0f, 0x01, 0xdc], Some(Class::Stgi));
    }

    #[test]
    fn neighbours_are_not_mistaken() {
        is(&[0x90], None);
        is(&[], None);
        is(&[0x0f], None);
        // RDTSC, SGDT, SIDT, VMCALL, VMMCALL, RDTSCP, STR, SLDT, FXSAVE, LFENCE.
        is(&[0x0f, 0x31], None);
        is(&[0x0f, 0x01, 0x04, 0x24], None);
        is(&[0x0f, 0x01, 0x0c, 0x24], None);
        is(&[0x0f, 0x01, 0xc1], None);
        is(&[0x0f, 0x01, 0xd9], None);
        is(&[0x0f, 0x01, 0xf9], None);
        is(&[0x0f, 0x00, 0xc8], None);
        is(&[0x0f, 0x00, 0xc0], None);
        is(&[0x0f, 0xae, 0x00], None);
        is(&[0x0f, 0xae, 0xe8], None);
        // XGETBV and XSETBV have the opcode of LGDT, without an operand in memory.
        is(&[0x0f, 0x01, 0xd0], None);
        is(&[0x0f, 0x01, 0xd1], None);
        // RDMSRLIST, WRMSRLIST.
        is(&[0xf2, 0x0f, 0x01, 0xc6], None);
        is(&[0xf3, 0x0f, 0x01, 0xc6], None);
        // PTWRITE, and XSAVEOPT without F3.
        is(&[0xf3, 0x0f, 0xae, 0xe0], None);
        is(&[0x0f, 0xae, 0x30], None);
        // An immediate that looks like WRMSR, in a VEX instruction and in a MOV.
        is(&[0xb8, 0x0f, 0x30, 0, 0], None);
        is(&[0xc5, 0xf8, 0x30, 0xc0], None);
    }

    #[test]
    fn lock_is_a_prefix_anywhere_before_the_opcode() {
        assert!(classify(&[0xf0, 0x48, 0xff, 0x00]).locked);
        assert!(classify(&[0x3e, 0xf0, 0x0f, 0xba, 0x28, 0x03]).locked);
        assert!(classify(&[0x66, 0xf0, 0xff, 0x00]).locked);
        assert!(!classify(&[0x48, 0xff, 0xf0]).locked);
        assert!(!classify(&[0x48, 0xf0]).locked);
    }

    #[test]
    fn markers_are_these_nops_only() {
        let marker = |letter: u8| [b"\x0f\x1f\x84\x00urt".as_slice(), &[letter]].concat();
        assert_eq!(Marker::of(&marker(b'B')), Some(Marker::Begin));
        assert_eq!(Marker::of(&marker(b'S')), Some(Marker::Start));
        assert_eq!(Marker::of(&marker(b'O')), Some(Marker::Operation));
        assert_eq!(Marker::of(&marker(b'E')), Some(Marker::End));
        assert_eq!(Marker::of(&marker(b'X')), None);
        assert_eq!(Marker::of(&[0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0]), None);
        assert_eq!(Marker::of(&[]), None);
    }
}
