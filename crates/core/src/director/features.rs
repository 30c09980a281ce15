//! What the tables hold that few do, counted, so that packets need not look for it
//! where it is not.

/// How many there are of each bit of [`evenkeel_datapath::layout::features`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Features([u32; COUNT]);

/// Bits.
const COUNT: usize = 11;

impl Features {
    /// One more that has these.
    pub(super) fn add(&mut self, bits: u32) {
        for (bit, count) in self.0.iter_mut().enumerate() {
            *count += bits >> bit & 1;
        }
    }

    /// One less that has these.
    pub(super) fn remove(&mut self, bits: u32) {
        for (bit, count) in self.0.iter_mut().enumerate() {
            *count -= bits >> bit & 1;
        }
    }

    /// What there is.
    pub(super) fn bits(&self) -> u32 {
        let there = self.0.iter().enumerate().filter(|(_, count)| **count > 0);
        there.fold(0, |bits, (bit, _)| bits | 1 << bit)
    }
}
