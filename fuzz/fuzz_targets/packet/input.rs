//! Choices that an input makes.

/// Chooses by the bytes of an input, or by a generator that a part of it names. Where the
/// tests of the packet path have a generator alone, here this stands.
pub(crate) enum Random<'a> {
    /// Each choice is a byte or two; 0 when there are no more.
    Bytes(&'a [u8]),
    /// What follows from a number.
    Seed(u64),
}

impl<'a> Random<'a> {
    pub(crate) fn next(&mut self) -> u32 {
        match self {
            Self::Bytes(bytes) => {
                let (now, rest) = bytes.split_at(bytes.len().min(4));
                *bytes = rest;
                now.iter()
                    .fold(0, |word, &byte| word << 8 | u32::from(byte))
            }
            Self::Seed(state) => {
                // Never 0, from which it would not come away.
                *state |= 1 << 63;
                *state ^= *state << 13;
                *state ^= *state >> 7;
                *state ^= *state << 17;
                (*state >> 16) as u32
            }
        }
    }

    /// 0 to `limit` less one, which is not 0.
    pub(crate) fn below(&mut self, limit: u32) -> u32 {
        let length = if limit > 256 { 2 } else { 1 };
        match self {
            Self::Bytes(_) => {
                let bytes = self.take(length).iter();
                bytes.fold(0, |word, &byte| word << 8 | u32::from(byte)) % limit
            }
            Self::Seed(_) => self.next() % limit,
        }
    }

    pub(crate) fn one_in(&mut self, many: u32) -> bool {
        // Not 0, which is what an input that has ended says.
        self.below(many) == many - 1
    }

    pub(crate) fn of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len() as u32) as usize]
    }

    /// Up to `length` bytes as they stand; of a generator none.
    pub(crate) fn take(&mut self, length: usize) -> &'a [u8] {
        match self {
            Self::Bytes(bytes) => {
                let (now, rest) = bytes.split_at(bytes.len().min(length));
                *bytes = rest;
                now
            }
            Self::Seed(_) => &[],
        }
    }

    /// True: there is nothing left to choose by.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self, Self::Bytes([]))
    }
}
