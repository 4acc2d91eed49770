//! A matrix cut into rectangles that threads may write at the same time.

use std::marker::PhantomData;
use std::ops::Range;

/// A row-major matrix on loan, cut into equal rectangles (smaller at the right and bottom edge).
#[derive(Debug)]
pub(crate) struct Tiles<'a, T> {
    start: *mut T,
    rows: usize,
    cols: usize,
    tile_rows: usize,
    tile_cols: usize,
    loan: PhantomData<&'a mut [T]>,
}

// SAFETY: promise 3: a shared `Tiles` gives out nothing by itself; a rectangle comes only from
// `claim`, whose caller promises that no two threads ask for the same one.
unsafe impl<T: Send> Sync for Tiles<'_, T> {}

impl<'a, T> Tiles<'a, T> {
    /// Cuts `matrix`, which has rows of `cols` elements, into rectangles of `tile_rows` by
    /// `tile_cols`. Elements after the last whole row belong to no rectangle.
    pub(crate) fn new(
        matrix: &'a mut [T],
        cols: usize,
        tile_rows: usize,
        tile_cols: usize,
    ) -> Self {
        let rows = matrix.len().checked_div(cols).unwrap_or(0);
        Self {
            start: matrix.as_mut_ptr(),
            rows,
            cols,
            tile_rows: tile_rows.max(1),
            tile_cols: tile_cols.max(1),
            loan: PhantomData,
        }
    }

    fn across(&self) -> usize {
        self.cols.div_ceil(self.tile_cols)
    }

    /// How many rectangles there are.
    pub(crate) fn count(&self) -> usize {
        self.rows.div_ceil(self.tile_rows) * self.across()
    }

    /// Rectangle `index`; those in one row of rectangles are neighbours.
    ///
    /// # Safety
    /// While the result lives, nobody else holds rectangle `index`.
    pub(crate) unsafe fn claim(&self, index: usize) -> Tile<'_, T> {
        assert!(index < self.count(), "there is no such rectangle");
        let (down, across) = (index / self.across(), index % self.across());
        let rows = down * self.tile_rows..((down + 1) * self.tile_rows).min(self.rows);
        let cols = across * self.tile_cols..((across + 1) * self.tile_cols).min(self.cols);
        Tile {
            start: self.start,
            width: self.cols,
            rows,
            cols,
            loan: PhantomData,
        }
    }
}

/// One rectangle, to be written by one thread.
#[derive(Debug)]
pub(crate) struct Tile<'a, T> {
    start: *mut T,
    width: usize,
    rows: Range<usize>,
    cols: Range<usize>,
    loan: PhantomData<&'a mut [T]>,
}

impl<T> Tile<'_, T> {
    /// Its rows in the matrix.
    pub(crate) fn rows(&self) -> Range<usize> {
        self.rows.clone()
    }

    /// Its columns in the matrix.
    pub(crate) fn cols(&self) -> Range<usize> {
        self.cols.clone()
    }

    /// Its part of row `row` of the matrix.
    pub(crate) fn row(&mut self, row: usize) -> &mut [T] {
        assert!(
            self.rows.contains(&row),
            "the row belongs to another rectangle"
        );
        // SAFETY: promise 3: `rows` and `cols` lie inside the borrowed matrix, rectangles do not
        // overlap, and this one is held by nobody else.
        unsafe {
            let start = self.start.add(row * self.width + self.cols.start);
            std::slice::from_raw_parts_mut(start, self.cols.len())
        }
    }
}
