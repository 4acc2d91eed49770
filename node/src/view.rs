//! What people see of a ring, on a terminal or in a browser, made without either.
//!
//! `facts` says what is, out of what the node knows; `model` what of it is shown, out of that and of
//! what was shown before. `feed` tells it to browsers.

mod facts;
mod feed;
mod model;

pub(crate) use facts::Facts;
pub(crate) use feed::Feed;
pub(crate) use model::{Mark, Model, Place, Row, Task, View};

use crate::app::App;

impl Facts {
    /// What the node of `app` knows right now.
    pub(crate) fn of(app: &App) -> Self {
        let rings = app.events().rings();
        let rings = rings.values().map(Vec::as_slice);
        Self::new(&app.status(), rings, app.events().loads())
    }
}
