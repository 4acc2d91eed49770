//! Values as bytes: numbers in seven-bit groups, everything else behind its length or its number.
//!
//! The same bytes are written into a file and summed up in a hash. Every struct is taken apart
//! field by field and every enum variant by variant: a new field that is not written here does not
//! compile.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4};
use core::time::Duration;

/// Where bytes go.
pub(super) trait Sink {
    fn write(&mut self, bytes: &[u8]);
}

impl Sink for Vec<u8> {
    fn write(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Bytes that are not what was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Damage(pub(super) &'static str);

const SHORT: Damage = Damage("it ends too early");

/// Bytes that are read from the front.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'a>(pub(super) &'a [u8]);

impl<'a> Source<'a> {
    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Damage> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(SHORT)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Damage> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(SHORT)?;
        self.0 = rest;
        Ok(*taken)
    }

    /// How many of something follow that takes at least a byte each.
    fn count(&mut self) -> Result<usize, Damage> {
        let count = usize::take(self)?;
        if count > self.0.len() {
            return Err(SHORT);
        }
        Ok(count)
    }
}

/// Something that has a form in bytes.
pub(super) trait Item: Sized {
    fn put<S: Sink>(&self, out: &mut S);
    fn take(from: &mut Source<'_>) -> Result<Self, Damage>;
}

/// Structs whose form is that of their fields, one after the other.
macro_rules! fields {
    ($($type:ident { $($field:ident),* $(,)? })*) => { $(
        impl Item for $type {
            fn put<S: Sink>(&self, out: &mut S) {
                let Self { $($field),* } = self;
                $($field.put(out);)*
            }

            fn take(from: &mut Source<'_>) -> Result<Self, Damage> {
                Ok(Self { $($field: Item::take(from)?),* })
            }
        }
    )* };
}

/// Enums whose form is a variant's number and then its fields.
macro_rules! variants {
    ($($type:ident { $(
        $number:literal = $variant:ident $({ $($field:ident),* })? $(( $($value:ident),* ))?
    ),* $(,)? })*) => { $(
        impl Item for $type {
            fn put<S: Sink>(&self, out: &mut S) {
                match self { $(
                    Self::$variant $({ $($field),* })? $(( $($value),* ))? => {
                        out.write(&[$number]);
                        $($($field.put(out);)*)?
                        $($($value.put(out);)*)?
                    }
                )* }
            }

            fn take(from: &mut Source<'_>) -> Result<Self, Damage> {
                match from.array::<1>()? { $(
                    [$number] => Ok(Self::$variant
                        $({ $($field: Item::take(from)?),* })?
                        $(( $({ let $value = Item::take(from)?; $value }),* ))?),
                )*
                    _ => Err(Damage(concat!("an unknown ", stringify!($type)))),
                }
            }
        }
    )* };
}

/// Types around one other value.
macro_rules! wrappers {
    ($($type:ident)*) => { $(
        impl Item for $type {
            fn put<S: Sink>(&self, out: &mut S) {
                self.0.put(out);
            }

            fn take(from: &mut Source<'_>) -> Result<Self, Damage> {
                Item::take(from).map(Self)
            }
        }
    )* };
}

/// Types that come from a text and give it back.
macro_rules! names {
    ($($type:ident)*) => { $(
        impl Item for $type {
            fn put<S: Sink>(&self, out: &mut S) {
                crate::record::codec::put_text(out, self);
            }

            fn take(from: &mut Source<'_>) -> Result<Self, Damage> {
                String::take(from).map(Self::from)
            }
        }
    )* };
}

pub(super) use {fields, names, variants, wrappers};

impl Item for u64 {
    fn put<S: Sink>(&self, out: &mut S) {
        let mut rest = *self;
        while rest >= 0x80 {
            out.write(&[rest as u8 | 0x80]);
            rest >>= 7;
        }
        out.write(&[rest as u8]);
    }

    fn take(from: &mut Source<'_>) -> Result<Self, Damage> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = from.array()?;
            value |= Self::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Damage("a number that does not end"))
    }
}

/// Narrower numbers as the widest.
macro_rules! numbers {
    ($($type:ident)*) => { $(
        impl Item for $type {
            fn put<S: Sink>(&self, out: &mut S) {
                (*self as u64).put(out);
            }

            fn take(from: &mut Source<'_>) -> Result<Self, Damage> {
                Self::try_from(u64::take(from)?).map_err(|_| Damage("a number too large"))
            }
        }
    )* };
}

numbers! { u8 u16 u32 usize }

impl Item for i64 {
    fn put<S: Sink>(&self, out: &mut S) {
        out.write(&self.to_le_bytes());
    }

    fn take(from: &mut Source<'_>) -> Result<Self, Damage> {
        from.array().map(Self::from_le_bytes)
    }
}

impl Item for f32 {
    fn put<S: Sink>(&self, out: &mut S) {
        out.write(&self.to_le_bytes());
    }

    fn take(from: &mut Source<'_>) -> Result<Self, Damage> {
        from.array().map(Self::from_le_bytes)
    }
}

impl Item for f64 {
    fn put<S: Sink>(&self, out: &mut S) {
        out.write(&self.to_le_bytes());
    }

    fn take(from: &mut Source<'_>) -> Result<Self, Damage> {
        from.array().map(Self::from_le_bytes)
    }
}

impl Item for bool {
    fn put<S: Sink>(&self, out: &mut S) {
        out.write(&[u8::from(*self)]);
    }

    fn take(from: &mut Source<'_>) -> Result<Self, Damage> {
        match from.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(Damage("a truth value that is none")),
        }
    }
}

impl Item for [u8; 4] {
    fn put<S: Sink>(&self, out: &mut S) {
        out.write(self);
    }

    fn take(from: &mut Source<'_>) -> Result<Self, Damage> {
        from.array()
    }
}

impl Item for Ipv4Addr {
    fn put<S: Sink>(&self, out: &mut S) {
        self.octets().put(out);
    }

    fn take(from: &mut Source<'_>) -> Result<Self, Damage> {
        <[u8; 4]>::take(from).map(Self::from)
    }
}

impl Item for IpAddr {
    fn put<S: Sink>(&self, out: &mut S) {
        // Version 4 is a part of version 6.
        let bits = match self {
            Self::V4(address) => address.to_ipv6_mapped(),
            Self::V6(address) => *address,
        }
        .to_bits();
        ((bits >> 64) as u64, bits as u64).put(out);
    }

    fn take(from: &mut Source<'_>) -> Result<Self, Damage> {
        let (high, low) = <(u64, u64)>::take(from)?;
        let address = Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low));
        Ok(Self::V6(address).to_canonical())
    }
}

impl Item for SocketAddrV4 {
    fn put<S: Sink>(&self, out: &mut S) {
        (*self.ip(), self.port()).put(out);
    }

    fn take(from: &mut Source<'_>) -> Result<Self, Damage> {
        let (address, port) = Item::take(from)?;
        Ok(Self::new(address, port))
    }
}

impl Item for Duration {
    fn put<S: Sink>(&self, out: &mut S) {
        self.as_secs().put(out);
        self.subsec_nanos().put(out);
    }

    fn take(from: &mut Source<'_>) -> Result<Self, Damage> {
        let seconds = u64::take(from)?;
        match u32::take(from)? {
            nanos @ ..1_000_000_000 => Ok(Self::new(seconds, nanos)),
            _ => Err(Damage("a second of too many nanoseconds")),
        }
    }
}

pub(super) fn put_text<S: Sink>(out: &mut S, text: &str) {
    text.len().put(out);
    out.write(text.as_bytes());
}

impl Item for String {
    fn put<S: Sink>(&self, out: &mut S) {
        put_text(out, self);
    }

    fn take(from: &mut Source<'_>) -> Result<Self, Damage> {
        let count = from.count()?;
        let text = core::str::from_utf8(from.bytes(count)?);
        text.map(ToString::to_string)
            .map_err(|_| Damage("a text that is not UTF-8"))
    }
}

impl Item for Arc<str> {
    fn put<S: Sink>(&self, out: &mut S) {
        put_text(out, self);
    }

    fn take(from: &mut Source<'_>) -> Result<Self, Damage> {
        String::take(from).map(Self::from)
    }
}

impl Item for Bytes {
    fn put<S: Sink>(&self, out: &mut S) {
        put_pieces(out, [self, &[]]);
    }

    fn take(from: &mut Source<'_>) -> Result<Self, Damage> {
        take_bytes(from).map(Self::from)
    }
}

impl<T: Item> Item for Option<T> {
    fn put<S: Sink>(&self, out: &mut S) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }

    fn take(from: &mut Source<'_>) -> Result<Self, Damage> {
        bool::take(from)?.then(|| T::take(from)).transpose()
    }
}

impl<A: Item, B: Item> Item for (A, B) {
    fn put<S: Sink>(&self, out: &mut S) {
        self.0.put(out);
        self.1.put(out);
    }

    fn take(from: &mut Source<'_>) -> Result<Self, Damage> {
        Ok((Item::take(from)?, Item::take(from)?))
    }
}

impl<T: Item, E: Item> Item for Result<T, E> {
    fn put<S: Sink>(&self, out: &mut S) {
        self.is_ok().put(out);
        match self {
            Ok(value) => value.put(out),
            Err(error) => error.put(out),
        }
    }

    fn take(from: &mut Source<'_>) -> Result<Self, Damage> {
        Ok(if bool::take(from)? {
            Ok(T::take(from)?)
        } else {
            Err(E::take(from)?)
        })
    }
}

impl<T: Item> Item for Vec<T> {
    fn put<S: Sink>(&self, out: &mut S) {
        self.len().put(out);
        for item in self {
            item.put(out);
        }
    }

    fn take(from: &mut Source<'_>) -> Result<Self, Damage> {
        let count = from.count()?;
        (0..count).map(|_| T::take(from)).collect()
    }
}

/// Two pieces as one text of bytes. The zeros at its end are only counted: of a hidden state that
/// was blanked, nothing is left but its length.
pub(super) fn put_pieces<S: Sink>(out: &mut S, [head, body]: [&[u8]; 2]) {
    let used = |piece: &[u8]| {
        piece
            .iter()
            .rposition(|&byte| byte != 0)
            .map_or(0, |at| at + 1)
    };
    let (head_used, body_used) = match used(body) {
        0 => (used(head), 0),
        count => (head.len(), count),
    };
    let all = head.len() + body.len();
    (head_used + body_used).put(out);
    out.write(head.get(..head_used).unwrap_or_default());
    out.write(body.get(..body_used).unwrap_or_default());
    (all - head_used - body_used).put(out);
}

/// What [`put_pieces`] wrote, in one piece.
pub(super) fn take_bytes(from: &mut Source<'_>) -> Result<Vec<u8>, Damage> {
    /// No frame is longer, so that nothing else can make a reader run out of memory.
    const MOST: usize = 1 << 32;

    let count = from.count()?;
    let used = from.bytes(count)?;
    let all = count
        .checked_add(usize::take(from)?)
        .filter(|&all| all <= MOST)
        .ok_or(Damage("more bytes than any frame has"))?;
    let mut bytes = vec![0; all];
    if let Some(start) = bytes.get_mut(..count) {
        start.copy_from_slice(used);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
