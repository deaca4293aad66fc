//! Values that an architecture defines, as an enum: opcodes, types of records.

/// Declares an enum of the values that an architecture defines, with `ALL`, `from_bits` and `bits`.
///
/// ```
/// host_access::encodings! {
///     /// Opcodes of a device.
///     pub enum Opcode {
///         /// Does nothing.
///         Nop = 0x00,
///         /// Completes when all earlier commands are complete.
///         Sync = 0x05,
///     }
/// }
/// assert_eq!(Opcode::from_bits(0x05), Some(Opcode::Sync));
/// assert_eq!(Opcode::from_bits(0x06), None);
/// assert_eq!(Opcode::ALL, [Opcode::Nop, Opcode::Sync]);
/// ```
#[macro_export]
macro_rules! encodings {
    (
        $(#[$about:meta])*
        pub enum $Enum:ident { $($(#[$doc:meta])* $name:ident = $value:literal,)* }
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum $Enum {
            $($(#[$doc])* $name = $value,)*
        }

        impl $Enum {
            /// All of them, ascending.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The value with this encoding; `None` when the architecture does not define it.
            pub const fn from_bits(bits: u64) -> Option<Self> {
                match bits {
                    $($value => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// Its encoding.
            pub const fn bits(self) -> u64 {
                match self {
                    $(Self::$name => $value,)*
                }
            }
        }
    };
}
