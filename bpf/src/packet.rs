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

/// Bytes from one of the packet's pointers to another. The compiler must not take it for
/// a difference of 32 bits: the verifier allows no half of a pointer.
#[inline(always)]
pub fn distance(from: usize, to: usize) -> u32 {
    let mut distance = to - from;
    // SAFETY: moves a register to itself.
    unsafe { asm!("{0} = {0}", inout(reg) distance) };
    distance as u32
}

/// `value`, unknown to the compiler.
#[inline(always)]
pub fn veiled(mut value: u32) -> u32 {
    // SAFETY: moves a register to itself.
    unsafe { asm!("{0} = {0}", inout(reg) value) };
    value
}

/// `value`, unknown to compiler and verifier alike. `noise` is anything loaded.
#[inline(always)]
pub fn opaque(value: u32, noise: u32) -> u32 {
    veiled(value ^ noise) ^ noise
}
