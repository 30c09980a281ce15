//! Arrays of the kernel, mapped into this process.

use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;

use evenkeel_datapath::layout::{
    Addresses, Bucket, ClientHop, Control, Counters, EndpointBucket, Interface, Load, MarkRules,
    Reasons, Server, Service, WideBucket, WideEndpointBucket,
};
use evenkeel_datapath::word::Word;
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, munmap};

/// Types that may stand in memory shared with the packet path.
///
/// # Safety
/// `repr(C)` or `repr(transparent)`, made of atomic words only: every bit pattern is
/// a value, and others may change it at any time.
pub(crate) unsafe trait Shared: Sync {}

macro_rules! shared {
    ($($name:ty),+) => {
        $(
            // SAFETY: a `repr(C)` struct of `Word` and `Word64`, or such a word.
            unsafe impl Shared for $name {}
        )+
    };
}
shared!(
    Bucket,
    ClientHop,
    Control,
    Counters,
    Addresses,
    EndpointBucket,
    Interface,
    Load,
    MarkRules,
    Reasons,
    Server,
    Service,
    WideBucket,
    WideEndpointBucket,
    Word
);

/// An array of `T`, mapped for as long as this lives. The kernel keeps the memory
/// as long as it is mapped, even when the map's last descriptor is closed.
pub(crate) struct Mapping<T> {
    start: NonNull<T>,
    count: usize,
    bytes: NonZeroUsize,
}

// SAFETY: a mapping belongs to the process and not to a thread, and `Shared` types
// may be read and written by all threads.
unsafe impl<T: Shared> Send for Mapping<T> {}
// SAFETY: as above.
unsafe impl<T: Shared> Sync for Mapping<T> {}

impl<T: Shared> Mapping<T> {
    /// Maps the array behind `map`. It must hold at least `count` values of `T`
    /// without gaps; the caller has checked this by the map's sizes. The kernel
    /// refuses (EINVAL) what lies beyond its end.
    pub(crate) fn new(map: impl AsFd, count: u32) -> nix::Result<Self> {
        let count = count as usize;
        let length = count * size_of::<T>();
        let bytes = NonZeroUsize::new(length).ok_or(nix::Error::EINVAL)?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses touches no
        // memory of this process.
        let start = unsafe { mmap(None, bytes, access, MapFlags::MAP_SHARED, map, 0) }?;
        // A child that the daemon starts runs another program at once, and copying the page
        // table of a large array for it takes milliseconds. Where the kernel refuses, it is
        // copied.
        // SAFETY: the mapping made above; for this process nothing changes.
        let _ = unsafe { madvise(start, length, MmapAdvise::MADV_DONTFORK) };
        // Pages are aligned to more than any `T`.
        debug_assert!(start.cast::<T>().is_aligned());
        Ok(Self {
            start: start.cast(),
            count,
            bytes,
        })
    }

    /// The values.
    pub(crate) fn slice(&self) -> &[T] {
        // SAFETY: `start` is the page-aligned beginning of a mapping of at least
        // `count` values, which lives as long as `self`; `Shared` makes every bit
        // pattern a value and every change by others an atomic one.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.count) }
    }
}

impl<T> Drop for Mapping<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping that `new` made; no slice of it outlives `self`.
        // Nothing is left to do if the kernel refuses.
        let _ = unsafe { munmap(self.start.cast(), self.bytes.get()) };
    }
}
