//! The frame's bytes.

use core::arch::asm;
use evenkeel_datapath::host::Window;

/// A part of the frame that was compared with the frame's end.
#[derive(Clone, Copy)]
pub struct Bytes(*mut u8);

/// `length` bytes at `offset` of the frame between `data` and `end`, if they are
/// there.
#[inline(always)]
pub fn window(data: usize, end: usize, offset: usize, length: usize) -> Option<Bytes> {
    let mut start = data + offset;
    // SAFETY: moves a register to itself. It keeps the compiler from merging the offset with
    // those of the accesses, which must use the very pointer that is compared here:
    // the verifier knows no other to be in bounds.
    unsafe { asm!("{0} = {0}", inout(reg) start) };
    if start + length > end {
        return None;
    }
    Some(Bytes(start as *mut u8))
}

macro_rules! access {
    ($($get:ident, $set:ident: $kind:ty;)+) => {
        $(#[inline(always)]
        fn $get(self, offset: usize) -> $kind {
            // SAFETY: inside the window, whose bounds were compared. It need not be
            // aligned: the kernels that Evenkeel runs on read such words whole.
            unsafe { *self.0.add(offset).cast() }
        }

        #[inline(always)]
        fn $set(self, offset: usize, value: $kind) {
            // SAFETY: as above.
            unsafe { *self.0.add(offset).cast() = value }
        })+
    };
}

impl Window for Bytes {
    access! {
        u8, set_u8: u8;
        u16, set_u16: u16;
        u32, set_u32: u32;
    }
}

/// `value`, unknown to compiler and verifier alike. `noise` is anything loaded.
#[inline(always)]
pub fn opaque(value: u32, noise: u32) -> u32 {
    let mut hidden = value ^ noise;
    // SAFETY: moves a register to itself.
    unsafe { asm!("{0} = {0}", inout(reg) hidden) };
    hidden ^ noise
}

/// [`evenkeel_datapath::host::Ledger`] over the maps.
#[macro_export]
macro_rules! ledger {
    ($($kernel:tt)+) => {
        impl evenkeel_datapath::host::Ledger for $($kernel)+ {
            #[inline(always)]
            fn service(&self, index: u32) -> Option<&Service> {
                $crate::maps::service(index)
            }
            #[inline(always)]
            fn server(&self, index: u32) -> Option<&Server> {
                $crate::maps::server(index)
            }
            #[inline(always)]
            fn ring(&self, index: u32) -> Option<&Word> {
                $crate::maps::ring(index)
            }
            #[inline(always)]
            fn load(&self, server: u32) -> Option<&Load> {
                $crate::maps::load(server)
            }
            #[inline(always)]
            fn compare_and_swap(&self, word: &Word, old: u32, new: u32) -> bool {
                $crate::maps::compare_and_swap(word, old, new)
            }
            #[inline(always)]
            fn add(&self, word: &Word, amount: u32) -> u32 {
                $crate::maps::add(word, amount)
            }
        }
    };
}

/// The part of [`evenkeel_datapath::host::Host`] that is the same for XDP and tc.
#[macro_export]
macro_rules! shared_memory {
    () => {
        #[inline(always)]
        fn tick(&self) -> u32 {
            $crate::maps::tick()
        }
        #[inline(always)]
        fn bucket_mask(&self) -> u32 {
            $crate::maps::bucket_mask()
        }
        #[inline(always)]
        fn wide_bucket_mask(&self) -> u32 {
            $crate::maps::wide_bucket_mask()
        }
        #[inline(always)]
        fn endpoint_mask(&self) -> u32 {
            $crate::maps::endpoint_mask()
        }
        #[inline(always)]
        fn wide_endpoint_mask(&self) -> u32 {
            $crate::maps::wide_endpoint_mask()
        }
        #[inline(always)]
        fn seed(&self) -> u64 {
            $crate::maps::seed()
        }
        #[inline(always)]
        fn control(&self) -> Option<&Control> {
            $crate::maps::control()
        }
        #[inline(always)]
        fn bucket(&self, index: u32) -> Option<&Bucket> {
            $crate::maps::bucket(index)
        }
        #[inline(always)]
        fn wide_bucket(&self, index: u32) -> Option<&WideBucket> {
            $crate::maps::wide_bucket(index)
        }
        #[inline(always)]
        fn addresses(&self) -> Option<&Addresses> {
            $crate::maps::addresses()
        }
        #[inline(always)]
        fn endpoints(&self, index: u32) -> Option<&EndpointBucket> {
            $crate::maps::endpoints(index)
        }
        #[inline(always)]
        fn wide_endpoints(&self, index: u32) -> Option<&WideEndpointBucket> {
            $crate::maps::wide_endpoints(index)
        }
        #[inline(always)]
        fn client_hop(&self, index: u32) -> Option<&ClientHop> {
            $crate::maps::client_hop(index)
        }
        #[inline(always)]
        fn counters(&self, server: u32) -> Option<&Counters> {
            $crate::maps::counters(server)
        }
        #[inline(always)]
        fn reasons(&self) -> Option<&Reasons> {
            $crate::maps::reasons()
        }
    };
}
