//! What one run over the layers computes on.

use super::rope::Offset;
use crate::cache::KvCache;
use mlx_rs::Array;
use mlx_rs::error::{Exception, Result};
use mlx_rs::ops::{arange, logical_and};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

/// New positions that go through the layers together.
pub(crate) struct Step<'a> {
    past: Past<'a>,
    /// New positions of each row.
    length: i32,
    offset: Offset,
    /// After the next layer only the last position is needed.
    last_only: bool,
    /// Those that were needed, so that layers share them.
    masks: Masks,
}

/// What came before the new positions.
pub(crate) enum Past<'a> {
    /// Nothing: every row is a whole sequence.
    None,
    /// A request for each row.
    Requests(&'a mut [&'a mut KvCache]),
}

/// Which keys a query sees.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mask<'a> {
    /// All.
    All,
    /// Those at its position and before.
    Causal,
    /// Those where this is true, `[queries, keys]`.
    Array(&'a Array),
}

impl fmt::Debug for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step")
            .field("length", &self.length)
            .field("offset", &self.offset)
            .field("last_only", &self.last_only)
            .finish_non_exhaustive()
    }
}

impl<'a> Step<'a> {
    /// Whole sequences of `length` positions, from position zero.
    pub(crate) fn whole(length: i32) -> Self {
        Self {
            past: Past::None,
            length,
            offset: Offset::One(0),
            last_only: false,
            masks: Masks::new(),
        }
    }

    /// `length` new positions of each request; more than one request may have one each.
    pub(crate) fn of_requests(requests: &'a mut [&'a mut KvCache], length: i32) -> Result<Self> {
        let positions = requests.iter().map(|cache| i32::try_from(cache.len()));
        let positions = positions
            .collect::<std::result::Result<Vec<_>, _>>()
            .map_err(|_| Exception::custom("a position does not fit into 32 bits"))?;
        let offset = match *positions.as_slice() {
            [one] => Offset::One(one),
            ref each if length == 1 => Offset::Each(Array::from_slice(each, &[each.len() as i32])),
            ref each => {
                let rows = each.len();
                return Err(Exception::custom(format!(
                    "{rows} requests with {length} positions each do not go together"
                )));
            }
        };
        Ok(Self {
            past: Past::Requests(requests),
            length,
            offset,
            last_only: false,
            masks: Masks::new(),
        })
    }

    /// From the next layer on, only the last position of each row is asked for.
    pub(crate) fn ask_for_last(&mut self) {
        self.last_only = true;
    }

    /// The positions that are asked for, of what enters a layer.
    pub(crate) fn asked(&self, x: &Array) -> Result<Array> {
        if self.last_only && self.length > 1 {
            super::last_position(x)
        } else {
            Ok(x.clone())
        }
    }

    /// How many positions of each row are asked for.
    pub(crate) fn queries(&self) -> i32 {
        if self.last_only { 1 } else { self.length }
    }

    /// The position of the first query, for turning it.
    pub(crate) fn query_offset(&self) -> Offset {
        match &self.offset {
            Offset::One(offset) => Offset::One(offset + self.length - self.queries()),
            // One position each: there is none to leave out.
            each @ Offset::Each(_) => each.clone(),
        }
    }

    /// The position of the first key.
    pub(crate) fn key_offset(&self) -> &Offset {
        &self.offset
    }

    pub(crate) fn past(&mut self) -> &mut Past<'a> {
        &mut self.past
    }

    /// Which of `keys` the queries see, who stand at the last of their positions, when a position
    /// sees `window` of them.
    pub(crate) fn mask(&mut self, keys: i32, window: Option<u32>) -> Result<Mask<'_>> {
        let queries = self.queries();
        match narrow(window, keys) {
            None if queries == 1 => Ok(Mask::All),
            None => Ok(Mask::Causal),
            window => array(&mut self.masks, queries, keys, window).map(Mask::Array),
        }
    }

    /// [`Step::mask`] as an array always, or nothing if all are seen.
    pub(crate) fn mask_array(&mut self, keys: i32, window: Option<u32>) -> Result<Option<&Array>> {
        let queries = self.queries();
        let window = narrow(window, keys);
        if queries == 1 && window.is_none() {
            return Ok(None);
        }
        array(&mut self.masks, queries, keys, window).map(Some)
    }
}

/// By queries, keys and window.
type Masks = BTreeMap<(i32, i32, Option<i32>), Array>;

/// A window that hides something.
fn narrow(window: Option<u32>, keys: i32) -> Option<i32> {
    let window = window.and_then(|window| i32::try_from(window).ok());
    window.filter(|&window| window < keys)
}

fn array(masks: &mut Masks, queries: i32, keys: i32, window: Option<i32>) -> Result<&Array> {
    match masks.entry((queries, keys, window)) {
        Entry::Occupied(entry) => Ok(entry.into_mut()),
        Entry::Vacant(entry) => {
            let query = arange::<i32, i32>(keys - queries, keys, 1)?.expand_dims(1)?;
            let key = arange::<i32, i32>(0, keys, 1)?.expand_dims(0)?;
            let mut seen = key.le(&query)?;
            if let Some(window) = window {
                let within = query.lt(key.add(Array::from_int(window))?)?;
                seen = logical_and(seen, within)?;
            }
            Ok(entry.insert(seen))
        }
    }
}
