//! A fuzzer's bytes as numbers.

/// Reads an input from its front. Once it is used up, everything is zero.
#[derive(Clone, Debug)]
pub(super) struct Source<'a>(&'a [u8]);

impl<'a> Source<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    /// A number in `0..bound`; `bound` is not zero.
    pub(super) fn below(&mut self, bound: u8) -> u8 {
        self.byte() % bound
    }

    /// True for one byte in `bound`, and not for zero.
    pub(super) fn one_in(&mut self, bound: u8) -> bool {
        self.below(bound) == bound - 1
    }

    /// Small numbers from one byte, and the ends of the range.
    pub(super) fn number(&mut self) -> u32 {
        match self.byte() {
            small @ 0..=249 => small.into(),
            250 => u32::MAX,
            251 => u32::MAX - 1,
            252 => 1 << 31,
            253 => u32::from(self.byte()) << 24,
            254 => u32::from(self.byte()) << 16,
            255 => u32::from(self.byte()) << 8,
        }
    }

    /// One of a list that is not empty.
    pub(super) fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        let length = u8::try_from(list.len()).unwrap_or(u8::MAX);
        list[usize::from(self.below(length))]
    }

    /// The next `length` bytes, or as many as there are.
    pub(super) fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Bytes behind their length.
    pub(super) fn bytes(&mut self) -> &'a [u8] {
        let length = match self.byte() {
            255 => 255 * usize::from(self.byte()),
            length => length.into(),
        };
        self.take(length)
    }
}
