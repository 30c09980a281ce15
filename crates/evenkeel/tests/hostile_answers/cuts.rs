//! How an answer is cut in pieces: by itself, so that it is cut the same way again.

/// Numbers that follow from a first one.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) const fn from(first: u64) -> Self {
        Self(first | 1)
    }

    /// Those that a text stands for.
    pub(crate) fn of(text: &[u8]) -> Self {
        let sum = text.iter().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
            (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
        });
        Self::from(sum)
    }

    /// The next one, below a limit above 0.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        usize::try_from((self.0 >> 16) % limit).unwrap_or(0)
    }
}

/// Pieces of a text, none of them empty.
pub(crate) fn pieces(text: &[u8]) -> Vec<&[u8]> {
    let mut numbers = Numbers::of(text);
    // Of few bytes or of many.
    let most = 1 << (1 + numbers.below(10));
    let mut rest = text;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let count = 1 + numbers.below(most);
        let (piece, after) = rest.split_at(count.min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces
}
