//! What whoever looks at a download sees of it.

use std::sync::Mutex;

use crate::hub::{Cancel, Progress, Report};

/// Keeps the last report, and all troubles.
#[derive(Default)]
pub(in crate::hub) struct Seen {
    last: Mutex<Option<Report>>,
    troubles: Mutex<Vec<String>>,
    stop: Mutex<Option<(String, Cancel)>>,
}

impl Seen {
    pub(in crate::hub) fn last(self) -> Report {
        let last = self.last.into_inner().unwrap();
        last.expect("a report")
    }

    pub(in crate::hub) fn troubles(self) -> Vec<String> {
        self.troubles.into_inner().unwrap()
    }

    /// Stops when that file is begun.
    pub(in crate::hub) fn stop_before(&self, file: &str, cancel: Cancel) {
        *self.stop.lock().unwrap() = Some((file.to_owned(), cancel));
    }
}

impl Progress for Seen {
    fn report(&self, report: &Report) {
        *self.last.lock().unwrap() = Some(report.clone());
        if let Some((file, cancel)) = &*self.stop.lock().unwrap()
            && report
                .files
                .iter()
                .any(|one| one.name == *file && one.active)
        {
            cancel.cancel();
        }
    }

    fn trouble(&self, trouble: &str) {
        self.troubles.lock().unwrap().push(trouble.to_owned());
    }
}
