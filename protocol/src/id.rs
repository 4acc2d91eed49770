//! Names and numbers that tell things apart.

use alloc::string::String;
use alloc::sync::Arc;
use core::borrow::Borrow;
use core::fmt;
use core::ops::Deref;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text as it stands on the wire.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(Arc::from(text))
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(Arc::from(text))
            }
        }

        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

name! {
    /// A node's name in the ring, chosen by its operator or generated once per home folder.
    NodeId
}
name! {
    /// One generation, from prompt to last token. The reference uses version-4 UUIDs.
    RequestId
}
name! {
    /// A model's name as it stands in a shard object on the wire.
    ModelId
}

/// Whether a text can be printed on a terminal as it is: it holds nothing that moves the cursor, turns
/// the direction of writing, or is not seen.
#[must_use]
pub fn is_printable(text: &str) -> bool {
    !text.contains(is_unseen)
}

fn is_unseen(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(letter, '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Makes a name that somebody else chose [printable](is_printable), and cuts off what is beyond
/// [`NodeId::MOST`] bytes.
pub(crate) fn tidy(name: &mut String) {
    if !is_printable(name) {
        *name = name.replace(is_unseen, "\u{fffd}");
    }
    if name.len() > NodeId::MOST {
        name.truncate(name.floor_char_boundary(NodeId::MOST));
    }
}

impl NodeId {
    /// The most bytes of an id that another node may have.
    pub const MOST: usize = 256;

    /// Whether a node may have this text as its id: not empty, not long, and
    /// [printable](is_printable).
    #[must_use]
    pub fn is_fit(text: &str) -> bool {
        (1..=Self::MOST).contains(&text.len()) && is_printable(text)
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

number! {
    /// One transport connection; numbered by the driver, never reused.
    ConnectionId
}
number! {
    /// One attempt to connect; numbered by the node, never reused.
    DialId
}
number! {
    /// One [`EngineCommand`](crate::engine::EngineCommand); numbered by the node, never reused.
    CallId
}
number! {
    /// One announcement of this node to another over TCP; numbered by the node, never reused.
    AskId
}
number! {
    /// One announcement of another node to this one over TCP; numbered by the driver, never reused.
    VisitId
}
