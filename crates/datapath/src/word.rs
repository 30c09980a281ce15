//! Words of memory that the packet path, on all CPUs, and the daemon share.
//!
//! On the host a [`Word`] is an atomic. The BPF target has no 32-bit atomics in
//! `core`, so there it is a cell: plain loads and stores, which the kernel's
//! memory is accessed with anyway. What must be one step (add, compare and swap)
//! goes through [`crate::host::Host`], because BPF needs an intrinsic for it.
//!
//! Loads and stores are relaxed. Publication order is made by the compare and
//! swap, which is a full barrier on both sides; so is adding to 32 bits.

#[cfg(not(target_arch = "bpf"))]
mod imp {
    use core::sync::atomic::{
        AtomicU32, AtomicU64,
        Ordering::{Relaxed, SeqCst},
    };

    /// 32 shared bits.
    #[repr(transparent)]
    #[derive(Debug, Default)]
    pub struct Word(pub AtomicU32);

    /// 64 shared bits.
    #[repr(transparent)]
    #[derive(Debug, Default)]
    pub struct Word64(pub AtomicU64);

    impl Clone for Word {
        /// A word of its own, with the present value.
        fn clone(&self) -> Self {
            Self(self.get().into())
        }
    }

    impl Clone for Word64 {
        /// A word of its own, with the present value.
        fn clone(&self) -> Self {
            Self(self.get().into())
        }
    }

    impl Word {
        /// The present value.
        #[inline(always)]
        pub fn get(&self) -> u32 {
            self.0.load(Relaxed)
        }
        /// Stores `value`.
        #[inline(always)]
        pub fn set(&self, value: u32) {
            self.0.store(value, Relaxed);
        }
        /// Stores `new` if the value is `old`; true when it was. A full barrier.
        #[inline(always)]
        pub fn compare_and_swap(&self, old: u32, new: u32) -> bool {
            self.0.compare_exchange(old, new, SeqCst, SeqCst).is_ok()
        }
        /// Adds, wrapping; gives the value before. A full barrier.
        #[inline(always)]
        pub fn add(&self, amount: u32) -> u32 {
            self.0.fetch_add(amount, SeqCst)
        }
        /// Subtracts, wrapping; gives the value before. A full barrier.
        #[inline(always)]
        pub fn subtract(&self, amount: u32) -> u32 {
            self.0.fetch_sub(amount, SeqCst)
        }
    }

    impl Word64 {
        /// The present value.
        #[inline(always)]
        pub fn get(&self) -> u64 {
            self.0.load(Relaxed)
        }
        /// Stores `value`.
        #[inline(always)]
        pub fn set(&self, value: u64) {
            self.0.store(value, Relaxed);
        }
        /// Adds, wrapping; gives the value before.
        #[inline(always)]
        pub fn add(&self, amount: u64) -> u64 {
            self.0.fetch_add(amount, Relaxed)
        }
    }
}

#[cfg(target_arch = "bpf")]
mod imp {
    use core::cell::Cell;

    /// 32 shared bits.
    #[repr(transparent)]
    pub struct Word(pub Cell<u32>);

    /// 64 shared bits.
    #[repr(transparent)]
    pub struct Word64(pub Cell<u64>);

    impl Word {
        /// The present value.
        #[inline(always)]
        pub fn get(&self) -> u32 {
            self.0.get()
        }
        /// Stores `value`.
        #[inline(always)]
        pub fn set(&self, value: u32) {
            self.0.set(value);
        }
    }

    impl Word64 {
        /// The present value.
        #[inline(always)]
        pub fn get(&self) -> u64 {
            self.0.get()
        }
        /// Stores `value`.
        #[inline(always)]
        pub fn set(&self, value: u64) {
            self.0.set(value);
        }
    }
}

pub use imp::{Word, Word64};
